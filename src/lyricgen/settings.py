"""Settings of runs under flat names, such as optimizer.lr."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Value = str | int | float | bool | None
Settings = Mapping[str, Value]

# Settings of data= that decide which characters of a text are held out.
SPLITTING = ("unit", "val_fraction", "test_fraction", "max_held_out", "split_seed")
# Settings of data= that decide the text and which characters are held out.
DECIDING = (
    *("kind", "path", "max_chars", "lowercase", "distinct", "newline", "encoding"),
    *("control_characters", *SPLITTING),
)
# Settings that older runs do not record: a group, its choice (None: any), and the settings with
# their values in those runs.
ADDED: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("callbacks", None, {"average": {"enabled": False, "decay": 0.98}}),
    ("data", None, {"control_characters": "refuse"}),
    ("sampler", "random", {"drop_last": True}),
    (
        *("model", "recurrent"),
        {
            **{"locked_dropout": False, "embedding_dropout": 0.0, "weight_drop": 0.0},
            **{"noise": 0.0, "noise_kind": "unigram"},
        },
    ),
    ("cell", "lstm_coupled", {"kernel": "fused"}),
    ("cell", None, {"kernel": "torch"}),
)
# Groups and settings that an n-gram model does not read.
NETWORKS = (
    *("layers", "hidden_size", "cell", "depth", "loss", "optimizer", "scheduler", "trainer"),
    "callbacks.average",
)
# Settings of the machine, of callbacks and of logs, which do not change what a step learns.
PLUMBING = (
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.profiler"),
    "cell.kernel",
    *("callbacks", "logger", "name", "resume"),
)


def is_plumbing(name: str) -> bool:
    """Whether a setting belongs to `PLUMBING`; an average of the weights belongs to the model."""
    return belongs_to(name, PLUMBING) and not belongs_to(name, ["callbacks.average"])


def belongs_to(name: str, options: Sequence[str]) -> bool:
    """Whether a setting is one of the options, or belongs to a group among them."""
    return any(name == option or name.startswith(f"{option}.") for option in options)


def complete(options: dict[str, Any]) -> dict[str, Any]:
    """Copy recorded options, and add the settings of `ADDED` that their groups lack."""
    for group, choice, added in ADDED:
        recorded = options.get(group)
        if isinstance(recorded, dict) and choice in (None, recorded.get("kind")):
            options = options | {group: added | recorded}
    return options


def keep_kernel(options: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """Copy options; a run's recorded kernel replaces cell.kernel=auto."""
    cell, before = options.get("cell"), complete(recorded).get("cell")
    if isinstance(cell, dict) and isinstance(before, dict) and cell.get("kernel") == "auto":
        return options | {"cell": cell | {"kernel": before["kernel"]}}
    return options


def flatten(options: Mapping[str, Any]) -> dict[str, Value]:
    """Turn nested options into settings with flat names, such as optimizer.lr.

    The kind of a group gets the name of the group. Lists, and values of any class other than those
    of `Value`, become texts.
    """
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
    """Leave out `NETWORKS` from the settings of an n-gram model; return other settings whole."""
    if settings.get("model") != "ngram":
        return settings
    return {name: value for name, value in settings.items() if not belongs_to(name, NETWORKS)}


def key(override: str) -> str:
    """Key of an override: cell for cell=lstm, sampler for ++sampler@x=random."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def override_text(value: Value) -> str:
    """Write a value as a user types it, without quotation marks."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_overrides(overrides: Iterable[str]) -> dict[str, Value]:
    """Parse overrides `key=value` into keys and values; leave out removals, which begin with ~."""
    typed = [one for one in overrides if "=" in one and not one.startswith("~")]
    return {key(one): parse_value(one.partition("=")[2]) for one in typed}


def parse_value(text: str) -> Value:
    """Parse a typed value: null, true, false, a finite number or a text, with or without quotes."""
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
