"""Figures of memorisation as tables for a terminal, and as plain values for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from lyricgen.errors import escape_line
from lyricgen.evaluation.memorisation import Memorisation, Names
from lyricgen.evaluation.scores import CheckpointWithText
from lyricgen.evaluation.tables import new_table
from lyricgen.stacking import put_whole


def print_memorisation(measured: Sequence[tuple[CheckpointWithText, Memorisation]]) -> None:
    """Print tables of the n-grams and the names that each model copies."""
    for evaluated, found in measured:
        put_whole(_overlap_table(evaluated.label_and_text, found))
        if found.names is not None:
            put_whole(_names_table(found.names))


def _overlap_table(heading: str, found: Memorisation) -> Table:
    columns = {"generated": found.generated, "held-out": found.held_out}
    present = {name: overlap for name, overlap in columns.items() if overlap is not None}
    table = new_table(escape_line(heading), numbers=list(present))
    for n in found.generated.ngrams:
        shares = [_percent(overlap.ngrams.get(n)) for overlap in present.values()]
        table.add_row(f"{n}-grams in the training text", *shares)
    for n, share in found.repeated.items():
        table.add_row(f"{n}-grams earlier in the same text", _percent(share))
    longest = [f"{overlap.longest} characters" for overlap in present.values()]
    table.add_row("longest run in the training text", *longest)
    sizes = [
        f"{overlap.characters:,} characters, {overlap.texts:,} text{'s' * (overlap.texts != 1)}"
        for overlap in present.values()
    ]
    table.add_row("compared", *sizes)
    drawn = f"generated at temperature {found.temperature:g}, seed {found.seed}"
    table.caption = drawn if found.held_out is None else f"{drawn}; held-out: val and test"
    return table


def _names_table(names: Names) -> Table:
    table = new_table("names", numbers=("generated",))
    rows = {
        "in the training names": names.in_train,
        "in the held-out names": names.in_held_out,
        "distinct names": names.distinct,
        **{f"distinct-{n}": share for n, share in names.distinct_ngrams.items()},
    }
    for name, share in rows.items():
        if share is not None:
            table.add_row(name, _percent(share))
    table.add_row("whole names", f"{names.whole:,}")
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def plain_memorisation(
    measured: Sequence[tuple[CheckpointWithText, Memorisation]],
) -> dict[str, Any]:
    """Return all memorisation figures as plain values, for JSON; shares are between 0 and 1."""
    return {
        "memorisation": [
            {"name": evaluated.label, "path": str(evaluated.path), **asdict(found)}
            for evaluated, found in measured
        ]
    }
