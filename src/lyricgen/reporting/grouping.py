"""Texts and tasks of runs, and the settings in which runs differ."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lyricgen.reporting.records import Record, format_value
from lyricgen.settings import (
    DECIDING,
    SPLITTING,
    Settings,
    Value,
    belongs_to,
    is_plumbing,
    name_files,
)

# What a model learns; runs that differ in it are never in one table.
LEARNT = ("objective", "memory", "memory.scope", "memory.size")
# Settings that distinguish runs on texts with the same digest.
TASK = (*LEARNT, *(f"data.{name}" for name in SPLITTING))
# Settings that distinguish runs on texts without a digest.
CORPUS = (*LEARNT, "data", *(f"data.{name}" for name in DECIDING if name != "kind"))
# Settings besides plumbing that make no column, unless a sweep tries several values.
_NO_COLUMN = ("data.max_bytes", "debug")

Values = tuple[Value, ...]


def group_by_text(records: Sequence[Record]) -> list[list[Record]]:
    """Group runs that learn the same task on the same text.

    The digest identifies a text. An old run has no digest, so its settings identify the text. A job
    that failed before it read its text joins runs with the same settings, preferably of its own
    sweep, else the latest.
    """
    texts: dict[Values, list[Record]] = {}
    by_settings: dict[Values, dict[Values, None]] = {}  # keys of `texts`
    unread: list[Record] = []
    for record in records:
        settings = record.values(CORPUS)
        if record.summary.corpus_digest is not None:
            text: Values = (record.summary.corpus_digest, *record.values(TASK))
        elif any("/" in name for name in record.figures):
            text = settings
        else:
            unread.append(record)
            continue
        texts.setdefault(text, []).append(record)
        by_settings.setdefault(settings, {})[text] = None
    for record in unread:
        settings = record.values(CORPUS)
        candidates = by_settings.get(settings, {settings: None})
        text = max(candidates, key=lambda each: _nearness(record, texts.get(each, [])))
        texts.setdefault(text, []).append(record)
    return list(texts.values())


def _nearness(record: Record, runs: Sequence[Record]) -> tuple[bool, str]:
    same_sweep = any(record.sweep is not None and other.sweep == record.sweep for other in runs)
    return same_sweep, max((other.summary.started for other in runs), default="")


def name_texts(texts: Sequence[Sequence[Record]]) -> list[str]:
    """Name each text by its kind or file; where names are equal, add settings, then digests."""
    settings = [dict(zip(CORPUS, runs[0].values(CORPUS), strict=True)) for runs in texts]
    files = []
    for each, runs in zip(settings, texts, strict=True):
        kind, path = each["data"], each["data.path"]
        recorded: Any = (runs[0].summary.options or {}).get("data")
        several = recorded["path"] if isinstance(recorded, dict) and "path" in recorded else None
        if kind == "text" and isinstance(path, str):
            files.append(name_files(several if isinstance(several, list) else path))
        else:
            files.append(format_value(kind))
    names = []
    for each, file in zip(settings, files, strict=True):
        same = [other for other, name in zip(settings, files, strict=True) if name == file]
        differing = [key for key in CORPUS if len({one[key] for one in same}) > 1 and key != "data"]
        found = [(key, format_value(each[key])) for key in differing]
        names.append(", ".join([file, *(f"{key}={value}" for key, value in found if value != "–")]))
    digests = (runs[0].summary.corpus_digest for runs in texts)
    ends = ["text without a digest" if one is None else f"text {one[:8]}" for one in digests]
    named = zip(names, ends, strict=True)
    return [name if names.count(name) == 1 else f"{name}, {end}" for name, end in named]


def list_varied_settings(records: Sequence[Record], over: Sequence[str]) -> list[str]:
    """List the settings in which runs of one text and task differ.

    The settings in `over`, the names of runs and the settings of the text are left out. A
    setting that does not affect learning is listed only if a sweep tries several of its values.

    Returns:
        First the typed settings that differ, in the order of typing; then the options that still
        differ between runs with equal typed settings.
    """
    settings = [record.settings for record in records]
    options = {key for record in records for key in record.options}
    tried: dict[tuple[Path, str], set[Value]] = {}  # values that a sweep tries
    for record in records:
        for key, value in record.overrides.items():
            if record.sweep is not None:
                tried.setdefault((record.sweep, key), set()).add(value)
    in_sweep = {key for (_, key), values in tried.items() if len(values) > 1}
    differing = [
        key
        for key in _keys(settings)
        if len({one[key] for one in settings if key in one}) > 1
        and key not in (*over, "name", "resume", *CORPUS)
        and (key in in_sweep or (key != "trainer" and not is_plumbing(key)))
        and (key in in_sweep or not belongs_to(key, _NO_COLUMN))
        # a group that is no option, such as depth=deep, is known only where it was typed
        and (key in options or all(key in one for one in settings))
    ]
    chosen = [key for key in _keys(record.overrides for record in records) if key in differing]
    for key in sorted(differing, key=lambda key: key.count(".")):
        if key not in chosen and not follows(key, [*chosen, *over], settings):
            chosen.append(key)
    return chosen


def _keys(each: Iterable[Settings]) -> list[str]:
    return list(dict.fromkeys(key for one in each for key in one))


def follows(key: str, names: Sequence[str], settings: Sequence[Settings]) -> bool:
    """Whether the settings `names` determine the setting `key` in all runs that have it."""
    found: dict[Values, Value] = {}
    for one in settings:
        values = tuple(one.get(name) for name in names)
        if key in one and found.setdefault(values, one[key]) != one[key]:
            return False
    return True
