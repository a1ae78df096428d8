"""Settings of runs under flat names, such as optimizer.lr."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lyricgen.errors import UserError

Value = str | int | float | bool | None
Settings = Mapping[str, Value]

_PACKAGED = Path(__file__).parent / "conf"  # in a wheel
_CHECKOUT = Path(__file__).parents[2] / "conf"  # in an editable install
CONFIG_DIRECTORY = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT

AUTO = "auto"  # value of a setting that the text or the machine decides

# Settings of data= that decide which characters of a text are held out.
SPLITTING = (
    "unit",
    "separator",
    "verse",
    "val_fraction",
    "test_fraction",
    "max_held_out",
    "split_seed",
)
# Settings of data= that decide the text and which characters are held out.
DECIDING = (
    *("kind", "path", "column", "key", "timestamps", "max_chars", "lowercase", "distinct"),
    *("min_count", "newline", "encoding", "control_characters", *SPLITTING),
)
# Settings that older runs do not record, with their values in those runs.
OLDER: dict[str, Any] = {
    "recipe": "none",
    "effort": "normal",
    "memory": {"kind": "none"},
    "find_lr": False,
}
# The same for settings of groups: a group, its choice (None: any), and the settings.
ADDED: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("callbacks", None, {"average": {"enabled": False, "decay": 0.98}}),
    ("callbacks", None, {"checkpoint": {"every_n_epochs": 1, "keep_best": 1}}),
    ("data", None, {"control_characters": "refuse", "separator": None, "verse": False}),
    ("data", None, {"column": None, "key": None, "timestamps": "drop", "min_count": None}),
    ("logger", None, {"mlflow": None, "wandb": None}),
    ("sampler", "random", {"drop_last": True}),
    ("model", "recurrent", {"weight_drop": 0.0, "noise": 0.0, "noise_kind": "unigram"}),
    ("model", "recurrent", {"locked_dropout": False, "embedding_dropout": 0.0}),
    ("model", "hybrid", {"short_list": None, "older_weight": 0.0}),
    ("cell", "lstm_coupled", {"kernel": "fused"}),
    ("cell", None, {"kernel": "torch"}),
    ("trainer", None, {"accumulate_grad_batches": 1, "max_time": None}),
    ("trainer", None, {"benchmark": False, "detect_anomaly": False}),
)
# Settings that are filled by the text, whatever the recipe, and those of the sampler, which follow.
OF_TEXT = ("data.unit", "data.separator", "data.verse", "data.column", "data.key")
OF_SAMPLER = ("sampler", "sampler.drop_last", "sampler.carry_state")
# Groups and settings that an n-gram model does not read.
NETWORKS = (
    *("recipe", "effort", "layers", "hidden_size", "cell", "depth", "loss", "optimizer"),
    *("scheduler", "trainer", "callbacks.average"),
)
# Settings of the machine, of callbacks and of logs, which do not change what a step learns.
PLUMBING = (
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.profiler"),
    *("trainer.detect_anomaly", "cell.kernel"),
    *("callbacks", "logger", "name", "resume"),
)


def is_plumbing(name: str) -> bool:
    """Whether a setting belongs to `PLUMBING`; an average of the weights belongs to the model."""
    return belongs_to(name, PLUMBING) and not belongs_to(name, ["callbacks.average"])


def belongs_to(name: str, options: Sequence[str]) -> bool:
    """Whether a setting is one of the options, or belongs to a group among them."""
    return any(name == option or name.startswith(f"{option}.") for option in options)


def complete(options: dict[str, Any]) -> dict[str, Any]:
    """Copy recorded options, and add the settings of `OLDER` and `ADDED` that they lack."""
    if "seed" in options:  # a whole configuration; a network's architecture has none
        options = OLDER | options
    for group, choice, added in ADDED:
        recorded = options.get(group)
        if isinstance(recorded, dict) and choice in (None, recorded.get("kind")):
            groups = {name: new for name, new in added.items() if isinstance(new, dict)}
            both = (name for name in groups if isinstance(recorded.get(name), dict))
            inner = {name: groups[name] | recorded[name] for name in both}
            options = options | {group: added | recorded | inner}
    return options


@cache
def plain_settings() -> dict[str, Any]:
    """Read the values that replace `auto` where no recipe does, as a nested dictionary."""
    found: dict[str, Any] = yaml.safe_load((CONFIG_DIRECTORY / "plain.yaml").read_text("utf-8"))
    return found


def group_settings(group: str, choice: str) -> dict[str, Any]:
    """Read the settings of a choice of a group, such as memory=cache, from conf/."""
    path = CONFIG_DIRECTORY / group / f"{choice}.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def list_auto(options: Mapping[str, Any]) -> list[str]:
    """List the settings that say `auto` and can be filled; elsewhere, as in name, it is a text."""
    flat = flatten(options)
    fillable = {*flatten(plain_settings()), *OF_TEXT, *OF_SAMPLER, "cell.kernel"}
    return [name for name in flat if flat[name] == AUTO and name in fillable]


def replace_auto(options: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested options; fill the settings of `list_auto` that `values`, nested or flat, have.

    As soon as the unit of the text is known, the sampler is the one that suits it.

    Raises:
        UserError: that sampler lacks a chosen setting.
    """
    known = flatten(values)
    names = [name for name in list_auto(options) if name in known and name not in OF_SAMPLER]
    return choose_sampler(_replace(options, {name: known[name] for name in names}))


def choose_sampler(options: dict[str, Any]) -> dict[str, Any]:
    """Copy nested options, with the sampler of the text's unit where the sampler is `auto`.

    Raises:
        UserError: that sampler lacks a chosen setting.
    """
    sampler, data = options.get("sampler"), options.get("data")
    if not isinstance(sampler, Mapping) or not isinstance(data, Mapping):
        return options
    unit = data.get("unit", AUTO)
    if sampler.get("kind") != AUTO or unit == AUTO:
        return options
    kind = "consecutive" if unit == "text" else "lines"
    settings = group_settings("sampler", kind)
    chosen = {name: value for name, value in sampler.items() if value != AUTO}
    for name in chosen.keys() - settings.keys():
        raise UserError(
            f"sampler.{name}: with data.unit={unit} the sampler is sampler={kind}, which has no "
            "such setting: leave it out, or choose another sampler"
        )
    return options | {"sampler": settings | chosen}


def restore_auto(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Copy nested options, with `auto` as the value of the named settings that they have."""
    auto = dict.fromkeys(names, AUTO)
    restored = _replace(options, auto)
    if "sampler" in auto:  # it had other settings before it was chosen
        of_sampler = {name.partition(".")[2] or "kind" for name in OF_SAMPLER}
        kept = {name: value for name, value in options["sampler"].items() if name in of_sampler}
        restored["sampler"] = kept | {
            name.partition(".")[2] or "kind": AUTO for name in OF_SAMPLER if name in auto
        }
    return restored


def _replace(options: Mapping[str, Any], settings: Settings, above: str = "") -> dict[str, Any]:
    return {
        name: _replace(value, settings, f"{above}{name}.")
        if isinstance(value, Mapping)
        else settings.get(f"{above}{name}", value)
        for name, value in options.items()
    }


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


def name_files(path: str | Sequence[str]) -> str:
    """Name the files of data.path by the first one without its directory: song.txt and 2 more."""
    first, *more = [path] if isinstance(path, str) else path
    return f"{Path(first).name} and {len(more)} more" if more else Path(first).name


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
