"""Settings in which runs differ, without those that follow from others."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lyricgen.reporting.records import Record
from lyricgen.settings import DECIDING, PLUMBING, SPLITTING, Settings, Value, belongs_to

# What tells two tasks apart, beside the digest of the text: other runs are never in one table.
TASK = ("objective", *(f"data.{name}" for name in SPLITTING))
# What tells texts and tasks apart where the digest is not known.
CORPUS = ("objective", "data", *(f"data.{name}" for name in DECIDING if name != "kind"))
# What does not change what is learnt makes no column, unless one sweep tries several of it.
_NO_COLUMN = (*PLUMBING, "data.max_bytes", "debug")
_NEVER = ("name", "resume")


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
