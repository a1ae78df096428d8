"""Perplexity, bits and loss of a model on a text, with intervals.

C characters in the text, n units that are drawn (characters or lines), R resamples.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from lyricgen.evaluation.bootstrap import Booleans, Floats, block_length, interval
from lyricgen.evaluation.scores import PartText
from lyricgen.models.metrics import perplexity

Draw = Callable[[Floats, int], Floats]  # units (n, S), block length -> totals (R, S)


class Series(NamedTuple):
    """Nats of one model on a part."""

    name: str
    kind: Literal["checkpoint", "mixture", "ngram", "unigram", "uniform"]
    nats: Floats  # (C,), nan where it predicts nothing


class Estimate(NamedTuple):
    """A figure and its 95 % interval, which there is none of where a single line is all."""

    value: float
    low: float | None
    high: float | None

    def map(self, function: Callable[[float], float]) -> "Estimate":
        """The estimate of a rising function of it."""
        low, high = (None if bound is None else function(bound) for bound in self[1:])
        return Estimate(function(self.value), low, high)


class Row(NamedTuple):
    """Figures of one model on the characters that it predicts."""

    series: Series
    characters: int
    bytes: int
    loss: Estimate
    bits_per_byte: Estimate
    block_length: int | None  # characters that were drawn together; None where lines were
    difference: Estimate | None  # of the loss to the first row's, on the characters of both

    @property
    def perplexity(self) -> Estimate:
        """exp(loss)."""
        return self.loss.map(perplexity)

    @property
    def bits_per_char(self) -> Estimate:
        """The loss over ln 2."""
        return self.loss.map(lambda nats: nats / math.log(2))

    @property
    def differs(self) -> bool | None:
        """Whether the interval of the difference leaves out 0."""
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return None
        return not self.difference.low <= 0 <= self.difference.high


def row(series: Series, first: Series, text: PartText, draw: Draw) -> Row:
    """The figures of one model, and its difference to the first one where that is another."""
    scored = ~np.isnan(series.nats)
    units, length = _units(text, scored, series.nats[scored], text.sizes[scored].astype(float))
    nats, sizes, characters = units.sum(axis=0)
    drawn = draw(units, length)  # (R, 3)
    bits = 1 / math.log(2)
    return Row(
        series,
        int(characters),
        int(sizes),
        _estimate(nats / characters, drawn[:, 0] / drawn[:, 2], units),
        _estimate(bits * nats / sizes, bits * drawn[:, 0] / drawn[:, 1], units),
        length if text.lines is None else None,
        None if series is first else _difference(series, first, text, draw),
    )


def _difference(series: Series, first: Series, text: PartText, draw: Draw) -> Estimate:
    """Interval of the difference of two models' losses, from the same draws."""
    more = series.nats - first.nats
    both = ~np.isnan(more)
    units, length = _units(text, both, more[both])
    nats, characters = units.sum(axis=0)
    drawn = draw(units, length)  # (R, 2)
    return _estimate(nats / characters, drawn[:, 0] / drawn[:, 1], units)


def _units(text: PartText, scored: Booleans, *quantities: Floats) -> tuple[Floats, int]:
    """Units to resample, (n, quantities + 1) with the number of characters last; block length."""
    columns = [*quantities, np.ones(len(quantities[0]))]
    if text.lines is None:
        return np.stack(columns, axis=1), block_length(quantities[0])
    lines = text.lines[scored]
    sums: Floats = np.stack([np.bincount(lines, each) for each in columns], axis=1)
    return sums[sums[:, -1] > 0], 1


def _estimate(value: float, drawn: Floats, units: Floats) -> Estimate:
    return Estimate(float(value), *(interval(drawn) if len(units) > 1 else (None, None)))
