"""Print tables on a terminal of any width, where wide ones are split, and in files."""

import io
import sys
from itertools import pairwise

from rich import get_console
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from lyricgen.console import on_terminal, put, write
from lyricgen.errors import HARMLESS, escape_text

WIDEST = 1000  # most columns of a line of a table outside a terminal
ALTERED_BY_RICH = "\t\u2028\u2029"  # in tables, it would turn these into spaces and new lines
STAND_INS = range(0xFDD0, 0x110000)  # code points to stand for them; Unicode reserves the first 32


def table_console() -> Console:
    """Console for tables; outside a terminal its lines have up to `WIDEST` columns."""
    console = get_console()
    return console if console.is_terminal else Console(width=WIDEST, quiet=console.quiet)


def put_generated(table: Table) -> None:
    """Print a table of generated texts, escaped only on a terminal.

    All cells must be `Text`; this function changes their content. A file gets lines of any length.
    """
    cells = [cell for column in table.columns for cell in column.cells if isinstance(cell, Text)]
    if on_terminal():
        for cell in cells:
            cell.plain = escape_text(cell.plain, HARMLESS)
        put(table)
        return
    used = set().union(*(cell.plain for cell in cells))
    unused = (code for code in STAND_INS if chr(code) not in used)
    stand_ins = dict(zip(map(ord, ALTERED_BY_RICH), unused, strict=False))
    for cell in cells:
        cell.plain = cell.plain.translate(stand_ins)
    stream = io.StringIO()
    Console(file=stream, width=sys.maxsize).print(table)  # as wide as its texts
    write(stream.getvalue().translate({one: own for own, one in stand_ins.items()}))


def put_whole(table: Table) -> None:
    """Print a table, split so that it fits; only a very narrow terminal breaks numbers or words."""
    console = table_console()
    for part in split_table(table, console):
        put(part, console)


def fits(table: Table, console: Console) -> bool:
    """Whether a table fits a console without a broken cell."""
    return Measurement.get(console, _wide_options(console), table).maximum <= console.width


def split_table(table: Table, console: Console) -> list[Table]:
    """Split a table that is too wide into tables that have some of its columns each.

    A table that fits is returned whole. Each part has the first column, which names the rows. The
    names and all headings may be wrapped, between words if they fit; other cells stay in one line.
    A split sets the widths of the columns of `table`.
    """
    if fits(table, console):
        return [table]
    names, *figures = table.columns
    longest_word = max(
        _measure_cell(cell, console).minimum for cell in (names.header, *names.cells)
    )
    groups: list[list[Column]] = [[]]
    for column in figures:
        cells = (_measure_cell(cell, console).maximum for cell in column.cells)
        column.width = max(_measure_cell(column.header, console).minimum, *cells)
        if groups[-1] and longest_word > _remaining_width(console, [*groups[-1], column]):
            groups.append([])
        groups[-1].append(column)
    tables = [_with_columns(table, names, group, console) for group in groups]
    for above, below in pairwise(tables):
        above.caption = below.title = None
    return tables


def _remaining_width(console: Console, figures: list[Column]) -> int:
    """Width in characters that `figures` leave for the first column."""
    return console.width - sum((column.width or 0) + 3 for column in figures)


def _with_columns(table: Table, names: Column, figures: list[Column], console: Console) -> Table:
    first = names.copy()
    natural = max(_measure_cell(cell, console).maximum for cell in (names.header, *names.cells))
    first.width = max(1, min(natural, _remaining_width(console, figures)))
    first.overflow = "fold"
    part = Table(
        first,
        *(column.copy() for column in figures),
        title=table.title,
        caption=table.caption,
        caption_justify=table.caption_justify,
        box=table.box,
        show_edge=False,
        pad_edge=False,
    )
    for row in zip(*(column.cells for column in (names, *figures)), strict=True):
        part.add_row(*row)
    return part


def _measure_cell(cell: object, console: Console) -> Measurement:
    """The widths of a cell's longest word and of the whole cell."""
    return Measurement.get(console, _wide_options(console), str(cell))


def _wide_options(console: Console) -> ConsoleOptions:
    return console.options.update_width(10_000)
