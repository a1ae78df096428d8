"""Plots of a comparison: learning curves, figure against cost, heat map, importance of settings."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lyricgen.console import format_figure, progress
from lyricgen.errors import UserError, escape_line
from lyricgen.evaluation.style import legible_ink
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.plot_style import (
    INK,
    LINE,
    MUTED,
    SERIES,
    SIZE,
    add_legend,
    new_plot,
    set_scale,
)
from lyricgen.reporting.ranking import DEFAULT_METRIC, choose_sign
from lyricgen.reporting.records import ABSENT, Record, format_value
from lyricgen.reporting.tables import make_title
from lyricgen.runs.directories import METRICS
from lyricgen.runs.record_files import RecordError, read_columns
from lyricgen.runs.summary import perplexity_name
from lyricgen.settings import Value

log = logging.getLogger(__name__)

MOST_LINES = 60  # largest number of curves in one plot
MOST_VALUES = 20  # largest number of rows or columns of a heat map
HEAT = "viridis_r"
NGRAM = "val/ngram_perplexity"


class LearningCurves(NamedTuple):
    """Learning curves of the groups of a comparison.

    Attributes:
        metric: name of the figure.
        unit: unit of the horizontal axis: step if runs were validated within epochs, else epoch.
        means: mean and standard deviation over the runs of each group, by the group's rank from 0.
            The rows are the epochs or steps that all runs of the group share; a group without rows
            is left out.
    """

    metric: str
    unit: str
    means: dict[int, pd.DataFrame]


def read_curves(comparison: Comparison) -> LearningCurves:
    """Read the learning curves of the ranked groups, averaged over the runs of each group.

    The figure is the held-out perplexity, or the training perplexity if no run has a held-out
    perplexity. An unreadable metrics.csv is left out, and a warning names it.
    """
    name = f"{comparison.prefix}perplexity"
    split = DEFAULT_METRIC.partition("/")[0]
    runs = [
        (rank, run) for rank, each in enumerate(comparison.ranked) for run in each.scored.values()
    ]
    if not any(f"{split}/{name}" in run.figures for _, run in runs):
        split = "train"
    metric = f"{split}/{name}"
    tables = []
    with progress("reading learning curves", len(runs)) as moved:
        for number, (_, run) in enumerate(runs, 1):
            tables.append(_read(run, metric))
            moved(number)
    unit = _choose_unit(tables)
    curves: dict[int, list[pd.Series[float]]] = {}
    for (rank, _), table in zip(runs, tables, strict=True):
        if len(table):
            curves.setdefault(rank, []).append(table.groupby(unit)[metric].last())  # sorted
    means = {}
    for rank, each in curves.items():
        common = pd.concat(each, axis=1, join="inner")
        if len(common):  # runs validated within epochs may share no step
            means[rank] = pd.DataFrame({"mean": common.mean(axis=1), "std": common.std(axis=1)})
    return LearningCurves(metric, unit, means)


def _read(run: Record, metric: str) -> pd.DataFrame:
    """Read a figure of a run with its epochs and steps; no rows without a sound metrics.csv."""
    path = run.directory / METRICS
    columns: dict[str, list[float]] = {name: [] for name in ("epoch", "step", metric)}
    if path.exists() or run.options.get("logger.csv") is not False:
        try:
            columns = read_columns(path, list(columns))
        except RecordError as error:
            log.warning("%s is left out: %s", path, error)
    table = pd.DataFrame(columns, dtype=float).replace([math.inf, -math.inf], math.nan)
    return table.dropna(subset=[metric])


def _choose_unit(tables: Iterable[pd.DataFrame]) -> str:
    within = any(table["epoch"].nunique() < table["step"].nunique() for table in tables)
    return "step" if within else "epoch"


def plot_curves(comparison: Comparison, curves: LearningCurves) -> Figure:
    """Plot the mean of each of the best `MOST_LINES` groups in a band of one standard deviation."""
    figure, axes = new_plot(f"{make_title(curves.metric)} by {curves.unit}")
    lines: dict[str, Any] = {}
    heights: list[float] = []
    plotted = dict(list(curves.means.items())[:MOST_LINES])
    for rank, points in plotted.items():
        colour, order = _colour(rank), 2 + (rank < len(SERIES))
        means, deviations = points["mean"], points["std"].fillna(0.0)
        style = {"marker": "o", "markersize": 3} if len(points) < 3 else {}
        [line] = axes.plot(points.index, means, color=colour, zorder=order, linewidth=1.6, **style)  # type: ignore[arg-type]
        heights.extend(means)
        if deviations.any():
            low, high = (means - deviations).clip(lower=1.0), means + deviations
            axes.fill_between(points.index, low, high, color=colour, alpha=0.18, linewidth=0)
        lines.setdefault(_label(comparison, rank, plotted), line)
    # the perplexity of n-gram models, if it is equal in all runs with figures
    ngrams = {round(run.figures.get(NGRAM, 0.0), 6) for run in comparison.records if run.figures}
    ngram = ngrams.pop() if comparison.metric == DEFAULT_METRIC and len(ngrams) == 1 else 0.0
    _finish_curves(axes, curves.unit, lines, heights, ngram)
    return figure


def _finish_curves(
    axes: Axes, unit: str, lines: dict[str, Any], heights: list[float], ngram: float
) -> None:
    """Add the line of the n-gram model unless its perplexity is 0, scales and a legend."""
    if ngram:
        style: dict[str, Any] = {"color": MUTED, "linestyle": (0, (4, 3)), "linewidth": 1.2}
        lines["n-gram model"] = axes.axhline(ngram, **style)
        heights.append(ngram)
    set_scale(axes, "y", heights)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel(unit)
    add_legend(axes.get_figure(root=True), list(lines.values()), list(lines))  # type: ignore[arg-type]


def plot_run(run: Record) -> Figure:
    """Plot the training and held-out perplexity of a run, with that of the n-gram model.

    Raises:
        UserError: the run has no curve yet, or no metrics.csv.
    """
    name = perplexity_name(run.figures)
    tables = {split: _read(run, f"{split}/{name}") for split in ("train", "val")}
    tables = {split: table for split, table in tables.items() if len(table)}
    if not tables:
        raise UserError(f"{str(run.directory)!r} has no curve: train for an epoch, with logger.csv")
    unit = _choose_unit(tables.values())
    figure, axes = new_plot(f"{make_title(name)} by {unit}")
    lines: dict[str, Any] = {}
    for table, colour in zip(tables.items(), SERIES, strict=False):
        split, rows = table
        style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(rows) < 3 else {}
        [lines[split]] = axes.plot(rows[unit], rows[f"{split}/{name}"], color=colour, **style)
    found = [height for split, rows in tables.items() for height in rows[f"{split}/{name}"]]
    _finish_curves(axes, unit, lines, found, run.figures.get(NGRAM, 0.0))
    return figure


def plot_price(comparison: Comparison, name: str, title: str) -> Figure:
    """Plot the ranking figure of each group against a cost, and mark the Pareto front.

    `name` is the figure that measures the cost; `title` describes it.
    """
    figure, axes = new_plot(f"{make_title(comparison.metric)} against {title}")
    rows = comparison.rows[[name, "mean", "deviation"]].dropna(subset=[name, "mean"])
    points = list(rows.itertuples(name=None))  # rank, price, figure and deviation of each
    handles: list[Any] = []
    labels: list[str] = []
    for colour, plotted in groupby(points, lambda point: _colour(point[0])):
        ranks, xs, ys, deviations = zip(*plotted, strict=True)
        bars = np.nan_to_num(deviations) if np.nan_to_num(deviations).any() else None
        style = {"markersize": 5, "capsize": 2, "linewidth": 1, "zorder": 2 + (colour != LINE)}
        handles.append(axes.errorbar(xs, ys, bars, fmt="o", color=colour, **style))  # type: ignore[arg-type]
        labels.append(_label(comparison, ranks[0], ranks))
    sign = choose_sign(comparison.metric)
    best = rows.iloc[front([(x, sign * y) for _, x, y, _ in points])]
    ring: dict[str, Any] = {"marker": "o", "markersize": 10, "markerfacecolor": "none"}
    ring |= {"color": INK, "linewidth": 1, "linestyle": (0, (2, 2)), "zorder": 4}
    [line] = axes.plot(best[name], best["mean"], **ring)
    set_scale(axes, "x", list(rows[name]))
    set_scale(axes, "y", list(rows["mean"]))
    axes.set_xlabel(title)
    add_legend(figure, [*handles, line], [*labels, "Pareto front"])
    return figure


def heat_axes(comparison: Comparison) -> tuple[list[Value], list[Value]] | None:
    """Return the values of both grouping settings in rising order, or None for no heat map.

    A heat map needs two grouping settings with 2 to `MOST_VALUES` values each, at least half of all
    combinations, and a group with a figure.
    """
    if len(comparison.keys) != 2 or not comparison.ranked:
        return None
    first, second = (
        sorted({group.settings[side] for group in comparison.groups}, key=_in_order)
        for side in (0, 1)
    )
    fits = 2 <= len(first) <= MOST_VALUES and 2 <= len(second) <= MOST_VALUES
    full = 2 * len(comparison.groups) >= len(first) * len(second)
    return (first, second) if fits and full else None


def _in_order(value: Value) -> tuple[bool, float, str]:
    number = value if isinstance(value, int | float) else 0.0
    return isinstance(value, str), number, str(value)


def plot_heat(comparison: Comparison, rows: list[Value], columns: list[Value]) -> Figure:
    """Plot the ranking figure by the values of two settings; fields without a figure stay white."""
    title = f"{make_title(comparison.metric)} by {' and '.join(comparison.keys)}"
    height = max(2.4, min(0.42 * len(rows) + 1.2, 9))
    figure, axes = new_plot(title, (max(SIZE[0], 0.5 * len(columns) + 1.5), height))
    ranks = {group.settings: rank for rank, group in enumerate(comparison.groups)}
    found = [ranks.get((row, column), -1) for row in rows for column in columns]
    table = comparison.rows.reindex(found)  # empty for a missing combination
    means = table["mean"].to_numpy().reshape(len(rows), len(columns))
    mesh: Any = axes.pcolormesh(
        means, cmap=HEAT if choose_sign(comparison.metric) > 0 else HEAT[:-2]
    )
    marks: Any = table["incomplete"].fillna(ABSENT).to_numpy().reshape(means.shape)
    few = len(columns) <= 6
    size = 9 if few else max(5, 60 / len(columns))
    for (y, x), mean in np.ndenumerate(means):
        text, ink = escape_line(marks[y, x]), MUTED
        if not math.isnan(mean):
            text = format_figure(mean, 2 if few else 1)
            ink = legible_ink(to_hex(mesh.to_rgba(mean)[:3]))
        axes.text(x + 0.5, y + 0.5, text, color=ink, ha="center", va="center", size=size)
    for values, set_ticks in ((columns, axes.set_xticks), (rows, axes.set_yticks)):
        middles = [index + 0.5 for index in range(len(values))]
        set_ticks(middles, [escape_line(format_value(value)) for value in values])
    axes.set_xlabel(comparison.keys[1])
    axes.set_ylabel(comparison.keys[0])
    axes.invert_yaxis()
    axes.grid(visible=False)
    return figure


def plot_importance(shares: Mapping[str, float]) -> Figure:
    """Plot the importance of each setting as a bar."""
    figure, axes = new_plot("importance of settings", (SIZE[0], 0.34 * len(shares) + 1.0))
    axes.barh(range(len(shares)), list(shares.values()), color=SERIES[0], height=0.65)
    axes.set_yticks(range(len(shares)), [escape_line(name) for name in shares])
    for y, share in enumerate(shares.values()):
        label = f"{share:.0%}"
        axes.annotate(label, (share, y), (4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(shares.values()))
    axes.xaxis.set_visible(False)
    axes.grid(visible=False)
    return figure


def _colour(rank: int) -> str:
    """Choose the colour of a group by its rank; groups that are not among the best share one."""
    return SERIES[rank] if rank < len(SERIES) else LINE


def _label(comparison: Comparison, rank: int, ranks: Iterable[int]) -> str:
    """Label a group in a legend; groups that share a colour share a label.

    `rank` is the rank of the group. `ranks` includes the ranks of all groups with the group's
    colour.
    """
    if rank < len(SERIES):
        return comparison.short_label(comparison.ranked[rank])
    return f"{sum(one >= len(SERIES) for one in ranks)} more"


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Find the Pareto front: the points that no other point dominates.

    Args:
        points: cost and figure of each point; less is better. A point dominates another if it is
            better in one number and no worse in the other.

    Returns:
        Indices of the points on the front, the cheapest first; equal points are all included.
    """
    ordered = pd.DataFrame(points, columns=["price", "figure"]).sort_values(["price", "figure"])
    lowest = ordered["figure"] == ordered["figure"].cummin()
    cheapest = ordered["price"] == ordered.groupby("figure")["price"].transform("min")
    return list(ordered.index[lowest & cheapest])
