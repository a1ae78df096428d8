"""A comparison as a table: what stands in which column, and what has to be said below it."""

from collections.abc import Sequence
from typing import NamedTuple

from lyricgen.console import rounded
from lyricgen.errors import printable
from lyricgen.reporting.comparison import Cell, Comparison, reason_without_figure
from lyricgen.reporting.paired_test import Mean
from lyricgen.reporting.selection import ABSENT, shown
from lyricgen.settings import Value

WORDS = ("", "incomplete")  # columns that hold no numbers, beside those of settings


class Entry(NamedTuple):
    """Cell of a table: its text, and the value by which it is sorted."""

    text: str
    value: Value = None


def headings(comparison: Comparison) -> list[str]:
    """Headings of all columns: first the settings, `keys`, then the figures."""
    return [
        *comparison.keys,
        title_of(comparison.metric),
        *("n", "− best", "p", "pairs", "", "test", "parameters"),
        *("characters/s", "wall time", "best epoch", "incomplete"),
    ]


def row(comparison: Comparison, cell: Cell) -> list[Entry]:
    """A cell under these headings."""
    found = figures(comparison, cell)
    by_test = comparison.metric == f"test/{comparison.prefix}perplexity"  # it stands there already
    return [
        *(Entry(printable(shown(value)), value) for value in cell.settings),
        _with_deviation(cell.mean),
        Entry(str(len(cell.scored)), len(cell.scored)),
        *_beside_best(comparison, cell),
        _with_deviation(None if by_test else found["test_perplexity"]),
        _whole(found["parameters"]),
        _whole(found["chars_per_second"]),
        _duration(found["wall_seconds"]),
        _whole(found["best_epoch"]),
        Entry(cell.marks, len(cell.others)),
    ]


def figures(comparison: Comparison, cell: Cell) -> dict[str, Mean | None]:
    """Figures shown beside the one that ranks a row."""
    names = ("parameters", "chars_per_second", "wall_seconds", "best_epoch")
    test = cell.figure(f"test/{comparison.prefix}perplexity")
    return {"test_perplexity": test, **{name: cell.figure(name) for name in names}}


def filled(comparison: Comparison, most: int | None = None) -> tuple[list[str], list[list[Entry]]]:
    """Headings of the columns that are not empty, and the first `most` rows."""
    names = headings(comparison)
    rows = [row(comparison, cell) for cell in comparison.cells[:most]]
    kept = [
        place
        for place in range(len(names))
        if place <= len(comparison.keys) or any(one[place].text for one in rows)
    ]
    return [names[place] for place in kept], [[one[place] for place in kept] for one in rows]


def notes(comparison: Comparison) -> list[str]:
    """Notes that explain a table."""
    told = []
    if any(cell.mean and cell.mean.deviation is not None for cell in comparison.cells):
        told.append(f"mean ± sample standard deviation of n runs, over {_and(comparison.over)}")
    if comparison.mixed:
        told.append(f"also averaged over, since it varies: {_and(comparison.mixed)}")
    if any(cell.difference and cell.difference.p is not None for cell in comparison.cells):
        pairs = _and((*comparison.over, *comparison.mixed))
        told.append(f"p: paired t-test against the best, by {pairs}, each row by itself")
    if any(run.corpus_digest is None for cell in comparison.ranked for run in cell.scored.values()):
        told.append("runs of an earlier version, without the digest of their text: it may differ")
    if comparison.repeated:
        told.append(f"{comparison.repeated} left out: a later run has the same settings")
    return told


def failures(comparison: Comparison) -> list[str]:
    """The runs without a figure, a line each; of those that a search has pruned their number."""
    lines = []
    pruned = sum(run.status == "pruned" for run in comparison.records)
    for cell in comparison.cells:
        for run in cell.others:
            if run.status == "pruned":
                continue
            also = [f"{key} {shown(run.settings.get(key, ABSENT))}" for key in comparison.over]
            where = ", ".join([comparison.label(cell), *also])
            reason = f": {run.reason}" if run.reason else ""
            lines.append(printable(f"{reason_without_figure(run)}: {where}{reason}"))
    return [*lines, f"pruned: {pruned:,}"] if pruned else lines


def title_of(metric: str) -> str:
    """A figure's name in words."""
    return metric.replace("/", " ").replace("pseudo_", "pseudo-").replace("_", " ")


def p_value(p: float | None) -> str:
    """Format a p-value; empty for none."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes}:{left:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def _beside_best(comparison: Comparison, cell: Cell) -> list[Entry]:
    difference = cell.difference
    if difference is None:
        return [Entry(""), Entry(""), Entry(""), Entry("best" if cell.mean else "")]
    return [
        Entry(f"{difference.value:+,.2f}", difference.value),
        Entry(p_value(difference.p), difference.p),
        Entry(str(difference.pairs) if len(cell.scored) > 1 else "", difference.pairs),
        Entry(comparison.verdict(cell)),
    ]


def _with_deviation(value: Mean | None) -> Entry:
    if value is None:
        return Entry("")
    text = rounded(value.value)
    if value.deviation is not None:
        text += f" ± {rounded(value.deviation)}"
    return Entry(text, value.value)


def _whole(value: Mean | None) -> Entry:
    return Entry("") if value is None else Entry(f"{value.value:,.0f}", value.value)


def _duration(value: Mean | None) -> Entry:
    return Entry("") if value is None else Entry(duration(value.value), value.value)


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)
