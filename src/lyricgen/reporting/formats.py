"""Comparisons as a table on a terminal, as Markdown, as CSV and as plain values."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from lyricgen.console import WIDEST
from lyricgen.errors import printable
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.tables import WORDS, Entry, figures, filled

LONGEST = 20  # rows on a terminal
# Columns that a narrow terminal can do without, the first ones first.
_SPARE = ("best epoch", "pairs", "wall time", "characters/s", "parameters", "test", "")


def terminal_table(comparison: Comparison, console: Console) -> Table:
    """The best rows, with as many columns as the terminal has room for."""
    names, rows = filled(comparison, LONGEST)
    unlimited = console.options.update(max_width=WIDEST)
    for spare in (None, *_SPARE):
        if spare is not None and spare in names:
            place = names.index(spare, len(comparison.keys))
            names = names[:place] + names[place + 1 :]
            rows = [one[:place] + one[place + 1 :] for one in rows]
        table = _table(comparison, names, rows)
        if Measurement.get(console, unlimited, table).maximum <= console.width:
            break
    return table


def markdown(comparison: Comparison) -> str:
    """As Markdown."""
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


def _table(comparison: Comparison, names: Sequence[str], rows: Sequence[Sequence[Entry]]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=escape(printable(comparison.name)),
        title_justify="left",
        collapse_padding=True,
        pad_edge=False,
    )
    for place, name in enumerate(names):
        number = place >= len(comparison.keys) and name not in WORDS
        table.add_column(escape(name), justify="right" if number else "left", overflow="fold")
    for one in rows:
        table.add_row(*(escape(entry.text) for entry in one))
    if len(comparison.cells) > LONGEST:
        table.caption = f"{len(comparison.cells) - LONGEST:,} more rows in the report"
    return table


def _plain_markdown(text: str) -> str:
    """With what Markdown would take for its own escaped."""
    escaped = "".join("\\" + one if one in "|\\`*_<>[]" else one for one in text)
    return escaped.replace("&", "&amp;")
