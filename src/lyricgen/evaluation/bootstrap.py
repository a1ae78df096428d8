"""Intervals by resampling: blocks of neighbouring characters, or whole lines.

The nats of neighbouring characters depend on each other: after the first character of a word the
next is easy, and a chorus is easy as a whole. Resampling single characters would break that up
and give intervals that are too narrow, so blocks of neighbours are drawn instead, long enough that
what depends on each other mostly stays together.

Sources: Künsch, Annals of Statistics 17(3), 1989 (blocks); Politis and Romano, in Exploring the
Limits of Bootstrap, 1992 (circular ones, in which every character is drawn as often); Politis and
White, Econometric Reviews 23(1), 2004, with the correction of Patton, Politis and White, 28(4),
2009 (their length); Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentiles).

n units, which are characters or lines; S quantities of each; R resamples.
"""

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Booleans: TypeAlias = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
_DRAWN = 2**20  # blocks that are drawn at once
_CHUNK = 2**17  # units whose products with those after them are summed at once


def resampled_totals(units: Floats, block_length: int, *, resamples: int, seed: int) -> Floats:
    """Totals of texts as long as this one, put together from random blocks of it.

    Args:
        units: (n, S) what each unit adds.
        block_length: units that are drawn together; 1 where units do not depend on each other.
            A block that reaches the end goes on at the start. The last one is cut to fit.
        resamples: R.
        seed: of the draws; the same places are drawn for texts of the same length.

    Returns:
        (R, S).
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


def interval(values: Floats) -> tuple[float, float]:
    """Between which values the middle 95 % of (R,) resampled ones lie."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def block_length(values: Floats) -> int:
    """The length of blocks for a series, (n,): Politis and White's, and n^(1/3) at least.

    Theirs minimises the error of the estimated variance, as far as the autocorrelation tells; its
    estimate looks no further than the first stretch of lags without a correlation to be seen. The
    best length grows as n^(1/3), so that this is a floor: longer dependences, of songs say, are
    too faint in the correlations of single characters.
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
    # a window flat up to a half, then falling to 0 (Politis and Romano 1995)
    weighted = 2 * np.minimum(1, 2 * (1 - lag / lag[-1])) * covariance[lag]
    slope, spectrum = float(weighted @ lag), float(covariance[0] + weighted.sum())
    if spectrum <= 0:
        return 1.0
    return float((1.5 * (slope / spectrum) ** 2 * n) ** (1 / 3))


def autocovariances(values: Floats, lags: int) -> Floats:
    """At lags 0 … lags, (1 + lags,): sums of products over n, not over their number."""
    centred = values - values.mean()
    total = np.zeros(lags + 1)
    for first in range(0, len(values), _CHUNK):
        head = centred[first : first + _CHUNK]
        tail = centred[first : first + len(head) + lags]
        width = 1 << (2 * len(head) + lags).bit_length()  # nothing wraps around
        product = np.conj(np.fft.rfft(head, width)) * np.fft.rfft(tail, width)
        total += np.fft.irfft(product, width)[: lags + 1]
    return total / len(values)


def _window_sums(units: Floats, length: int) -> Floats:
    """Circular sums over `length` consecutive units, (n, S)."""
    if length == 0:
        return np.zeros_like(units)
    if length == 1:
        return units
    around = np.concatenate([np.zeros_like(units[:1]), units, units[: length - 1]])
    sums = around.cumsum(axis=0)
    windows: Floats = sums[length:] - sums[:-length]
    return windows
