"""A comparison of runs: cells of those that differ only in what is averaged over, best first."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lyricgen.reporting.records import Record
from lyricgen.reporting.selection import shown, told_apart
from lyricgen.settings import Value

LEVEL = 0.05  # below this probability a difference counts as told apart


HELD_OUT = "val/perplexity"  # what sweeps compare, where something is held out
# Figures by which runs are ranked: of these the smallest is best, of the others the largest.
SMALLEST = ("loss", "perplexity", "bits_per_char", "parameters", "wall_seconds")
LARGEST = ("chars_per_second",)
Place = tuple[Value, ...]


class Mean(NamedTuple):
    """Mean of n values and their sample standard deviation (over n − 1)."""

    value: float
    deviation: float | None  # there is none of a single value
    number: int


class Difference(NamedTuple):
    """How one kind of run differs from another.

    Attributes:
        value: the mean of the differences of pairs; where there is no pair, that of the means.
        p: of a difference as large by chance alone; None for fewer than two pairs, and for pairs
            that all differ by the same.
        pairs: their number.
    """

    value: float
    p: float | None
    pairs: int


def mean(values: Sequence[float]) -> Mean:
    """Mean and deviation of at least one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Mean(statistics.fmean(values), deviation, len(values))


def paired_test(differences: Sequence[float]) -> Difference:
    """Student's paired t-test, two-sided, on the differences of at least one pair."""
    value, deviation, number = mean(differences)
    # equal but for rounding: as of n-grams, which no seed changes
    if deviation is None or deviation <= 1e-12 * max(map(abs, differences)):
        return Difference(value, None, number)
    t = value / (deviation / math.sqrt(number))
    return Difference(value, two_sided_p(t, number - 1), number)


def two_sided_p(t: float, degrees: int) -> float:
    """The probability of a |t| at least as large, for a whole number ν of degrees of freedom.

    The finite series in θ = atan(t/√ν) of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan(abs(t) / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1 - inside)


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but what is averaged over.

    Attributes:
        settings: by which the table is grouped.
        scored: the finished runs that have the figure, by what is averaged over.
        others: the runs that have none.
        mean: of the figure, None where there is none.
        difference: to the best cell.
    """

    settings: Place
    scored: dict[Place, Record]
    others: list[Record]
    mean: Mean | None
    difference: Difference | None = None

    def figure(self, name: str) -> Mean | None:
        """The mean of another figure over the same runs."""
        records = self.scored.values()
        values = [record.figures[name] for record in records if name in record.figures]
        return mean(values) if values else None

    @property
    def marks(self) -> str:
        """How many runs have no figure, and why."""
        counts = Counter(map(reason_without_figure, self.others))
        return ", ".join(f"{number} {status}" for status, number in counts.items())


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
        cells: the best first, those without a figure last.
        repeated: runs that were left out since a later one has the same settings.
    """

    name: str
    prefix: str
    metric: str
    keys: tuple[str, ...]
    over: tuple[str, ...]
    mixed: tuple[str, ...]
    cells: list[Cell]
    repeated: int

    @property
    def records(self) -> list[Record]:
        """All that are in a cell."""
        return [one for cell in self.cells for one in (*cell.scored.values(), *cell.others)]

    @property
    def ranked(self) -> list[Cell]:
        """The cells that have a figure."""
        return [cell for cell in self.cells if cell.mean is not None]

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

    def verdict(self, cell: Cell) -> str:
        """Verdict of the test against the best row, in the words of `evaluate`."""
        if cell.difference is None or cell.difference.p is None:
            return ""
        if cell.difference.p >= LEVEL:
            return "not told apart"
        return "worse" if sign_of(self.metric) * cell.difference.value > 0 else "better"


def sign_of(metric: str) -> int:
    """1 for a figure of which the smallest is best, else -1."""
    return -1 if metric.endswith(LARGEST) else 1


def reason_without_figure(record: Record) -> str:
    """Reason why a run has no figure."""
    return "without a figure" if record.status == "finished" else record.status
