"""Memorisation: how much of a model's texts, and of held-out ones, stands in the training split.

N characters of a text, V vocabulary.
"""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

import numpy as np

from lyricgen.console import progress
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.evaluation.shared_ngrams import SharedNgrams
from lyricgen.generation.texts import generate_texts
from lyricgen.models.ngram.counts import Ids
from lyricgen.models.trained_model import TrainedModel

NGRAMS = range(4, 13)
DISTINCT = (1, 2, 3)
HELD_OUT = ("val", "test")
# What training logs of the texts that `callbacks.samples` draws.
LOGGED_LINES = "samples/copied_fraction"
LOGGED_NGRAMS = {n: f"samples/copied_ngrams_{n}" for n in (4, 8, 12)}
LOGGED_LONGEST = "samples/longest_copied"
LOGGED_IN_HELD_OUT = "samples/in_held_out"
LOGGED_DISTINCT = "samples/distinct_2"

READINGS = 16  # of the training split, about
TEXTS, TEXT = 64, 250  # texts that are drawn, and their characters
NAMES, NAME = 1000, 100  # the same of names


@dataclass(frozen=True)
class Overlap:
    """Overlap of texts with the training split."""

    texts: int  # number of them
    characters: int  # in all of them
    ngrams: dict[int, float]  # by n, the share of their n-grams that stands there; if any
    longest: int  # characters of their longest run that stands there


@dataclass(frozen=True)
class Names:
    """Comparison of whole generated names with the names of the corpus."""

    whole: int  # number of names that have come to their end; the shares are of these
    in_train: float  # share of names of the training split
    in_held_out: float | None  # share of names of the validation and test splits; None without
    distinct: float  # share that is left when equal names are counted once
    distinct_ngrams: dict[int, float]  # by n, distinct n-grams over all n-grams


@dataclass(frozen=True)
class Memorisation:
    """Memorisation figures of a model.

    The held-out splits, which it has never seen, show what any text of this kind has in common with
    the training split.
    """

    generated: Overlap  # of texts drawn from the model
    held_out: Overlap | None  # of the validation and test splits; None without
    names: Names | None  # None for running text
    temperature: float  # of the drawing
    seed: int


def measure_checkpoint(
    evaluated: Evaluated, count: int | None, temperature: float, seed: int
) -> Memorisation:
    """Measure a checkpoint as `measure` does; a count of None is 1,000 names or 64 texts."""
    model, usual, length = evaluated.model, TEXTS, TEXT
    if model.layout == "lines":
        usual, length = NAMES, max(NAME, model.default_length)
    count = usual if count is None else count
    return measure(
        model, evaluated.splits, count=count, length=length, temperature=temperature, seed=seed
    )


def measure(
    model: TrainedModel,
    splits: dict[str, Split],
    *,
    count: int,
    length: int,
    temperature: float,
    seed: int,
) -> Memorisation:
    """Draw texts from nothing, in one batch, and compare them with the splits of the corpus.

    Args:
        model: continues texts.
        splits: "train", and "val" and "test" where there are such splits.
        count: texts.
        length: characters of each at most.
        temperature: of the drawing.
        seed: of the drawing.

    Raises:
        UserError: the model fills gaps.
    """
    if model.fills_gaps:
        raise UserError("this model fills gaps: most of what it writes was given, not remembered")
    size = len(model.vocabulary)
    drawn = generate_texts(
        model, [""], count=count, length=length, temperature=temperature, seed=seed
    )
    generated = [model.vocabulary.encode(text).numpy() for text in drawn]
    held_out = [text for name in HELD_OUT if name in splits for text in texts_of(splits[name])]
    whole = [text for text in drawn if len(text) < length]
    train = splits["train"].sound_ids.numpy()
    with progress("looking for copied runs", READINGS * len(train)) as moved:
        shared = SharedNgrams(train, size + 1, moved)
        return Memorisation(
            generated=copied(shared, generated),
            held_out=copied(shared, held_out) if held_out else None,
            names=names(whole, splits, model.vocabulary) if model.layout == "lines" else None,
            temperature=temperature,
            seed=seed,
        )


def copied(shared: SharedNgrams, texts: Sequence[Ids], lengths: Sequence[int] = NGRAMS) -> Overlap:
    """Compare texts, (N_i,) ids each, with the training split; n-grams stay within a text."""
    found = shared.find(texts, lengths)
    return Overlap(
        texts=len(texts),
        characters=sum(map(len, texts)),
        ngrams={n: float(there.mean()) for n, there in found.items() if len(there)},
        longest=shared.longest(texts),
    )


def distinct_ngrams(texts: Sequence[Ids], n: int) -> float | None:
    """Distinct n-grams over all n-grams, distinct-n of Li et al. (2016); None without n-grams."""
    windows = [np.lib.stride_tricks.sliding_window_view(t, n) for t in texts if len(t) >= n]
    if not windows:
        return None
    every = np.concatenate(windows)
    return len(np.unique(every, axis=0)) / len(every)


def names(generated: list[str], splits: dict[str, Split], vocabulary: Vocabulary) -> Names | None:
    """Compare whole generated names with the names of the corpus; None if nothing was generated."""
    if not generated:
        return None
    held_out = held_out_names(splits, vocabulary)
    ids = [vocabulary.encode(name).numpy() for name in generated]
    return Names(
        whole=len(generated),
        in_train=share_in(generated, lines_of(splits["train"], vocabulary)),
        in_held_out=share_in(generated, held_out) if held_out else None,
        distinct=len(set(generated)) / len(generated),
        distinct_ngrams={n: share for n in DISTINCT if (share := distinct_ngrams(ids, n))},
    )


def texts_of(split: Split) -> list[Ids]:
    """A split as texts to compare: itself, or its lines without their newlines."""
    ids = split.sound_ids.numpy()
    if split.line_starts is None:
        return [ids]
    lines: list[Ids] = np.split(ids, split.line_starts.numpy()[1:])
    return [line[1:-1] for line in lines]  # between the start symbol and the newline


def lines_of(split: Split, vocabulary: Vocabulary) -> frozenset[str]:
    """The distinct lines of a split, none of them empty."""
    return frozenset(line for line in split.text(vocabulary).split("\n") if line)


def held_out_names(splits: dict[str, Split], vocabulary: Vocabulary) -> frozenset[str]:
    """The distinct lines of the validation and test splits."""
    held_out = (lines_of(splits[name], vocabulary) for name in HELD_OUT if name in splits)
    return frozenset(line for lines in held_out for line in lines)


def share_in(lines: Collection[str], known: Set[str]) -> float:
    """Share of some lines, at least one, that are known."""
    return sum(line in known for line in lines) / len(lines)
