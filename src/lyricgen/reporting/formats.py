"""Comparisons as a table on a terminal, as Markdown, as CSV and as plain values."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from lyricgen.console import WIDEST
from lyricgen.errors import printable
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.selection import told_apart
from lyricgen.reporting.tables import WORDS, Entry, figures, filled

LONGEST = 20  # rows on a terminal
# Columns that a narrow terminal can do without, the first ones first.
_SPARE = ("best epoch", "pairs", "wall time", "characters/s", "parameters", "test", "")
_SPARE_AT_LAST = ("p", "− best", "n")


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
