"""Sections of a report: plots, and samples of the best runs and the worst."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from lyricgen.console import progress, rounded
from lyricgen.reporting.comparison import Comparison, sign_of
from lyricgen.reporting.curves import read_curves
from lyricgen.reporting.drawing import styled, to_png, to_svg
from lyricgen.reporting.importance import importances, searched
from lyricgen.reporting.plots import (
    draw_curves,
    draw_heat,
    draw_importance,
    draw_price,
    heat_axes,
)
from lyricgen.reporting.records import Record
from lyricgen.reporting.selection import shown
from lyricgen.reporting.tables import title_of

BEST = 3  # runs whose samples are shown, beside the worst


class Plot(NamedTuple):
    """A plot, as a file and as an element of a page."""

    name: str
    png: bytes
    svg: str


class ShownSamples(NamedTuple):
    """Samples of a run."""

    title: str
    texts: tuple[str, ...]


class Section(NamedTuple):
    """All about one comparison."""

    comparison: Comparison
    plots: list[Plot]
    lines: list[str]  # what there is instead of a plot
    samples: list[ShownSamples]


def sections(comparisons: list[Comparison]) -> list[Section]:
    """Read and draw what the tables leave out."""
    found = []
    for comparison in comparisons:
        plots, lines = _plots(comparison)
        found.append(Section(comparison, plots, lines, _samples(comparison)))
    return found


def _plots(comparison: Comparison) -> tuple[list[Plot], list[str]]:
    drawn: dict[str, Callable[[], Figure]] = {}
    lines = []
    curves = read_curves(comparison)
    if curves.means:
        drawn["learning curves"] = lambda: draw_curves(comparison, curves)
    for name, title in (("parameters", "parameters"), ("wall_seconds", "wall time in seconds")):
        if name != comparison.metric and any(cell.figure(name) for cell in comparison.ranked):
            drawn[title.partition(" in ")[0]] = lambda name=name, title=title: draw_price(  # type: ignore[misc]
                comparison, name, title
            )
    axes = heat_axes(comparison)
    if axes is not None:
        drawn["heat map"] = lambda: draw_heat(comparison, *axes)
    if searched(comparison):
        found = importances(comparison)
        if isinstance(found, str):
            lines.append(found)
        else:
            drawn["importance"] = lambda: draw_importance(found)
    words = comparison.name + "".join(map(comparison.label, comparison.cells))
    plots = []
    with styled(words), progress(f"drawing {comparison.name}", len(drawn)) as moved:
        for number, (name, draw) in enumerate(drawn.items()):
            moved(number)
            figure = draw()
            title = f"{name}: {title_of(comparison.metric)} on {comparison.name}"
            plots.append(Plot(name.replace(" ", "_"), to_png(figure), to_svg(figure, title)))
    return plots, lines


def _samples(comparison: Comparison) -> list[ShownSamples]:
    """Samples of the best runs, and of the worst if it is not among them."""
    runs = [
        (run.figures[comparison.metric], comparison.label(cell), run)
        for cell in comparison.ranked
        for run in cell.scored.values()
        if run.samples
    ]
    sign = sign_of(comparison.metric)
    runs.sort(key=lambda one: sign * one[0])
    places = list(range(min(BEST, len(runs))))
    if len(runs) > BEST:
        places.append(len(runs) - 1)
    names = ["best", "second", "third", "worst"]
    return [
        ShownSamples(f"{name}: {_title(comparison, *runs[place])}", runs[place][2].samples)
        for name, place in zip(names, places, strict=False)
    ]


def _title(comparison: Comparison, value: float, cell: str, run: Record) -> str:
    also = [f"{key} {shown(run.settings[key])}" for key in comparison.over if key in run.settings]
    return f"{', '.join([cell, *also])} ({title_of(comparison.metric)} {rounded(value)})"
