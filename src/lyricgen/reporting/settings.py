"""Settings of runs, flat: as their options have them, and as they were typed."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lyricgen.comparability import NETWORKS

Value = str | int | float | bool | None
Settings = Mapping[str, Value]


def flatten(options: Mapping[str, Any]) -> dict[str, Value]:
    """Options as flat keys, the kind of a group under the group's name; lists as text."""
    flat: dict[str, Value] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            for name, entry in flatten(value).items():
                flat[key if name == "kind" else f"{key}.{name}"] = entry
        else:
            flat[key] = value if value is None or isinstance(value, int | float) else str(value)
    return known_to_model(flat)


def known_to_model(settings: dict[str, Value]) -> dict[str, Value]:
    """Settings without those that an n-gram model does not read."""
    if settings.get("model") != "ngram":
        return settings
    return {key: value for key, value in settings.items() if key.partition(".")[0] not in NETWORKS}


def parse_overrides(overrides: Iterable[str]) -> dict[str, Value]:
    """What was typed, `key=value`, as keys and values."""
    pairs = (one.lstrip("+").partition("=") for one in overrides if "=" in one)
    return {key.partition("@")[0]: parse_value(text) for key, _, text in pairs}


def parse_value(text: str) -> Value:
    """A value as it would stand in the options: null, true and false, numbers, text."""
    plain = {"null": None, "true": True, "false": False}
    if text.lower() in plain:
        return plain[text.lower()]
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    quoted = len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]
    return text[1:-1] if quoted else text
