"""Selection of runs by --where."""

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile

from lyricgen.errors import UserError
from lyricgen.reporting.records import Record
from lyricgen.settings import Value, parse_value, typed_value
from lyricgen.suggestions import did_you_mean

ABSENT = "–"
_SHORT = 24  # characters of a value that need not be cut
Conditions = dict[str, list[str]]  # what a setting has to be, one of these


def parse_conditions(typed: Iterable[str]) -> Conditions:
    """Conditions as they were typed: `cell=lstm,gru`, or `cell=lstm,layers=2`.

    Raises:
        UserError: one has no `=`.
    """
    conditions: Conditions = {}
    for one in typed:
        key = ""
        for piece in re.split(r",(?![^\[]*\])", one):  # a comma within a list is the list's
            name, equals, value = piece.partition("=")
            if equals and name.strip():
                key = name.strip()
            elif not key:
                raise UserError(f"--where {one}: say of which setting, as in --where cell=lstm")
            conditions.setdefault(key, []).append((value if equals else piece).strip())
    return conditions


def select(records: Sequence[Record], conditions: Conditions) -> list[Record]:
    """The records that fulfil all conditions.

    Raises:
        UserError: no run has such a setting, or none fulfils them.
    """
    check_known(conditions, records, "--where")
    chosen = list(records)
    for key, values in conditions.items():
        left = [record for record in chosen if _among(setting(record, key), values)]
        if not left:
            there = ", ".join(sorted({shown(setting(record, key)) for record in chosen}))
            raise UserError(f"no run has --where {key}={','.join(values)}: there is {there}")
        chosen = left
    return chosen


def check_known(keys: Iterable[str], records: Sequence[Record], option: str) -> None:
    """Refuse settings that no run has.

    Raises:
        UserError: with the names that come near.
    """
    known = {"status"}.union(*(record.settings for record in records))
    for key in keys:
        if key not in known:
            meant = did_you_mean(key, known) or "; settings are cell, layers, optimizer.lr, …"
            raise UserError(f"{option} {key}: no run has this setting{meant}")


def setting(record: Record, key: str) -> Value:
    """A setting of a run, or its status; a dash where it has none."""
    return record.summary.status if key == "status" else record.settings.get(key, ABSENT)


def shown(value: Value) -> str:
    """A value as it is typed; a fraction in six digits."""
    return f"{value:.6g}" if isinstance(value, float) else typed_value(value)


def told_apart(texts: Sequence[str]) -> list[str]:
    """Shorten long texts: … stands for the beginning and the end that they share."""
    if len(set(texts)) < 2 or max(map(len, texts)) <= _SHORT:
        return list(texts)
    start = _common_start(texts)
    rest = [text[len(start) :] for text in texts]
    end = _common_start([text[::-1] for text in rest])
    middle = [text[: len(text) - len(end)] for text in rest]
    return [f"{'…' if start else ''}{text}{'…' if end else ''}" for text in middle]


def _common_start(texts: Sequence[str]) -> str:
    """The beginning that texts have in common, up to a whole word."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    return re.sub(r"\w*$", "", "".join(characters[0] for characters in alike))


def _among(value: Value, typed: Sequence[str]) -> bool:
    return any(value == parse_value(one) or str(value) == one for one in typed)
