"""Runs grouped by their settings, one table for each text and task, the best group first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lyricgen.errors import UserError
from lyricgen.reporting.paired_test import LEVEL, Difference, Mean, mean, paired_test
from lyricgen.reporting.records import Record
from lyricgen.reporting.selection import check_known, setting, shown
from lyricgen.reporting.settings import Value
from lyricgen.reporting.varied import CORPUS, follows, varied

HELD_OUT = "val/perplexity"  # what sweeps compare, where something is held out
# Figures by which runs are ranked: of these the smallest is best, of the others the largest.
SMALLEST = ("loss", "perplexity", "bits_per_char", "parameters", "wall_seconds")
LARGEST = ("chars_per_second",)

Place = tuple[Value, ...]


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
        """How many runs have no figure, and what became of them."""
        counts = Counter(map(became, self.others))
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

    def verdict(self, cell: Cell) -> str:
        """What the test says of a cell beside the best one, in the words of `evaluate`."""
        if cell.difference is None or cell.difference.p is None:
            return ""
        if cell.difference.p >= LEVEL:
            return "not told apart"
        return "worse" if sign_of(self.metric) * cell.difference.value > 0 else "better"


def compare(
    records: Sequence[Record], by: Sequence[str], over: Sequence[str], metric: str | None
) -> list[Comparison]:
    """Group runs.

    Args:
        records: at least one.
        by: settings to group by; none for those that vary.
        over: settings to average over.
        metric: to rank by; None for the held-out perplexity.

    Returns:
        A comparison for each text and task.

    Raises:
        UserError: a setting or a figure that no run has.
    """
    check_known(by, records, "--by")
    if list(over) != ["seed"]:  # which holds by default, also where no run has got so far
        check_known(over, records, "--over")
    if metric is not None:
        _check_metric(metric, records)
    groups: dict[Place, list[Record]] = {}
    for record in records:
        groups.setdefault(_place(record, CORPUS), []).append(record)
    names = _names(list(groups))
    return [
        _compare(group, name, by, over, metric)
        for name, group in zip(names, groups.values(), strict=True)
    ]


def sign_of(metric: str) -> int:
    """1 for a figure of which the smallest is best, else -1."""
    return -1 if metric.endswith(LARGEST) else 1


def became(record: Record) -> str:
    """What to call a run that has no figure."""
    return "without a figure" if record.status == "finished" else record.status


def _compare(
    records: list[Record],
    name: str,
    by: Sequence[str],
    over: Sequence[str],
    metric: str | None,
) -> Comparison:
    prefix = "pseudo_" if records[0].settings.get("objective") == "fill" else ""
    metric = _metric(records, prefix, metric)
    found = varied(records, over)
    keys = tuple(by or found or ["name"])
    settings = [record.settings for record in records]
    mixed = [key for key in found if key not in keys and not follows(key, [*keys, *over], settings)]
    cells: dict[Place, dict[Place, list[Record]]] = {}
    for record in records:
        cell = cells.setdefault(_place(record, keys), {})
        cell.setdefault(_place(record, (*over, *mixed)), []).append(record)
    kept = {
        settings: {place: _newest(repeats, metric) for place, repeats in cell.items()}
        for settings, cell in cells.items()
    }
    repeated = len(records) - sum(map(len, kept.values()))
    ordered = _ranked([_cell(*item, metric) for item in kept.items()], metric)
    return Comparison(name, prefix, metric, keys, tuple(over), tuple(mixed), ordered, repeated)


def _cell(settings: Place, runs: dict[Place, Record], metric: str) -> Cell:
    scored = {place: run for place, run in runs.items() if _has(run, metric)}
    others = [run for run in runs.values() if not _has(run, metric)]
    values = [run.figures[metric] for run in scored.values()]
    return Cell(settings, scored, others, mean(values) if values else None)


def _ranked(cells: list[Cell], metric: str) -> list[Cell]:
    """The cells, best first, each with its difference to the best."""
    sign = sign_of(metric)
    unscored = [cell for cell in cells if cell.mean is None]
    scored = [cell for cell in cells if cell.mean is not None]
    scored.sort(key=lambda cell: sign * cell.mean.value if cell.mean else 0)
    for place, cell in enumerate(scored[1:], 1):
        difference = _difference(cell, scored[0], metric)
        scored[place] = Cell(cell.settings, cell.scored, cell.others, cell.mean, difference)
    return scored + unscored


def _difference(cell: Cell, best: Cell, metric: str) -> Difference | None:
    pairs = [
        run.figures[metric] - best.scored[place].figures[metric]
        for place, run in cell.scored.items()
        if place in best.scored
    ]
    if pairs:
        return paired_test(pairs)
    if cell.mean is None or best.mean is None:
        return None
    return Difference(cell.mean.value - best.mean.value, None, 0)


def _metric(records: Sequence[Record], prefix: str, metric: str | None) -> str:
    """The figure to rank by, under the name that it has in this task."""
    part, _, figure = (metric or HELD_OUT).rpartition("/")
    if figure in ("perplexity", "bits_per_char"):
        figure = prefix + figure
    name = f"{part}/{figure}" if part else figure
    if metric is None and not any(name in record.figures for record in records):
        return f"train/{figure}"  # where nothing is held out
    return name


def _check_metric(metric: str, records: Sequence[Record]) -> None:
    known = {name for record in records for name in record.figures}
    known |= {name.replace("pseudo_", "") for name in known}
    rankable = sorted(name for name in known if name.endswith((*SMALLEST, *LARGEST)))
    if metric not in rankable:
        raise UserError(f"--metric {metric}: no run has it; there is {', '.join(rankable)}")


def _place(record: Record, keys: Sequence[str]) -> Place:
    return tuple(setting(record, key) for key in keys)


def _has(record: Record, metric: str) -> bool:
    return record.status == "finished" and metric in record.figures


def _newest(repeats: list[Record], metric: str) -> Record:
    return max(repeats, key=lambda run: (_has(run, metric), run.started))


def _names(places: list[Place]) -> list[str]:
    """What to call texts: by their kind or file, and by what else tells them apart."""
    names = []
    for place in places:
        values = dict(zip(CORPUS, place, strict=True))
        kind, path = values["data"], values["data.path"]
        told = Path(path).name if kind == "text" and isinstance(path, str) else shown(kind)
        alike = [dict(zip(CORPUS, one, strict=True)) for one in places if one[1] == kind]
        differing = [
            key for key in CORPUS if key != "data" and len({one[key] for one in alike}) > 1
        ]
        more = ", ".join(f"{key}={shown(values[key])}" for key in differing)
        names.append(f"{told}, {more}" if more else told)
    return names
