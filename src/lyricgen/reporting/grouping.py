"""Runs grouped by their settings, one table for each text and task, the best group first."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lyricgen.errors import UserError
from lyricgen.reporting.comparison import (
    HELD_OUT,
    LARGEST,
    SMALLEST,
    Cell,
    Comparison,
    Place,
    rank,
)
from lyricgen.reporting.records import Record, check_known, setting, shown
from lyricgen.settings import DECIDING, PLUMBING, SPLITTING, Settings, Value, belongs_to
from lyricgen.suggestions import did_you_mean

# What tells two tasks apart, beside the digest of the text: other runs are never in one table.
TASK = ("objective", *(f"data.{name}" for name in SPLITTING))
# What tells texts and tasks apart where the digest is not known.
CORPUS = ("objective", "data", *(f"data.{name}" for name in DECIDING if name != "kind"))
# What does not change what is learnt makes no column, unless one sweep tries several of it.
_NO_COLUMN = (*PLUMBING, "data.max_bytes", "debug")
_NEVER = ("name", "resume")


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
    groups = _by_text(records)
    return [
        _compare(group, name, by, over, metric)
        for name, group in zip(_names(groups), groups, strict=True)
    ]


def _by_text(records: Sequence[Record]) -> list[list[Record]]:
    """The runs of each text and task: by digest; old runs, which have none, by their settings.

    A job that has not read its text stands beside runs with the same settings: those of its own
    sweep, else the latest.
    """
    groups: dict[Place, list[Record]] = {}
    places: dict[Place, dict[Place, None]] = {}  # of the groups, by the settings of their texts
    without: list[Record] = []
    for record in records:
        settings = _place(record, CORPUS)
        if record.summary.corpus_digest is not None:
            place: Place = (record.summary.corpus_digest, *_place(record, TASK))
        elif any("/" in name for name in record.figures):
            place = settings
        else:
            without.append(record)
            continue
        groups.setdefault(place, []).append(record)
        places.setdefault(settings, {})[place] = None
    for record in without:
        settings = _place(record, CORPUS)
        known = places.get(settings, {settings: None})
        place = max(known, key=lambda one: _nearness(record, groups.get(one, [])))
        groups.setdefault(place, []).append(record)
    return list(groups.values())


def _nearness(record: Record, group: Sequence[Record]) -> tuple[bool, str]:
    same_sweep = any(record.sweep is not None and other.sweep == record.sweep for other in group)
    return same_sweep, max((other.summary.started for other in group), default="")


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
    ranked = rank([_cell(*item, metric) for item in kept.items()], metric, prefix)
    return Comparison(name, prefix, metric, keys, tuple(over), tuple(mixed), repeated, *ranked)


def _cell(settings: Place, runs: dict[Place, Record], metric: str) -> Cell:
    scored = {place: run for place, run in runs.items() if _has(run, metric)}
    others = [run for run in runs.values() if not _has(run, metric)]
    return Cell(settings, scored, others)


def _metric(records: Sequence[Record], prefix: str, metric: str | None) -> str:
    """The figure to rank by, under the name that it has in this task."""
    split, _, figure = (metric or HELD_OUT).rpartition("/")
    if figure in ("perplexity", "bits_per_char"):
        figure = prefix + figure
    name = f"{split}/{figure}" if split else figure
    if metric is None and not any(name in record.figures for record in records):
        return f"train/{figure}"  # where nothing is held out
    return name


def _check_metric(metric: str, records: Sequence[Record]) -> None:
    known = {name for record in records for name in record.figures}
    known |= {name.replace("pseudo_", "") for name in known}
    rankable = sorted(name for name in known if name.endswith((*SMALLEST, *LARGEST)))
    if metric not in rankable:
        meant = did_you_mean(metric, rankable)
        raise UserError(f"--metric {metric}: no run has it (there is {', '.join(rankable)}){meant}")


def _place(record: Record, keys: Sequence[str]) -> Place:
    return tuple(setting(record, key) for key in keys)


def _has(record: Record, metric: str) -> bool:
    return record.summary.status == "finished" and metric in record.figures


def _newest(repeats: list[Record], metric: str) -> Record:
    return max(repeats, key=lambda run: (_has(run, metric), run.summary.started))


def _names(groups: Sequence[Sequence[Record]]) -> list[str]:
    """Name texts by kind or file, and by whatever else distinguishes them."""
    texts = [dict(zip(CORPUS, _place(group[0], CORPUS), strict=True)) for group in groups]
    files = [_file_of(text) for text in texts]
    names = []
    for text, file in zip(texts, files, strict=True):
        alike = [other for other, name in zip(texts, files, strict=True) if name == file]
        differing = [
            key for key in CORPUS if key != "data" and len({one[key] for one in alike}) > 1
        ]
        names.append(", ".join([file, *(f"{key}={shown(text[key])}" for key in differing)]))
    return [
        name if names.count(name) == 1 else f"{name}, {_digest_of(group)}"
        for name, group in zip(names, groups, strict=True)
    ]


def _file_of(text: dict[str, Value]) -> str:
    kind, path = text["data"], text["data.path"]
    return Path(path).name if kind == "text" and isinstance(path, str) else shown(kind)


def _digest_of(group: Sequence[Record]) -> str:
    digests = (run.summary.corpus_digest for run in group)
    digest = next((digest for digest in digests if digest is not None), None)
    return "text without a digest" if digest is None else f"text {digest[:8]}"


def varied(records: Sequence[Record], over: Sequence[str]) -> list[str]:
    """The settings in which runs differ.

    Args:
        records: runs of one text and task.
        over: settings to average over, which are not asked for.

    Returns:
        What was typed and differs, in that order; then options that differ between runs that
        agree in all of these.
    """
    settings = [record.settings for record in records]
    options = {key for record in records for key in record.options}
    tried = _tried(records)
    differing = [
        key
        for key in _keys(settings)
        if len({one[key] for one in settings if key in one}) > 1
        and key not in (*over, *_NEVER, *CORPUS)
        and (key in tried or not _is_plumbing(key))
        # a group that is no option, as depth=deep, is known only of runs that it was typed for
        and (key in options or all(key in one for one in settings))
    ]
    chosen = [key for key in _keys(record.overrides for record in records) if key in differing]
    for key in sorted(differing, key=lambda key: key.count(".")):
        if key not in chosen and not follows(key, [*chosen, *over], settings):
            chosen.append(key)
    return chosen


def follows(key: str, others: Sequence[str], settings: Sequence[Settings]) -> bool:
    """Whether runs that agree in other settings agree in this one, too."""
    found: dict[tuple[Value, ...], Value] = {}
    for one in settings:
        place = tuple(one.get(name) for name in others)
        if key in one and found.setdefault(place, one[key]) != one[key]:
            return False
    return True


def _keys(each: Iterable[Settings]) -> list[str]:
    return list(dict.fromkeys(key for one in each for key in one))


def _tried(records: Sequence[Record]) -> set[str]:
    """Settings of which one sweep tries several values."""
    values: dict[tuple[Path, str], set[Value]] = {}
    for record in records:
        for key, value in record.overrides.items():
            if record.sweep is not None:
                values.setdefault((record.sweep, key), set()).add(value)
    return {key for (_, key), found in values.items() if len(found) > 1}


def _is_plumbing(key: str) -> bool:
    return key == "trainer" or belongs_to(key, _NO_COLUMN)
