"""Intervals by resampling, against theory, loops and the rate at which they hold the truth."""

import math
import time
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from lyricgen.evaluation import intervals
from lyricgen.evaluation.intervals import (
    autocovariances,
    block_length,
    interval,
    resampled_totals,
)

Floats = npt.NDArray[np.float64]


def autoregressive(length: int, phi: float, seed: int) -> Floats:
    """A stationary AR(1) series of mean 0, by its definition."""
    noise = np.random.default_rng(seed).standard_normal(length)
    series = np.empty(length)
    series[0] = noise[0] / math.sqrt(1 - phi**2)
    for t in range(1, length):
        series[t] = phi * series[t - 1] + noise[t]
    return series


def mean_interval(values: Floats, length: int, resamples: int = 1000) -> tuple[float, float]:
    totals = resampled_totals(values[:, None], length, resamples=resamples, seed=0)
    return interval(totals[:, 0] / len(values))


@pytest.mark.parametrize("length", [1, 7, 20])
def test_independent_values_have_the_interval_of_the_normal_distribution(length: int) -> None:
    values = np.random.default_rng(5).gamma(2.0, 1.0, 5000)
    low, high = mean_interval(values, length, resamples=20_000)
    expected = 1.96 * values.std() / math.sqrt(len(values))
    assert values.mean() - low == pytest.approx(expected, rel=0.08)
    assert high - values.mean() == pytest.approx(expected, rel=0.08)


@pytest.mark.slow
def test_intervals_of_dependent_values_hold_the_mean_at_the_stated_rate() -> None:
    """Intervals of single values, drawn as if independent, hold the mean 59 times in a hundred.

    The standard error is sqrt(1.7 / 0.3) times that of independent values, and 1.96 over that is
    0.82 standard deviations.
    """
    held = [0, 0]
    for seed in range(300):
        values = autoregressive(6000, 0.7, seed)
        for index, length in enumerate((block_length(values), 1)):
            low, high = mean_interval(values, length, resamples=200)
            held[index] += low <= 0 <= high
    blocks, single = (number / 300 for number in held)
    assert blocks == pytest.approx(0.95, abs=0.035)  # 0.013 is the standard error of 300 draws
    assert single == pytest.approx(0.59, abs=0.08)


@pytest.mark.parametrize(("phi", "length"), [(0.5, 20_000), (0.7, 5000), (0.8, 20_000)])
def test_the_blocks_of_an_autoregression_have_the_length_of_theory(phi: float, length: int) -> None:
    """Politis and White's length (2 G² / D)^(1/3) n^(1/3) is here (6 φ² / (1 - φ²)² n)^(1/3)."""
    expected = (6 * phi**2 / (1 - phi**2) ** 2 * length) ** (1 / 3)
    found = [block_length(autoregressive(length, phi, seed)) for seed in range(20)]
    assert np.median(found) == pytest.approx(expected, rel=0.08)


def test_blocks_are_between_the_cube_root_and_a_third_of_the_text() -> None:
    for length in (1000, 8000):
        independent = np.random.default_rng(1).standard_normal(length)
        assert block_length(independent) == math.ceil(length ** (1 / 3))
    assert block_length(np.full(1000, 2.5)) == 10
    assert [block_length(np.arange(float(n))) for n in (1, 2, 3, 6)] == [1, 1, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 7, 40])
@pytest.mark.parametrize("length", [1, 3, 7, 100])
def test_totals_against_a_loop(monkeypatch: pytest.MonkeyPatch, size: int, length: int) -> None:
    monkeypatch.setattr(intervals, "_DRAWN", 9)  # several rounds
    units = np.random.default_rng(0).uniform(size=(size, 2))
    found = resampled_totals(units, length, resamples=5, seed=3)
    numbers, block = np.random.default_rng(3), min(length, size)
    at_once = max(1, 9 // (size // block + 1))
    for first in range(0, 5, at_once):
        rows = range(first, min(first + at_once, 5))
        starts = numbers.integers(size, size=(len(rows), size // block + 1))
        for row, own in zip(rows, starts, strict=True):
            drawn = [units[(start + i) % size] for start in own[:-1] for i in range(block)]
            drawn += [units[(own[-1] + i) % size] for i in range(size % block)]
            assert len(drawn) == size
            assert found[row] == pytest.approx(np.sum(drawn, axis=0), rel=1e-12)


def test_every_character_is_drawn_as_often_as_any_other() -> None:
    units = np.eye(30)  # the totals say how often each was drawn
    totals = resampled_totals(units, 7, resamples=20_000, seed=0)
    assert (totals.sum(axis=1) == 30).all()
    assert totals.mean(axis=0) == pytest.approx(np.ones(30), abs=0.05)


def test_the_seed_decides_the_draws() -> None:
    units = np.arange(50.0)[:, None]
    one, same, other = (resampled_totals(units, 4, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("length", [31, 32, 34, 200, 1000])
def test_autocovariances_against_sums(length: int) -> None:
    values = autoregressive(length, 0.8, seed=0) + 5
    centred = values - values.mean()
    expected = [float((centred[k:] * centred[: length - k]).sum()) / length for k in range(31)]
    assert autocovariances(values, 30) == pytest.approx(expected, abs=1e-12)


def test_a_million_characters_take_seconds_and_little_memory() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, 10**6)
    tracemalloc.start()
    start = time.perf_counter()
    totals = resampled_totals(
        np.stack([values, np.ones(10**6)], axis=1), block_length(values), resamples=1000, seed=0
    )
    seconds, (_, most) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert totals.shape == (1000, 2)
    assert seconds < 30
    assert most < 300e6
