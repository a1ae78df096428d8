"""Settings of runs under flat names, as their options have them or as they were typed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Value = str | int | float | bool | None
Settings = Mapping[str, Value]

# Settings of data= that decide which characters of a text are held out.
SPLITTING = ("unit", "val_fraction", "test_fraction", "max_held_out", "split_seed")
# The same, and the settings that decide what the text is.
DECIDING = (
    *("kind", "path", "max_chars", "lowercase", "distinct", "newline", "encoding"),
    *("control_characters", *SPLITTING),
)
# Settings that older runs do not record: group, its choice (None: any), and the values by which
# these runs worked.
ADDED: tuple[tuple[str, str | None, dict[str, Value]], ...] = (
    ("data", None, {"control_characters": "refuse"}),
    ("sampler", "random", {"drop_last": True}),
)
# Groups and settings that n-grams do not know.
NETWORKS = ("layers", "hidden_size", "cell", "depth", "loss", "optimizer", "scheduler", "trainer")
# Settings of the machine and of watching, which do not change what is learnt.
PLUMBING = (
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.profiler"),
    *("callbacks", "logger", "name", "resume"),
)


def belongs_to(name: str, options: Sequence[str]) -> bool:
    """Whether a setting is one of these, or stands below one that is a group."""
    return any(name == option or name.startswith(f"{option}.") for option in options)


def complete(options: dict[str, Any]) -> dict[str, Any]:
    """Recorded options with the settings that were added since."""
    for group, choice, added in ADDED:
        recorded = options.get(group)
        if isinstance(recorded, dict) and choice in (None, recorded.get("kind")):
            options = options | {group: added | recorded}
    return options


def flatten(options: Mapping[str, Any]) -> dict[str, Value]:
    """Options as flat keys, the kind of a group under the group's name; lists as text."""
    flat: dict[str, Value] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            for inner, entry in flatten(value).items():
                flat[name if inner == "kind" else f"{name}.{inner}"] = entry
        elif isinstance(value, list | tuple):
            flat[name] = str(list(value))
        else:
            flat[name] = value if value is None or isinstance(value, int | float) else str(value)
    return flat


def known_to_model(settings: dict[str, Value]) -> dict[str, Value]:
    """Settings without those that an n-gram model does not read."""
    if settings.get("model") != "ngram":
        return settings
    return {name: value for name, value in settings.items() if not belongs_to(name, NETWORKS)}


def key(override: str) -> str:
    """Key that an override sets: cell of cell=lstm, sampler of ++sampler@x=random."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def typed_value(value: Value) -> str:
    """A value as it is typed."""
    return (
        str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
    )


def parse_overrides(overrides: Iterable[str]) -> dict[str, Value]:
    """Keys and values of overrides `key=value`, without removals `~key=value`."""
    typed = [one for one in overrides if "=" in one and not one.startswith("~")]
    return {key(one): parse_value(one.partition("=")[2]) for one in typed}


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
