"""What models have by heart: tables for a terminal, plain values for JSON, a picture."""

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.table import Table

from lyricgen.callbacks.copying import LINES, NGRAMS
from lyricgen.errors import printable
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.evaluation.tables import new_table
from lyricgen.memorisation import Copied, Memorisation, Names, measure

DPI = 120
TEXTS, TEXT = 64, 250  # texts that are drawn, and their characters
NAMES, NAME = 1000, 100


class CheckpointMemorisation(NamedTuple):
    """What one checkpoint has by heart.

    Attributes:
        label: what to call it.
        path: of the file.
        found: of its texts.
    """

    label: str
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
    usual, length = (NAMES, NAME) if evaluated.model.layout == "lines" else (TEXTS, TEXT)
    found = measure(
        evaluated.model,
        evaluated.data.parts,
        count=usual if count is None else count,
        length=length,
        temperature=temperature,
        seed=seed,
    )
    return CheckpointMemorisation(evaluated.label, evaluated.path, found)


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
    table = new_table(printable(measured.label), numbers=tuple(present))
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


def draw(measured: Sequence[CheckpointMemorisation]) -> Figure:
    """Draw the shares by n and, below, as training has logged them where that is known."""
    logs = {each.label: log for each in measured if (log := logged(each.path))}
    figure = Figure((8, 4.2 + 3 * len(logs)), dpi=DPI, layout="constrained")
    heights = [4.2, *(3.0 for _ in logs)]
    axes = figure.subplots(1 + len(logs), 1, squeeze=False, height_ratios=heights)[:, 0]
    _draw_shares(axes[0], measured)
    for each, (label, log) in zip(axes[1:], logs.items(), strict=True):
        found = next(one.found for one in measured if one.label == label)
        _draw_log(each, printable(label), log, found.held_out)
    return figure


def logged(checkpoint: Path) -> dict[str, list[tuple[float, float]]]:
    """The shares that training has logged, each with the epochs; nothing where no run is around.

    Args:
        checkpoint: a file; in a run it lies in a directory beside metrics.csv.
    """
    try:
        with (checkpoint.parent.parent / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            name: points
            for name in (*NGRAMS.values(), LINES)
            if (points := [(float(r["epoch"]), float(r[name])) for r in rows if r.get(name)])
        }
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def _draw_shares(axes: Axes, measured: Sequence[CheckpointMemorisation]) -> None:
    drawn: list[dict[int, float]] = []
    for number, each in enumerate(measured):
        colour, found = f"C{number}", each.found
        _draw_line(axes, found.generated.ngrams, f"generated by {printable(each.label)}", colour)
        if found.held_out is not None and found.held_out.ngrams not in drawn:
            drawn.append(found.held_out.ngrams)
            _draw_line(axes, found.held_out.ngrams, "held-out text", "0.4", dashed=True)
    axes.set_title("n-grams that stand in the training text", size=10)
    axes.set_xlabel("n")
    _finish(axes)


def _draw_line(
    axes: Axes, shares: dict[int, float], label: str, colour: str, *, dashed: bool = False
) -> None:
    axes.plot(
        list(shares),
        list(shares.values()),
        color=colour,
        label=label,
        linestyle="--" if dashed else "-",
        marker="o",
        markersize=4,
    )


def _draw_log(
    axes: Axes, label: str, log: dict[str, list[tuple[float, float]]], held_out: Copied | None
) -> None:
    for number, (name, points) in enumerate(log.items()):
        n = next((n for n, metric in NGRAMS.items() if metric == name), None)
        title = "whole lines" if n is None else f"{n}-grams"
        axes.plot(*zip(*points, strict=True), color=f"C{number}", label=title, marker="o", ms=3)
        if held_out is not None and n in held_out.ngrams:
            axes.axhline(held_out.ngrams[n], color=f"C{number}", linestyle="--", linewidth=1)
    axes.set_title(f"in training, {label}; dashed: held-out text", size=10)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes)


def _finish(axes: Axes) -> None:
    # shares go from one half down to thousandths, and to 0, which a logarithmic axis has not
    axes.set_yscale("symlog", linthresh=0.001, linscale=0.4)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("share")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _size(copied: Copied) -> str:
    texts = "text" if copied.texts == 1 else "texts"
    return f"{copied.characters:,} characters, {copied.texts:,} {texts}"
