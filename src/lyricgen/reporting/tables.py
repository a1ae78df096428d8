"""A comparison as a table: what stands in which column, and what has to be said below it."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from lyricgen.console import WIDEST, rounded
from lyricgen.errors import printable
from lyricgen.reporting.comparison import Cell, Comparison, Mean, reason_without_figure
from lyricgen.reporting.selection import ABSENT, shown, told_apart
from lyricgen.settings import Value

WORDS = ("", "incomplete")  # columns that hold no numbers, beside those of settings


LONGEST = 20  # rows on a terminal
# Columns that a narrow terminal can do without, the first ones first.
_SPARE = ("best epoch", "pairs", "wall time", "characters/s", "parameters", "test", "")
_SPARE_AT_LAST = ("p", "− best", "n")


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


def terminal_table(comparison: Comparison, console: Console) -> Table:
    """The best rows in the first layout that the terminal has room for.

    Settings that all rows share stand above it.
    """
    names, rows = filled(comparison, LONGEST)
    settings = [*comparison.keys]
    title = [printable(comparison.name)]
    for place in reversed(range(len(settings) if len(comparison.cells) > 1 else 0)):
        if len({cell.settings[place] for cell in comparison.cells}) == 1:
            title.insert(1, f"{settings.pop(place)} {rows[0][place].text}")
            names, rows = _without(names, rows, place)
    unlimited = console.options.update(max_width=WIDEST)
    for layout in _layouts(names, rows, len(settings)):
        table = _table(layout)
        if Measurement.get(console, unlimited, table).maximum <= console.width:
            break
    table.title = escape("\n".join([title[0], ", ".join(title[1:])]).rstrip())
    if len(comparison.cells) > LONGEST:
        table.caption = f"{len(comparison.cells) - LONGEST:,} more rows in the report"
    return table


class _Layout(NamedTuple):
    """The columns of a table; the first ones are settings."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    settings: int


def _layouts(
    names: Sequence[str], rows: Sequence[Sequence[Entry]], settings: int
) -> Iterator[_Layout]:
    """Ever narrower tables: fewer columns, shorter settings, then the settings in one column."""
    short = [name.rpartition(".")[2] for name in names[:settings]]
    short = [
        one if (*short, *names[settings:]).count(one) == 1 else name
        for one, name in zip(short, names, strict=False)
    ]
    told = [told_apart([one[place].text for one in rows]) for place in range(settings)]
    for spare in (None, *_SPARE):
        if spare is not None:
            names, rows = _without_named(names, rows, spare, settings)
        texts = [[entry.text for entry in one] for one in rows]
        yield _Layout(names, texts, settings)
        cut = [[*(column[n] for column in told), *one[settings:]] for n, one in enumerate(texts)]
        yield _Layout([*short, *names[settings:]], cut, settings)
    for spare in (None, *_SPARE_AT_LAST):
        if spare is not None:
            names, rows = _without_named(names, rows, spare, settings)
        stacked = [
            "\n".join(f"{name} {column[n]}" for name, column in zip(short, told, strict=True))
            for n in range(len(rows))
        ]
        texts = [
            [stack, *(entry.text for entry in one[settings:])]
            for stack, one in zip(stacked, rows, strict=True)
        ]
        yield _Layout(["settings", *names[settings:]], texts, 1)


def _without_named(
    names: Sequence[str], rows: Sequence[Sequence[Entry]], name: str, settings: int
) -> tuple[list[str], list[list[Entry]]]:
    there = name in names[settings:]
    return _without(names, rows, names.index(name, settings) if there else len(names))


def _without(
    names: Sequence[str], rows: Sequence[Sequence[Entry]], place: int
) -> tuple[list[str], list[list[Entry]]]:
    kept = [[*one[:place], *one[place + 1 :]] for one in rows]
    return [*names[:place], *names[place + 1 :]], kept


def markdown(comparison: Comparison) -> str:
    """Format as Markdown."""
    names, rows = filled(comparison)
    settings = len(comparison.keys)
    words = [place < settings or name in WORDS for place, name in enumerate(names)]
    lines = [[*map(_plain_markdown, names)], [":--" if one else "--:" for one in words]]
    lines += [[_plain_markdown(entry.text) for entry in one] for one in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plain(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows with all their figures, by the names that docs/report.md explains."""
    rows = []
    for rank, cell in enumerate(comparison.cells, 1):
        difference = cell.difference
        rows.append(
            {
                "text": comparison.name,
                "metric": comparison.metric,
                "rank": rank if cell.mean else None,
                **dict(zip(comparison.keys, cell.settings, strict=True)),
                "n": len(cell.scored),
                "mean": cell.mean and cell.mean.value,
                "deviation": cell.mean and cell.mean.deviation,
                "difference": difference and difference.value,
                "p": difference and difference.p,
                "pairs": difference and difference.pairs,
                "verdict": comparison.verdict(cell),
                **{
                    name: value and value.value for name, value in figures(comparison, cell).items()
                },
                "incomplete": cell.marks,
                "reasons": "; ".join(
                    dict.fromkeys(one.reason for one in cell.others if one.reason)
                ),
            }
        )
    return rows


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """All comparisons with full figures; what a table does not have is empty."""
    rows = [row for comparison in comparisons for row in plain(comparison)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(layout: _Layout) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", collapse_padding=True, pad_edge=False)
    for place, name in enumerate(layout.names):
        number = place >= layout.settings and name not in WORDS
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(escape(name), justify=justify, overflow="fold", no_wrap=number)
    for one in layout.rows:
        table.add_row(*map(escape, one))
    return table


def _plain_markdown(text: str) -> str:
    """With what Markdown would take for its own escaped."""
    escaped = "".join("\\" + one if one in "|\\`*_<>[]" else one for one in text)
    return escaped.replace("&", "&amp;")
