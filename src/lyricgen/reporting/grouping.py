"""Runs grouped by their settings, one table for each text and task, the best group first."""

from collections.abc import Sequence
from pathlib import Path

from lyricgen.errors import UserError
from lyricgen.reporting.comparison import (
    HELD_OUT,
    LARGEST,
    SMALLEST,
    Cell,
    Comparison,
    Place,
    sign_of,
)
from lyricgen.reporting.paired_test import Difference, mean, paired_test
from lyricgen.reporting.records import Record
from lyricgen.reporting.selection import check_known, setting, shown
from lyricgen.reporting.varied import CORPUS, follows, varied
from lyricgen.suggestions import did_you_mean


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
        meant = did_you_mean(metric, rankable)
        raise UserError(f"--metric {metric}: no run has it{meant}; there is {', '.join(rankable)}")


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
