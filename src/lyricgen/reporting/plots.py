"""The plots of a comparison."""

import logging
import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lyricgen.console import progress, rounded
from lyricgen.errors import printable
from lyricgen.evaluation.colours import legible_ink
from lyricgen.reporting.comparison import HELD_OUT, Comparison, sign_of
from lyricgen.reporting.drawing import INK, LINE, MUTED, SERIES, SIZE, add_legend, new_plot, scale
from lyricgen.reporting.importance import Importances
from lyricgen.reporting.records import Record, shown
from lyricgen.reporting.tables import title_of
from lyricgen.runs.record_files import RecordError, read_columns
from lyricgen.settings import Value

log = logging.getLogger(__name__)

METRICS = "metrics.csv"
MOST_LINES = 60  # more cannot be told apart
MOST_CELLS = 20  # of a heat map, a side
HEAT = "viridis_r"
NGRAM = "val/ngram_perplexity"


class Curves(NamedTuple):
    """The curves of the cells of a comparison.

    Attributes:
        metric: whose.
        unit: of the horizontal axis: steps where runs were validated within epochs.
        means: mean and standard deviation over the runs of each cell, by its rank from 0, as far
            as all of them go.
    """

    metric: str
    unit: str
    means: dict[int, pd.DataFrame]


def read_curves(comparison: Comparison) -> Curves:
    """The held-out perplexity of every epoch of the runs that have a figure.

    A metrics.csv that cannot be read is left out, and a warning names it.
    """
    name = f"{comparison.prefix}perplexity"
    split = HELD_OUT.partition("/")[0]
    cells = [list(cell.scored.values()) for cell in comparison.ranked]
    runs = [run for cell in cells for run in cell]
    if not any(f"{split}/{name}" in run.figures for run in runs):
        split = "train"
    metric = f"{split}/{name}"
    tables = []
    with progress("reading learning curves", len(runs)) as moved:
        for number, run in enumerate(runs):
            tables.append(_read(run, metric))
            moved(number + 1)
    within = any(table["epoch"].nunique() < table["step"].nunique() for table in tables)
    unit = "step" if within else "epoch"
    curves = (table.groupby(unit)[metric].last() for table in tables)  # sorted
    means = {}
    for rank, cell in enumerate(cells):
        points = [curve for _, curve in zip(cell, curves, strict=False) if len(curve)]
        if points:
            common = pd.concat(points, axis=1, join="inner")
            if common.empty:  # validated within epochs, at other steps
                continue
            means[rank] = pd.DataFrame({"mean": common.mean(axis=1), "std": common.std(axis=1)})
    return Curves(metric, unit, means)


def _read(run: Record, metric: str) -> pd.DataFrame:
    """The epochs and steps at which a figure was measured; none of a damaged file."""
    path = run.directory / METRICS
    columns: dict[str, list[float]] = {name: [] for name in ("epoch", "step", metric)}
    if path.exists() or run.options.get("logger.csv") is not False:
        try:
            columns = read_columns(path, list(columns))
        except RecordError as error:
            log.warning("%s is left out: %s", path, error)
    table = pd.DataFrame(columns, dtype=float).replace([math.inf, -math.inf], math.nan)
    return table.dropna(subset=[metric])


def draw_curves(comparison: Comparison, curves: Curves) -> Figure:
    """The mean of every epoch, with a band of one standard deviation over seeds."""
    figure, axes = new_plot(f"{title_of(curves.metric)} by {curves.unit}")
    handles: list[Any] = []
    labels: list[str] = []
    heights: list[float] = []
    drawn = list(curves.means.items())[:MOST_LINES]
    for rank, points in drawn:
        colour, order = _colour(rank), 2 + (rank < len(SERIES))
        means, deviations = points["mean"], points["std"].fillna(0.0)
        style = {"marker": "o", "markersize": 3} if len(points) < 3 else {}
        [line] = axes.plot(points.index, means, color=colour, zorder=order, linewidth=1.6, **style)  # type: ignore[arg-type]
        heights.extend(means)
        if deviations.any():
            low, high = (means - deviations).clip(lower=1.0), means + deviations
            axes.fill_between(points.index, low, high, color=colour, alpha=0.18, linewidth=0)
        label = _label(comparison, rank, [one for one, _ in drawn])
        if label not in labels:
            handles.append(line)
            labels.append(label)
    ngram = _ngram(comparison)
    if ngram is not None:
        handles.append(axes.axhline(ngram, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2))
        labels.append("n-gram model")
        heights.append(ngram)
    scale(axes, "y", heights)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel(curves.unit)
    add_legend(figure, handles, labels)
    return figure


def draw_price(comparison: Comparison, name: str, title: str) -> Figure:
    """The figure of each cell against a price, with those marked that none beats in both."""
    figure, axes = new_plot(f"{title_of(comparison.metric)} against {title}")
    rows = comparison.rows[[name, "mean", "deviation"]].dropna(subset=[name, "mean"])
    points = list(rows.itertuples(name=None))  # of each its rank, price, figure and deviation
    handles: list[Any] = []
    labels: list[str] = []
    for colour, drawn in groupby(points, lambda point: _colour(point[0])):
        ranks, xs, ys, deviations = zip(*drawn, strict=True)
        bars = np.nan_to_num(deviations) if np.nan_to_num(deviations).any() else None
        style = {"markersize": 5, "capsize": 2, "linewidth": 1, "zorder": 2 + (colour != LINE)}
        handles.append(axes.errorbar(xs, ys, bars, fmt="o", color=colour, **style))  # type: ignore[arg-type]
        labels.append(_label(comparison, ranks[0], ranks))
    sign = sign_of(comparison.metric)
    best = [points[one] for one in front([(x, sign * y) for _, x, y, _ in points])]
    [line] = axes.plot(
        *([x for _, x, _, _ in best], [y for _, _, y, _ in best]),
        **{"color": INK, "linewidth": 1, "linestyle": (0, (2, 2)), "marker": "o"},  # type: ignore[arg-type]
        **{"markersize": 10, "markerfacecolor": "none", "zorder": 4},  # type: ignore[arg-type]
    )
    scale(axes, "x", [x for _, x, _, _ in points])
    scale(axes, "y", [y for _, _, y, _ in points])
    axes.set_xlabel(title)
    add_legend(figure, [*handles, line], [*labels, "Pareto front"])
    return figure


def heat_axes(comparison: Comparison) -> tuple[list[Value], list[Value]] | None:
    """The values of the two settings of a table that has two, if a map of them would be one."""
    if len(comparison.keys) != 2 or not comparison.ranked:
        return None
    first, second = (
        sorted({cell.settings[side] for cell in comparison.cells}, key=_in_order) for side in (0, 1)
    )
    fits = 2 <= len(first) <= MOST_CELLS and 2 <= len(second) <= MOST_CELLS
    full = 2 * len(comparison.cells) >= len(first) * len(second)
    return (first, second) if fits and full else None


def draw_heat(comparison: Comparison, rows: list[Value], columns: list[Value]) -> Figure:
    """The figure by two settings; white where no run has it."""
    title = f"{title_of(comparison.metric)} by {' and '.join(comparison.keys)}"
    height = max(2.4, min(0.42 * len(rows) + 1.2, 9))
    figure, axes = new_plot(title, (max(SIZE[0], 0.5 * len(columns) + 1.5), height))
    places = {cell.settings: place for place, cell in enumerate(comparison.cells)}
    found = [places.get((row, column), -1) for row in rows for column in columns]
    table = comparison.rows.reindex(found)  # empty where no cell is
    means = table["mean"].to_numpy().reshape(len(rows), len(columns))
    mesh: Any = axes.pcolormesh(means, cmap=HEAT if sign_of(comparison.metric) > 0 else HEAT[:-2])
    marks: Any = table["incomplete"].fillna("–").to_numpy().reshape(means.shape)
    for (y, x), mean in np.ndenumerate(means):
        _annotate(axes, x + 0.5, y + 0.5, mean, marks[y, x], mesh.to_rgba(mean), len(columns))
    axes.set_xticks([x + 0.5 for x in range(len(columns))], [printable(shown(x)) for x in columns])
    axes.set_yticks([y + 0.5 for y in range(len(rows))], [printable(shown(y)) for y in rows])
    axes.set_xlabel(comparison.keys[1])
    axes.set_ylabel(comparison.keys[0])
    axes.invert_yaxis()
    axes.grid(visible=False)
    return figure


def draw_importance(found: Importances) -> Figure:
    """The share of each setting."""
    figure, axes = new_plot("importance of settings", (SIZE[0], 0.34 * len(found) + 1.0))
    axes.barh(range(len(found)), list(found.values()), color=SERIES[0], height=0.65)
    axes.set_yticks(range(len(found)), [printable(name) for name in found])
    for place, share in enumerate(found.values()):
        label = f"{share:.0%}"
        axes.annotate(label, (share, place), (4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(found.values()))
    axes.xaxis.set_visible(False)
    axes.grid(visible=False)
    return figure


def _annotate(
    axes: Axes, x: float, y: float, mean: float, marks: str, colour: Sequence[float], columns: int
) -> None:
    if math.isnan(mean):
        text, ink = marks, MUTED
    else:
        text = rounded(mean, 1 if columns > 6 else 2)
        ink = legible_ink(to_hex((colour[0], colour[1], colour[2])))
    size = 9 if columns <= 6 else max(5, 60 / columns)
    axes.text(x, y, printable(text), color=ink, ha="center", va="center", size=size)


def _colour(rank: int) -> str:
    """The best ones have colours; the others are there to be seen together."""
    return SERIES[rank] if rank < len(SERIES) else LINE


def _label(comparison: Comparison, rank: int, ranks: Sequence[int]) -> str:
    """Label of a cell in a legend; one label for all cells without a colour of their own."""
    if rank < len(SERIES):
        return comparison.short_label(comparison.ranked[rank])
    return f"{sum(one >= len(SERIES) for one in ranks)} more"


def _in_order(value: Value) -> tuple[bool, float, str]:
    number = value if isinstance(value, int | float) else 0.0
    return isinstance(value, str), number, str(value)


def _ngram(comparison: Comparison) -> float | None:
    """Perplexity of the n-gram models if it is the same for all runs."""
    if comparison.metric != "val/perplexity":
        return None
    values = {round(run.figures.get(NGRAM, 0.0), 6) for run in comparison.records if run.figures}
    return values.pop() or None if len(values) == 1 else None


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other beats: none is as small in both numbers and smaller in one.

    Args:
        points: a price and a figure of each, of both of which less is better.

    Returns:
        Places in `points`, the cheapest first; of equal points all.
    """
    ordered = pd.DataFrame(points, columns=["price", "figure"]).sort_values(["price", "figure"])
    lowest = ordered["figure"] == ordered["figure"].cummin()
    cheapest = ordered["price"] == ordered.groupby("figure")["price"].transform("min")
    return list(ordered.index[lowest & cheapest])
