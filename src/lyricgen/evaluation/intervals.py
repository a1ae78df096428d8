"""Perplexity, bits and loss of a model on a text, with intervals from resampling.

The nats of neighbouring characters depend on each other. Resampling single characters would ignore
this and give intervals that are too narrow. So a resample draws blocks of neighbours, which are
long enough to hold most of the dependence. From a list of lines it draws whole lines.

Sources: Künsch, Annals of Statistics 17(3), 1989 (blocks); Politis and Romano, in Exploring the
Limits of Bootstrap, 1992 (circular blocks, which draw every character equally often); Politis and
White, Econometric Reviews 23(1), 2004, with the correction of Patton, Politis and White, 28(4),
2009 (length of blocks); Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentiles).

Shapes: C characters of the text, n units (characters or lines), S quantities of a unit, R
resamples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lyricgen.data.options import Scope, Unit
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary, code_points
from lyricgen.models.metrics import perplexity

CONFIDENCE = 0.95
_DRAWN = 2**20  # approximate number of blocks drawn at once

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.integer]
Booleans: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SplitText:
    """The characters of a split, without start symbols."""

    ids: Integers  # (C,)
    sizes: Integers  # (C,) bytes of each character in UTF-8
    lines: Integers | None  # (C,) line number of each character in a list of lines; else None

    @classmethod
    def of(cls, split: Split, vocabulary: Vocabulary, unit: Unit) -> "SplitText":
        """Take the characters of a split, with their lines if `unit` is "line"."""
        ids = split.sound_ids.numpy()
        ids = ids if split.line_starts is None else ids[ids < len(vocabulary)]
        lines = None
        if unit == "line":
            stops = ids == int(vocabulary.encode("\n"))
            lines = np.cumsum(stops) - stops
        return cls(ids, utf8_sizes(vocabulary.characters)[ids], lines)

    def in_blocks(self) -> "SplitText":
        """Make a text whose resamples draw blocks of characters, since its lines depend."""
        return replace(self, lines=None)

    @property
    def num_lines(self) -> int | None:
        """Number of lines; None for running text."""
        return None if self.lines is None else int(self.lines[-1]) + 1


def utf8_sizes(characters: str) -> Integers:
    """Return the number of UTF-8 bytes of each character, (number of characters,)."""
    codes = code_points(characters)
    return (1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF)).astype(np.uint8)


Kind = Literal["checkpoint", "ensemble", "mixture", "ngram", "unigram", "uniform"]
KindWithMemory = Literal["compressor", "memory", "dynamic", "dynamic_memory"]


class Series(NamedTuple):
    """Nats of one model on a split."""

    name: str
    kind: Kind
    nats: Floats  # (C,), nan where the model predicts nothing


class Estimate(NamedTuple):
    """A figure and the ends of its 95 % interval, which are None for a single line or character."""

    value: float
    low: float | None
    high: float | None

    def map(self, function: Callable[[float], float]) -> "Estimate":
        """Apply a rising function to the figure and its interval."""
        low, high = (None if bound is None else function(bound) for bound in self[1:])
        return Estimate(function(self.value), low, high)


@dataclass(frozen=True)
class LossFigures:
    """Loss of one model on a split, and the figures that follow from it."""

    characters: int
    loss: Estimate

    @property
    def perplexity(self) -> Estimate:
        """Perplexity, exp(loss)."""
        return self.loss.map(perplexity)

    @property
    def bits_per_char(self) -> Estimate:
        """Bits per character, loss / ln 2."""
        return self.loss.map(lambda nats: nats / math.log(2))


@dataclass(frozen=True)
class Row(LossFigures):
    """Figures of one model with fixed weights on the characters that it predicts."""

    series: Series
    bytes: int
    bits_per_byte: Estimate
    block_length: int | None  # characters drawn together; None if lines were drawn
    # loss minus that of the first model, on characters that both predict; None for this first model
    difference: Estimate | None

    @property
    def differs(self) -> bool | None:
        """Whether the interval of the difference excludes 0; None without this interval."""
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return None
        return not self.difference.low <= 0 <= self.difference.high


@dataclass(frozen=True)
class RowWithMemory(LossFigures):
    """Figures of one model that learns as it reads the split; its loss may lack an interval."""

    name: str
    kind: KindWithMemory
    note: str  # how it was scored, for people
    order: int | None = None  # of a compressor
    scope: Scope | None = None  # of a memory
    reach: int | None = None  # characters that a memory holds at most
    block_length: int | None = None  # as in `Row`
    nats: Floats | None = None  # (C,), nan where the model predicts nothing; None if unknown


def row(series: Series, first: Series, text: SplitText, *, resamples: int, seed: int) -> Row:
    """Compute the figures of one model, and its loss minus the loss of `first`.

    Each interval comes from `resamples` texts, drawn with `seed`. The two models must predict some
    of the same characters. There is no difference if `series` is `first`.
    """
    scored = ~np.isnan(series.nats)
    units, length = _units(text, scored, series.nats[scored], text.sizes[scored].astype(float))
    nats, sizes, characters = units.sum(axis=0)
    drawn = resampled_totals(units, length, resamples=resamples, seed=seed)  # (R, 3)
    difference = None
    if series is not first:
        more = series.nats - first.nats
        both = ~np.isnan(more)
        pairs, pair_length = _units(text, both, more[both])
        totals = resampled_totals(pairs, pair_length, resamples=resamples, seed=seed)  # (R, 2)
        more_nats, number = pairs.sum(axis=0)
        difference = _estimate(more_nats / number, totals[:, 0] / totals[:, 1], pairs)
    bits = 1 / math.log(2)
    return Row(
        int(characters),
        _estimate(nats / characters, drawn[:, 0] / drawn[:, 2], units),
        series,
        int(sizes),
        _estimate(bits * nats / sizes, bits * drawn[:, 0] / drawn[:, 1], units),
        length if text.lines is None else None,
        difference,
    )


def _units(text: SplitText, scored: Booleans, *quantities: Floats) -> tuple[Floats, int]:
    """Sum the quantities of the scored characters in each unit, a line or a character.

    Args:
        text: its lines are the units, or its characters if it has no lines.
        scored: (C,) whether each character is scored.
        quantities: arrays with a value for each scored character.

    Returns:
        The sums, (n, S), with the number of characters last; and the block length. A line without
        scored characters is left out.
    """
    columns = [*quantities, np.ones(len(quantities[0]))]
    if text.lines is None:
        return np.stack(columns, axis=1), block_length(quantities[0])
    lines = text.lines[scored]
    sums: Floats = np.stack([np.bincount(lines, each) for each in columns], axis=1)
    return sums[sums[:, -1] > 0], 1


def _estimate(value: float, drawn: Floats, units: Floats) -> Estimate:
    return Estimate(float(value), *(interval(drawn) if len(units) > 1 else (None, None)))


def resampled_totals(units: Floats, block_length: int, *, resamples: int, seed: int) -> Floats:
    """Resample a text in blocks, and sum the quantities of each resample: (R, S).

    Args:
        units: (n, S) quantities of each unit of the text; a resample has n units, too.
        block_length: number of units drawn together; 1 for independent units. A block that reaches
            the end of the text continues at its start. The last block is shortened to fit.
        resamples: R, the number of resamples.
        seed: seed of the draws; equal n, block lengths and seeds draw the same places.
    """
    length = min(block_length, len(units))
    blocks, rest = divmod(len(units), length)
    whole, remainder = _window_sums(units, length), _window_sums(units, rest)  # (n, S)
    numbers = np.random.default_rng(seed)
    totals = np.empty((resamples, units.shape[1]))
    at_once = max(1, _DRAWN // (blocks + 1))
    for first in range(0, resamples, at_once):
        rows = totals[first : first + at_once]
        starts = numbers.integers(len(units), size=(len(rows), blocks + 1))
        rows[:] = whole[starts[:, :-1]].sum(axis=1) + remainder[starts[:, -1]]
    return totals


def _window_sums(units: Floats, length: int) -> Floats:
    """Circular sums over `length` consecutive units, (n, S)."""
    if length <= 1:
        return units * length
    around = np.concatenate([np.zeros_like(units[:1]), units, units[: length - 1]])
    sums = around.cumsum(axis=0)
    windows: Floats = sums[length:] - sums[:-length]
    return windows


def interval(values: Floats) -> tuple[float, float]:
    """Find the ends of the middle 95 % of the resampled `values`, (R,)."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def block_length(values: Floats) -> int:
    """Choose the length of blocks for a series, (n,), by the estimate of Politis and White.

    The result is at least n^(1/3) and at most min(3√n, n/3), both rounded up; it is 1 for n below
    4. The estimate stops at the first stretch of lags without a visible autocorrelation. So it
    overlooks longer dependences, as between the lines of a song. The lower limit makes up for this,
    since it grows with n as the best length does.
    """
    n = len(values)
    most = math.ceil(min(3 * math.sqrt(n), n / 3))
    return max(1, min(max(math.ceil(math.cbrt(n)), math.ceil(_politis_white(values))), most))


def _politis_white(values: Floats) -> float:
    n = len(values)
    stretch = max(5, math.ceil(math.sqrt(math.log10(max(n, 2)))))
    lags = min(math.ceil(math.sqrt(n)) + stretch, n - 1)
    covariance = autocovariances(values, lags)  # (1 + lags,)
    if lags < stretch or covariance[0] <= 1e-12 * max(1.0, float(np.mean(values) ** 2)):
        return 1.0
    visible = np.abs(covariance[1:]) >= 2 * math.sqrt(math.log10(n) / n) * covariance[0]
    quiet = ~np.lib.stride_tricks.sliding_window_view(visible, stretch).any(axis=1)
    last = int(quiet.argmax()) if quiet.any() else int(np.flatnonzero(visible)[-1]) + 1
    lag = np.arange(1, min(2 * max(last, 1), lags) + 1)
    # weights are flat for half of the lags, then fall to 0 (Politis and Romano 1995)
    weighted = 2 * np.minimum(1, 2 * (1 - lag / lag[-1])) * covariance[lag]
    slope, spectrum = float(weighted @ lag), float(covariance[0] + weighted.sum())
    if spectrum <= 0:
        return 1.0
    return float((1.5 * (slope / spectrum) ** 2 * n) ** (1 / 3))


def autocovariances(values: Floats, lags: int) -> Floats:
    """Compute autocovariances at lags 0 to `lags`, (1 + lags,): sums of products divided by n."""
    width = 1 << (len(values) + lags).bit_length()  # so wide that nothing wraps around
    power = np.abs(np.fft.rfft(values - values.mean(), width)) ** 2
    products: Floats = np.fft.irfft(power, width)[: lags + 1]
    return products / len(values)
