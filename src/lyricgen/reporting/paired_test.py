"""Means, sample standard deviations, and Student's paired t-test, over the seeds of runs.

n values of one kind, ν = n − 1 degrees of freedom.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

LEVEL = 0.05  # below this probability a difference counts as told apart


class Mean(NamedTuple):
    """Mean of n values and their sample standard deviation (over n − 1)."""

    value: float
    deviation: float | None  # there is none of a single value
    number: int


class Difference(NamedTuple):
    """How one kind of run differs from another.

    Attributes:
        value: the mean of the differences of pairs; where there is no pair, that of the means.
        p: of a difference as large by chance alone; None for fewer than two pairs, and for pairs
            that all differ by the same.
        pairs: their number.
    """

    value: float
    p: float | None
    pairs: int


def mean(values: Sequence[float]) -> Mean:
    """Mean and deviation of at least one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Mean(statistics.fmean(values), deviation, len(values))


def paired_test(differences: Sequence[float]) -> Difference:
    """Student's paired t-test, two-sided, on the differences of at least one pair."""
    value, deviation, number = mean(differences)
    # equal but for rounding: as of n-grams, which no seed changes
    if deviation is None or deviation <= 1e-12 * max(map(abs, differences)):
        return Difference(value, None, number)
    t = value / (deviation / math.sqrt(number))
    return Difference(value, two_sided_p(t, number - 1), number)


def two_sided_p(t: float, degrees: int) -> float:
    """The probability of a |t| at least as large, for a whole number ν of degrees of freedom.

    The finite series in θ = atan(t/√ν) of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan(abs(t) / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1 - inside)
