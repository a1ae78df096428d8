"""How large are the n-gram tables of a model, and how much of its text can be read out of them?

Usage: python scripts/ngram_tables.py CHECKPOINT, of model=hybrid or model=ngram. Its text must be
where it was in training. A walk begins at every start of a line in the tables and follows the
n-grams of the highest order until the line ends. It either stops where a context has several
continuations, or takes the likeliest one.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lyricgen.evaluation.memorisation import lines_of
from lyricgen.evaluation.scores import Evaluated, open_checkpoints
from lyricgen.models.ngram.left_out import leave_out, line_blocks, stream_blocks
from lyricgen.models.ngram.model import NgramCounts

BLOCKS = 5
LONGEST = 1000  # characters of a line, since a walk may go round in circles

Context = tuple[int, ...]


def decode_grams(keys: list[np.ndarray], width: int) -> np.ndarray:
    """Decode the symbols of the longest n-grams, (G_K, K); the keys hold nothing else."""
    symbols, number = [], np.arange(len(keys[-1]))
    for level in reversed(keys):
        number, symbol = np.divmod(level[number], width)
        symbols.append(symbol)
    return np.stack(symbols[::-1], axis=1)


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


def report(evaluated: Evaluated) -> None:
    model, train, size = (
        evaluated.model,
        evaluated.splits["train"],
        len(evaluated.corpus.vocabulary),
    )
    tensors = model.network.state_dict()
    pattern = re.compile(r"(?:ngram\.)?((?:keys|direct|passed)_\d)")
    tables = {
        found[1]: tensors[name].numpy() for name in tensors if (found := pattern.fullmatch(name))
    }
    order = len(tables) // 3
    keys = [tables[f"keys_{k}"] for k in range(1, order + 1)]
    ids = train.sound_ids.numpy()
    newline = evaluated.corpus.vocabulary.characters.find("\n")
    if train.line_starts is None:
        blocks = stream_blocks(ids, BLOCKS, newline)
    else:
        blocks = line_blocks(ids, BLOCKS, size)
    left_out = leave_out(NgramCounts(ids, size, order), order, ids, blocks)
    for name, arrays in ("checkpoint", tables.values()), ("training", left_out):
        total = sum(array.nbytes for array in arrays)
        print(f"tables, {name}: order {order}, {total:,} bytes, {total / len(ids):.1f} a character")

    followers: dict[Context, list[tuple[float, int]]] = {}
    grams = decode_grams(keys, size + 1).tolist()
    for gram, direct in zip(grams, tables[f"direct_{order}"].tolist(), strict=False):
        followers.setdefault(tuple(gram[:-1]), []).append((direct, gram[-1]))
    lines = lines_of(train, evaluated.corpus.vocabulary)
    for likeliest in (False, True):
        read = {
            "".join(evaluated.corpus.vocabulary.characters[symbol] for symbol in line)
            for line in read_lines(followers, {newline, size}, likeliest)
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
    report(evaluated)


if __name__ == "__main__":
    main()
