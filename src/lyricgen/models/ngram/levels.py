"""Levels of an n-gram model: the terms of its distributions by rows, one row for each context.

Shapes: V vocabulary, R rows of a level, E entries in all of them.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lyricgen.models.ngram.model import Floats, NgramModel, Numbers


@dataclass(frozen=True)
class Level:
    """Distributions of one order k, as the terms of p_k = direct + passed · p_{k-1}.

    Row r is a context, of the whole text or without one block.

    Attributes:
        first: (R + 1,) entries of row r are those from first[r] to first[r + 1] - 1.
        symbols: (E,) symbol of each entry; other symbols have direct = 0.
        direct: (E,) share of the entry's symbol.
        passed: (R,) share of p_{k-1}.
        shorter: (R,) row of the context without its oldest symbol, in the level below.
    """

    first: Numbers
    symbols: Numbers
    direct: Floats
    passed: Floats
    shorter: Numbers

    def entry_rows(self) -> Numbers:
        """Find the row of each entry, (E,)."""
        return np.repeat(np.arange(len(self.passed)), np.diff(self.first))

    def fold(self, classes: Numbers) -> "Level":
        """Make a level whose symbols are the classes of the symbols, (V,)."""
        size = int(classes.max()) + 1
        keys = self.entry_rows() * size + classes[self.symbols]
        keys, entry = np.unique(keys, return_inverse=True)
        row, symbols = np.divmod(keys, size)
        first = np.append(0, np.cumsum(np.bincount(row, minlength=len(self.passed))))
        direct: Any = np.bincount(entry, self.direct, len(keys))
        return replace(self, first=first, symbols=symbols, direct=direct)


def whole_levels(model: NgramModel) -> list[Level]:
    """Make the levels of an n-gram model; row r of level k is the context with the number r."""
    width, levels = model.grams.vocabulary_size + 1, list[Level]()
    below = np.zeros(0, dtype=np.int64)  # keys of the grams one symbol shorter
    shorter = np.zeros(1, dtype=np.int64)  # of each context, the number without its oldest symbol
    for keys, (direct, passed) in zip(model.grams.keys, model.terms, strict=False):
        context, symbols = np.divmod(keys, width)
        predicted = symbols < width - 1
        sizes = np.bincount(context[predicted], minlength=len(shorter))
        first = np.append(0, np.cumsum(sizes))
        levels.append(
            Level(first, symbols[predicted], direct[:-1][predicted], passed[:-1], shorter)
        )
        longer = np.searchsorted(below, shorter[context] * width + symbols)
        below, shorter = keys, longer if len(below) else np.zeros_like(keys)
    return levels


def join(one: list[Level], other: list[Level]) -> list[Level]:
    """Append the rows of other levels to the first levels."""
    rows = [0, *(len(level.passed) for level in one)]
    return [
        Level(
            np.append(a.first, a.first[-1] + b.first[1:]),
            np.append(a.symbols, b.symbols),
            np.append(a.direct, b.direct),
            np.append(a.passed, b.passed),
            np.append(a.shorter, b.shorter + below),
        )
        for a, b, below in zip(one, other, rows, strict=False)
    ]
