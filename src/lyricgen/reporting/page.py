"""The report as a page and as Markdown, from the templates beside this module."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from lyricgen.console import progress, rounded
from lyricgen.errors import TEXT, printable, printable_text
from lyricgen.reporting.comparison import Comparison, sign_of
from lyricgen.reporting.drawing import DARK, LIGHT, styled, to_png, to_svg
from lyricgen.reporting.importance import importances, searched
from lyricgen.reporting.plots import (
    draw_curves,
    draw_heat,
    draw_importance,
    draw_price,
    heat_axes,
    read_curves,
)
from lyricgen.reporting.records import shown
from lyricgen.reporting.tables import Column, columns_of, failures, notes, title_of

BEST = 3  # runs whose samples are shown, beside the worst


class Plot(NamedTuple):
    """A plot, as a file and as an element of a page."""

    name: str
    file: str
    png: bytes
    svg: str


class Section(NamedTuple):
    """Parts of a report on one comparison.

    Attributes:
        comparison: the runs.
        title: the figure that ranks them, in words.
        columns: of the table.
        notes: that explain the table.
        failures: the runs without a figure.
        plots: that could be drawn.
        messages: shown where a plot is missing.
        samples: texts of the best runs and of the worst, by a title.
    """

    comparison: Comparison
    title: str
    columns: list[Column]
    notes: list[str]
    failures: list[str]
    plots: list[Plot]
    messages: list[str]
    samples: dict[str, list[str]]


def sections(comparisons: Sequence[Comparison]) -> list[Section]:
    """Read and draw all that the report shows."""
    return [
        Section(
            comparison,
            title_of(comparison.metric),
            columns_of(comparison),
            notes(comparison),
            failures(comparison),
            *_plots(comparison, "" if number == 1 else f"_{number}"),
            _best_and_worst(comparison),
        )
        for number, comparison in enumerate(comparisons, 1)
    ]


def _plots(comparison: Comparison, suffix: str) -> tuple[list[Plot], list[str]]:
    """The plots of a comparison, and messages in place of those that are missing."""
    drawn: dict[str, Callable[[], Figure]] = {}
    messages = []
    curves = read_curves(comparison)
    if curves.means:
        drawn["learning curves"] = lambda: draw_curves(comparison, curves)
    for name, title in (("parameters", "parameters"), ("wall_seconds", "wall time in seconds")):
        if name != comparison.metric and comparison.rows[name].notna().any():
            drawn[title.partition(" in ")[0]] = lambda name=name, title=title: draw_price(  # type: ignore[misc]
                comparison, name, title
            )
    axes = heat_axes(comparison)
    if axes is not None:
        drawn["heat map"] = lambda: draw_heat(comparison, *axes)
    if searched(comparison):
        found = importances(comparison)
        if isinstance(found, str):
            messages.append(found)
        else:
            drawn["importance"] = lambda: draw_importance(found)
    words = comparison.name + "".join(map(comparison.label, comparison.cells))
    plots = []
    with styled(words), progress(f"drawing {comparison.name}", len(drawn)) as moved:
        for number, (name, draw) in enumerate(drawn.items()):
            moved(number)
            figure = draw()
            title = f"{name}: {title_of(comparison.metric)} on {comparison.name}"
            short = name.replace(" ", "_")
            plots.append(Plot(short, f"{short}{suffix}.png", to_png(figure), to_svg(figure, title)))
    return plots, messages


def _best_and_worst(comparison: Comparison) -> dict[str, list[str]]:
    """Samples of the best runs, and of the worst if it is not among them."""
    runs = [
        (run.figures[comparison.metric], comparison.label(cell), run)
        for cell in comparison.ranked
        for run in cell.scored.values()
        if run.summary.samples
    ]
    sign = sign_of(comparison.metric)
    runs.sort(key=lambda one: sign * one[0])
    chosen = [*runs[:BEST], *runs[BEST:][-1:]]
    samples = {}
    names = ("best", "second", "third", "worst")
    for name, (value, label, run) in zip(names, chosen, strict=False):
        settings = run.settings
        also = [f"{key} {shown(settings[key])}" for key in comparison.over if key in settings]
        figure = f"{title_of(comparison.metric)} {rounded(value)}"
        samples[f"{name}: {', '.join([label, *also])} ({figure})"] = run.summary.samples
    return samples


def render(template: str, sections: Sequence[Section], source: str) -> str:
    """All comparisons as a text.

    Args:
        template: report.html, which has style, script and plots in it and loads nothing, or
            report.md.
        sections: one for each.
        source: where the runs come from.
    """
    html = template.endswith(".html")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=html,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "chinese": lambda texts: any(re.search("[\u4e00-\u9fff]", text) for text in texts),
        "sample": lambda text: Markup(escape(printable_text(text, TEXT))),
        "markdown": _escape_markdown,
    }
    records = [run for section in sections for run in section.comparison.records]
    counts = Counter(run.summary.status for run in records)
    facts = {"runs": len(records) - counts["missing"]}
    facts |= {name: counts[name] for name in sorted(counts, key=lambda k: (k != "finished", k))}
    colours = {
        name: Markup(" ".join(f"--{one}: {colour};" for one, colour in each.items()))
        for name, each in {"light": LIGHT, "dark": DARK}.items()
    }
    text = environment.get_template(template).render(
        sections=sections, source=source, facts=facts, **colours
    )
    return text.rstrip() + "\n"


def _finalize(value: Any) -> Any:
    """Escape what steers a terminal in all that is no part of the page itself."""
    return value if isinstance(value, Markup) else printable(str(value))


def _escape_markdown(text: str) -> str:
    """With what Markdown would take for its own escaped."""
    escaped = "".join("\\" + one if one in "|\\`*_<>[]" else one for one in text)
    return escaped.replace("&", "&amp;")
