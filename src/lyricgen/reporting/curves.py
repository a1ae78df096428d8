"""Learning curves, read from metrics.csv, and their means over runs.

P points of a curve, R runs.
"""

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

from lyricgen.console import progress
from lyricgen.reporting.comparison import HELD_OUT, Comparison
from lyricgen.reporting.paired_test import Mean, mean
from lyricgen.reporting.records import Record
from lyricgen.runs.record_files import RecordError, read_columns

log = logging.getLogger(__name__)

METRICS = "metrics.csv"

Points = dict[float, float]  # a figure by epoch or step


class Curves(NamedTuple):
    """The curves of the cells of a comparison.

    Attributes:
        metric: whose.
        unit: of the horizontal axis: steps where runs were validated within epochs.
        means: over the runs of each cell, by its rank from 0, as far as all of them go.
    """

    metric: str
    unit: str
    means: dict[int, dict[float, Mean]]


def read_curves(comparison: Comparison) -> Curves:
    """The held-out perplexity of every epoch of the runs that have a figure.

    A metrics.csv that cannot be read is left out, and a warning names it.
    """
    name = f"{comparison.prefix}perplexity"
    part = HELD_OUT.partition("/")[0]
    ranked = comparison.ranked
    runs = [run for cell in ranked for run in cell.scored.values()]
    if not any(f"{part}/{name}" in run.figures for run in runs):
        part = "train"
    metric = f"{part}/{name}"
    read: dict[int, tuple[Points, Points]] = {}
    with progress("reading learning curves", len(runs)) as moved:
        for number, run in enumerate(runs):
            read[id(run)] = _read(run, metric)
            moved(number + 1)
    within = any(len(by_epoch) < len(by_step) for by_epoch, by_step in read.values())
    means = {}
    for rank, cell in enumerate(ranked):
        curves = [read[id(run)][within] for run in cell.scored.values()]
        points = average([points for points in curves if points])
        if points:
            means[rank] = points
    return Curves(metric, "step" if within else "epoch", means)


def average(curves: Sequence[Points]) -> dict[float, Mean]:
    """Mean and deviation of R curves where all have a point."""
    if not curves:
        return {}
    common = set(curves[0]).intersection(*curves[1:])
    return {place: mean([points[place] for points in curves]) for place in sorted(common)}


def _read(run: Record, metric: str) -> tuple[Points, Points]:
    """A figure by epoch, the last of each, and by step; nothing of a damaged file."""
    path = run.directory / METRICS
    if not path.exists() and run.options.get("logger.csv") is False:
        return {}, {}
    try:
        columns = read_columns(path, ("epoch", "step", metric))
    except RecordError as error:
        log.warning("%s is left out: %s", path, error)
        return {}, {}
    epochs, steps, values = columns.values()
    places = [place for place, value in enumerate(values) if math.isfinite(value)]
    by_epoch = {epochs[place]: values[place] for place in places}
    return by_epoch, {steps[place]: values[place] for place in places}
