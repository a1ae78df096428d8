"""Tables, figures with intervals and plain values, shared by the reports."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from lyricgen.console import rounded
from lyricgen.errors import printable
from lyricgen.evaluation.bootstrap import CONFIDENCE
from lyricgen.evaluation.estimates import Estimate, Row


def new_table(*headings: str, numbers: tuple[str, ...]) -> Table:
    """A table whose columns of numbers are aligned."""
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    for heading in headings:
        table.add_column(escape(heading))
    for heading in numbers:
        table.add_column(escape(heading), justify="right", overflow="fold")
    return table


def named(name: str) -> str:
    """A name that somebody chose, as a cell of a table; it is no markup."""
    return escape(printable(name))


def shown(estimate: Estimate, digits: int, sign: str = "") -> str:
    """A figure and its interval."""
    value, *bounds = (
        "" if number is None else rounded(number, digits, sign) for number in estimate
    )
    # a square bracket would be markup
    return value if set(bounds) <= {"", value} else f"{value} ({bounds[0]}…{bounds[1]})"


def how_drawn(lengths: Mapping[str, int | None], resamples: int) -> str:
    """Where intervals come from, with the length of the blocks of each part."""
    blocks = ", ".join(f"{length} ({part})" for part, length in lengths.items())
    units = "whole lines" if None in lengths.values() else f"blocks of characters, {blocks}"
    return f"{CONFIDENCE:.0%} intervals: {resamples:,} resamples of {units}"


def plain_row(row: Row, prefix: str) -> dict[str, Any]:
    """The figures of one model."""
    return {
        "name": row.series.name,
        "kind": row.series.kind,
        "characters": row.characters,
        "bytes": row.bytes,
        "block_length": row.block_length,
        "loss": row.loss._asdict(),
        f"{prefix}perplexity": row.perplexity._asdict(),
        f"{prefix}bits_per_char": row.bits_per_char._asdict(),
        f"{prefix}bits_per_byte": row.bits_per_byte._asdict(),
        "difference": row.difference and row.difference._asdict(),
        "differs": row.differs,
    }
