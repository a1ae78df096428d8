"""Memorisation of models as tables for a terminal and plain values for JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from lyricgen.errors import printable
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.evaluation.memorisation import Memorisation, Names, Overlap, measure
from lyricgen.evaluation.tables import new_table

TEXTS, TEXT = 64, 250  # texts that are drawn, and their characters
NAMES, NAME = 1000, 100


class CheckpointMemorisation(NamedTuple):
    """Memorisation of one checkpoint.

    Attributes:
        label: what to call it.
        heading: the same with its text.
        path: of the file.
        found: of its texts.
    """

    label: str
    heading: str
    path: Path
    found: Memorisation


def measure_checkpoint(
    evaluated: Evaluated, count: int | None, temperature: float, seed: int
) -> CheckpointMemorisation:
    """Draw texts from a checkpoint and compare them; see `memorisation.measure`.

    Args:
        evaluated: the checkpoint and its text.
        count: texts; None for 1,000 names or 64 texts.
        temperature: of the drawing.
        seed: of the drawing.
    """
    usual, length = TEXTS, TEXT
    if evaluated.model.layout == "lines":
        usual, length = NAMES, max(NAME, evaluated.model.default_length)
    found = measure(
        evaluated.model,
        evaluated.parts,
        count=usual if count is None else count,
        length=length,
        temperature=temperature,
        seed=seed,
    )
    return CheckpointMemorisation(evaluated.label, evaluated.label_and_text, evaluated.path, found)


def to_plain(measured: Sequence[CheckpointMemorisation]) -> dict[str, Any]:
    """Everything, as shares between 0 and 1."""
    return {
        "memorisation": [
            {"name": each.label, "path": str(each.path), **asdict(each.found)} for each in measured
        ]
    }


def tables(measured: CheckpointMemorisation) -> list[Table]:
    """The n-grams, and the names where the model writes names."""
    found = measured.found
    columns = {"generated": found.generated, "held-out": found.held_out}
    present = {name: copied for name, copied in columns.items() if copied is not None}
    table = new_table(printable(measured.heading), numbers=tuple(present))
    for n in found.generated.ngrams:
        shares = [_percent(copied.ngrams.get(n)) for copied in present.values()]
        table.add_row(f"{n}-grams in the training text", *shares)
    longest = [f"{copied.longest} characters" for copied in present.values()]
    table.add_row("longest run in the training text", *longest)
    table.add_row("compared", *map(_size, present.values()))
    drawn = f"generated at temperature {found.temperature:g}, seed {found.seed}"
    table.caption = drawn if found.held_out is None else f"{drawn}; held-out: val and test"
    return [table] if found.names is None else [table, _names_table(found.names)]


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


def _size(copied: Overlap) -> str:
    texts = "text" if copied.texts == 1 else "texts"
    return f"{copied.characters:,} characters, {copied.texts:,} {texts}"
