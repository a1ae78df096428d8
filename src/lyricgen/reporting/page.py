"""The report as a page, in one file that needs no other."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

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
from lyricgen.reporting.records import Record
from lyricgen.reporting.selection import shown
from lyricgen.reporting.tables import WORDS, failures, filled, notes, title_of

BEST = 3  # runs whose samples are shown, beside the worst


TEMPLATE = Path(__file__).with_name("page.html")


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
        found.append(Section(comparison, plots, lines, _best_and_worst(comparison)))
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


def _best_and_worst(comparison: Comparison) -> list[ShownSamples]:
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


def page(sections: list[Section], source: str) -> str:
    """All comparisons.

    Args:
        sections: one for each.
        source: where the runs come from.

    Returns:
        HTML with style, script and plots in it, which loads nothing.
    """
    filled_in = {
        "source": _words(source),
        "facts": _facts([section.comparison for section in sections]),
        "light": _properties(LIGHT),
        "dark": _properties(DARK),
        "sections": "".join(map(_section, sections)),
    }
    template = TEMPLATE.read_text("utf-8")
    # in one go, so that nothing in a name is taken for a place to fill
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled_in[match[1]], template)


def _facts(comparisons: list[Comparison]) -> str:
    counts = Counter(run.status for each in comparisons for run in each.records)
    facts = {"runs": counts.total() - counts["missing"]}
    facts |= {status: counts[status] for status in sorted(counts, key=_order)}
    return "".join(f"<div><dt>{_words(k)}</dt><dd>{v:,}</dd></div>" for k, v in facts.items())


def _order(status: str) -> tuple[bool, str]:
    return status != "finished", status


def _properties(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def _section(section: Section) -> str:
    comparison = section.comparison
    lost = failures(comparison)
    parts = [
        f"<section><h2>{_words(comparison.name)}</h2>",
        f"<p>{_words(title_of(comparison.metric))}, best first</p>",
        _table(comparison),
        _list(notes(comparison), "notes"),
        f"<h3>Incomplete</h3>{_list(lost, 'lost')}" if lost else "",
        '<div class="plots">',
        *(f"<figure>{plot.svg}</figure>" for plot in section.plots),
        "</div>",
        _list(section.lines, "notes"),
        "<h3>Samples</h3>" if section.samples else "",
        *map(_samples, section.samples),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _table(comparison: Comparison) -> str:
    names, rows = filled(comparison)
    words = [place < len(comparison.keys) or name in WORDS for place, name in enumerate(names)]
    lines = [
        "".join(
            f'<th scope="col"{_class(word)}>{_words(name)}</th>'
            for name, word in zip(names, words, strict=True)
        )
    ]
    for row in rows:
        cells = (
            f'<td{_class(word)} data-value="{_words(str(entry.value))}">{_words(entry.text)}</td>'
            for entry, word in zip(row, words, strict=True)
        )
        lines.append("".join(cells))
    head, *body = lines
    inside = "\n".join(f"<tr>{line}</tr>" for line in body)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{inside}</tbody></table></div>"
    )


def _class(word: bool) -> str:
    return "" if word else ' class="n"'


def _list(lines: Iterable[str], name: str) -> str:
    items = "".join(f"<li>{_words(line)}</li>" for line in lines)
    return f'<ul class="{name}">{items}</ul>' if items else ""


def _samples(shown: ShownSamples) -> str:
    texts = "".join(f"<pre>{escape(printable_text(text, TEXT))}</pre>" for text in shown.texts)
    chinese = ' lang="zh-Hans"' if re.search("[\u4e00-\u9fff]", texts) else ""
    return f'<h4>{_words(shown.title)}</h4><div class="samples"{chinese}>{texts}</div>'


def _words(text: str) -> str:
    return escape(printable(text))
