"""A comparison of runs: one row for those that differ only in what is averaged over, best first."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from mpmath import betainc

from lyricgen.reporting.records import Record, shown, told_apart
from lyricgen.settings import Value

LEVEL = 0.05  # below this probability a difference counts as told apart
HELD_OUT = "val/perplexity"  # what sweeps compare, where something is held out
# Figures by which runs are ranked: of these the smallest is best, of the others the largest.
SMALLEST = ("loss", "perplexity", "bits_per_char", "parameters", "wall_seconds")
LARGEST = ("chars_per_second",)
# Figures whose means stand beside the one that ranks a row.
FIGURES = ("parameters", "chars_per_second", "wall_seconds", "best_epoch")

Place = tuple[Value, ...]


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but what is averaged over.

    Attributes:
        settings: by which the table is grouped.
        scored: the finished runs that have the figure, by what is averaged over.
        others: the runs that have none.
    """

    settings: Place
    scored: dict[Place, Record]
    others: list[Record]


@dataclass(frozen=True)
class Comparison:
    """The runs of one text and task, side by side.

    Attributes:
        name: of the text.
        prefix: of the names of its perplexities: "pseudo_" where gaps are filled.
        metric: that the cells are ranked by.
        keys: settings by which runs are grouped.
        over: settings that are averaged over.
        mixed: settings that differ within cells, though they are neither.
        repeated: runs that were left out since a later one has the same settings.
        cells: the best first, those without a figure last.
        rows: figures of each cell, by the names that docs/report.md explains.
    """

    name: str
    prefix: str
    metric: str
    keys: tuple[str, ...]
    over: tuple[str, ...]
    mixed: tuple[str, ...]
    repeated: int
    cells: list[Cell]
    rows: pd.DataFrame

    @property
    def records(self) -> list[Record]:
        """All that are in a cell."""
        return [one for cell in self.cells for one in (*cell.scored.values(), *cell.others)]

    @property
    def ranked(self) -> list[Cell]:
        """The cells that have a figure."""
        return [cell for cell in self.cells if cell.scored]

    def label(self, cell: Cell) -> str:
        """A cell in words."""
        pairs = zip(self.keys, cell.settings, strict=True)
        return ", ".join(f"{key} {shown(value)}" for key, value in pairs)

    def short_label(self, cell: Cell) -> str:
        """A cell by what tells it from the others, for a legend."""
        columns = zip(*(each.settings for each in self.cells), strict=True)
        told = [told_apart(list(map(shown, column))) for column in columns]
        place = self.cells.index(cell)
        pairs = ((key, texts[place]) for key, texts in zip(self.keys, told, strict=True))
        return ", ".join(f"{key} {text}" for key, text in pairs)


def rank(cells: Sequence[Cell], metric: str, prefix: str) -> tuple[list[Cell], pd.DataFrame]:
    """The cells, the best first, and a row of figures for each."""
    names = {"mean": metric, "test_perplexity": f"test/{prefix}perplexity"}
    names |= {name: name for name in FIGURES}
    runs = pd.DataFrame(
        [
            (number, place, *map(run.figures.get, names.values()))
            for number, cell in enumerate(cells)
            for place, run in cell.scored.items()
        ],
        columns=["cell", "pair", *names],
    ).astype(dict.fromkeys(names, float))
    grouped = runs.groupby("cell")[list(names)]
    rows = grouped.mean().reindex(range(len(cells)))
    deviations = grouped.std().reindex(rows.index)
    rows.insert(0, "n", [len(cell.scored) for cell in cells])
    rows.insert(2, "deviation", deviations["mean"])
    rows["test_deviation"] = deviations["test_perplexity"]
    rows["incomplete"] = [_marks(cell) for cell in cells]
    told = ([run.summary.reason for run in cell.others if run.summary.reason] for cell in cells)
    rows["reasons"] = ["; ".join(dict.fromkeys(reasons)) for reasons in told]
    sign = sign_of(metric)
    rows = rows.sort_values("mean", key=lambda means: sign * means, kind="stable")
    values = runs.assign(pair=pd.factorize(runs["pair"])[0]).pivot(
        index="pair", columns="cell", values="mean"
    )
    compared = [_beside_best(rows, values, number, sign) for number in rows.index]
    beside = pd.DataFrame(compared, rows.index, ["difference", "p", "pairs", "verdict"])
    beside["pairs"] = beside["pairs"].astype("Int64")
    for place, name in enumerate(beside, 3):
        rows.insert(place, name, beside[name])
    return [cells[number] for number in rows.index], rows.reset_index(drop=True)


def _beside_best(
    rows: pd.DataFrame, values: pd.DataFrame, number: int, sign: int
) -> tuple[float | None, float | None, int | None, str]:
    """Difference of a cell to the best, p, the number of pairs and the verdict.

    Args:
        rows: the figures of all cells, the best first.
        values: the figure that ranks, by pair and cell.
        number: of the cell.
        sign: 1 where the smallest figure is best, else -1.
    """
    best = rows.index[0]
    if number == best or number not in values:
        return None, None, None, ""
    pairs = (values[number] - values[best]).dropna()
    if pairs.empty:
        return rows["mean"][number] - rows["mean"][best], None, 0, ""
    difference, p = float(pairs.mean()), paired_test(pairs)
    verdict = "" if p is None else "not told apart"
    if p is not None and p < LEVEL:
        verdict = "worse" if sign * difference > 0 else "better"
    return difference, p, len(pairs), verdict


def paired_test(differences: "pd.Series[float]") -> float | None:
    """Probability of Student's paired t-test, two-sided, on the differences of pairs.

    None for a single pair, and for pairs that all differ by the same. The probability that |t| is
    exceeded is the regularised incomplete beta function I(ν/2, 1/2) at ν/(ν + t²), ν = n - 1
    (Abramowitz and Stegun 1964, 26.7.1). It is mpmath's, which torch brings along: Lightning would
    import scipy at every start of training once it is installed.
    """
    # equal but for rounding: as of n-grams, which no seed changes
    if len(differences) < 2 or differences.std() <= 1e-12 * differences.abs().max():
        return None
    freedom = len(differences) - 1
    t = float(differences.mean()) / (float(differences.std()) / math.sqrt(len(differences)))
    return float(betainc(freedom / 2, 0.5, 0, freedom / (freedom + t**2), regularized=True))


def sign_of(metric: str) -> int:
    """1 for a figure of which the smallest is best, else -1."""
    return -1 if metric.endswith(LARGEST) else 1


def _marks(cell: Cell) -> str:
    """How many runs have no figure, and why."""
    counts = Counter(map(reason_without_figure, cell.others))
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def reason_without_figure(record: Record) -> str:
    """Reason why a run has no figure."""
    status = record.summary.status
    return "without a figure" if status == "finished" else status
