"""How large are the n-gram tables of a model, and how much of its text can be read out of them?

Usage: python scripts/ngram_tables.py CHECKPOINT, of model=hybrid or model=ngram. Its text must be
where it was in training. A walk begins at every start of a line in the tables and follows the
n-grams of the highest order until the line ends. It either stops where a context has several
continuations, or takes the likeliest one.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lyricgen.evaluation.memorisation import collect_lines
from lyricgen.evaluation.scores import CheckpointWithText, open_checkpoints
from lyricgen.models.ngram.left_out import line_blocks, stream_blocks
from lyricgen.models.ngram.levels import Level
from lyricgen.models.ngram.model import NgramCounts
from lyricgen.models.ngram.training_tables import TrainingTables

BLOCKS = 10
LONGEST = 1000  # characters of a line, since a walk may go round in circles

Context = tuple[int, ...]


def size_of(value: Any) -> int:
    """Add up the bytes of all arrays in a value."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return int(value.nbytes)
    value = vars(value) if isinstance(value, Level | TrainingTables) else value
    if isinstance(value, dict):
        value = list(value.values())
    return sum(map(size_of, value)) if isinstance(value, list | tuple) else 0


def report_sizes(evaluated: CheckpointWithText, ngram: Any) -> None:
    size, order = ngram.vocabulary_size, ngram.architecture.order
    ids = evaluated.splits["train"].sound_ids.numpy()
    newline = evaluated.corpus.vocabulary.characters.find("\n")
    if ngram.architecture.start_symbol:
        blocks = line_blocks(ids, BLOCKS, size)
    else:
        blocks = stream_blocks(ids, BLOCKS, newline)
    sizes = {"in a checkpoint": size_of(dict(ngram.state_dict()))}
    for name in ("mixture", "product"):
        made = TrainingTables(
            *(ngram, NgramCounts(ids, size, order), ids, blocks, 0, None),
            with_distributions=name == "product",
        )
        sizes[f"for training a {name}"] = size_of(made)
    for name, total in sizes.items():
        print(f"tables {name}: order {order}, {total:,} bytes, {total / len(ids):.1f} a character")


def followers_of(ngram: Any) -> dict[Context, list[tuple[float, int]]]:
    """Find the share and the symbol of each continuation of the longest contexts."""
    order, tables = ngram.architecture.order, ngram.state_dict()
    symbols, number = [], torch.arange(len(tables[f"keys_{order}"]))
    for k in range(order, 0, -1):
        keys = tables[f"keys_{k}"][number]
        symbols.append(keys % (ngram.vocabulary_size + 1))
        number = keys // (ngram.vocabulary_size + 1)
    found: dict[Context, list[tuple[float, int]]] = {}
    grams = torch.stack(symbols[::-1], dim=1).tolist()
    for gram, share in zip(grams, tables[f"direct_{order}"][:-1].tolist(), strict=True):
        found.setdefault(tuple(gram[:-1]), []).append((share, gram[-1]))
    return found


def read_lines(
    followers: dict[Context, list[tuple[float, int]]], marks: set[int], likeliest: bool
) -> Iterator[Context]:
    """Walk from every start of a line; `marks` are the symbols that end or begin a line."""
    for start in followers:
        if start[0] not in marks:
            continue
        context, line = start, start[1:]
        while not marks.intersection(line) and len(line) < LONGEST:
            choices = followers.get(context, [])
            if len(choices) != 1 and not (likeliest and choices):
                break
            symbol = max(choices)[1]
            line, context = (*line, symbol), (*context[1:], symbol)
        ends = [place for place, symbol in enumerate(line) if symbol in marks]
        if ends:
            yield line[: ends[0]]


def report_lines(evaluated: CheckpointWithText, ngram: Any) -> None:
    vocabulary, followers = evaluated.corpus.vocabulary, followers_of(ngram)
    lines = collect_lines(evaluated.splits["train"], vocabulary)
    marks = {vocabulary.characters.find("\n"), len(vocabulary)}
    for likeliest in (False, True):
        read = {
            "".join(vocabulary.characters[symbol] for symbol in line)
            for line in read_lines(followers, marks, likeliest)
        }
        right = read & lines
        share = sum(map(len, right)) / sum(map(len, lines))
        print(
            f"{'likeliest' if likeliest else 'only'} continuations: {len(right):,} of "
            f"{len(lines):,} distinct lines, {len(right) / len(lines):.1%}, with {share:.1%} of "
            f"their characters; {len(read - right - {''}):,} lines that are not in the text"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    [evaluated] = open_checkpoints([parser.parse_args().checkpoint])
    network = evaluated.model.network
    ngram = getattr(network, "ngram", network)
    report_sizes(evaluated, ngram)
    report_lines(evaluated, ngram)


if __name__ == "__main__":
    main()
