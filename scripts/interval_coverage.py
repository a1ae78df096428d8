"""How often do the intervals of `evaluate` contain the true mean?

Usage: python scripts/interval_coverage.py. The series are autoregressive, x[t] = phi x[t-1] +
noise; their true mean is 0.
"""

import argparse

import numpy as np

from lyricgen.evaluation.intervals import Floats, block_length, interval, resampled_totals


def autoregressive(length: int, phi: float, numbers: np.random.Generator) -> Floats:
    noise = numbers.normal(size=length)
    series = np.empty(length)
    series[0] = noise[0] / np.sqrt(1 - phi**2)  # the stationary distribution
    for t in range(1, length):
        series[t] = phi * series[t - 1] + noise[t]
    return series


def coverage(length: int, phi: float, series: int, resamples: int, seed: int) -> float:
    numbers = np.random.default_rng(seed)
    held = 0
    for number in range(series):
        values = autoregressive(length, phi, numbers)
        totals = resampled_totals(
            values[:, None], block_length(values), resamples=resamples, seed=number
        )
        low, high = interval(totals[:, 0] / length)
        held += low <= 0 <= high
    return held / series


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for length in (300, 1000, 3000, 10_000):
        for phi in (0.3, 0.5, 0.7, 0.8, 0.9):
            share = coverage(length, phi, options.series, options.resamples, options.seed)
            print(f"{length:6} characters, phi {phi}: {share:.3f}", flush=True)


if __name__ == "__main__":
    main()
