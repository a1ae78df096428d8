"""The groups of conf/, their choices and their settings."""

from functools import cache
from pathlib import Path
from typing import Any

from lyricgen.runs.record_files import read_yaml

_PACKAGED = Path(__file__).parents[1] / "conf"  # in a wheel
_CHECKOUT = Path(__file__).parents[3] / "conf"  # in an editable install
CONFIG_DIRECTORY = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
BASES = {("data", "base")}  # group and name of files that only other choices include


@cache
def default_choices() -> dict[str, str | None]:
    """The groups of conf/train.yaml, each with its default choice."""
    named = [each for each in read_yaml(_path("train"))["defaults"] if isinstance(each, dict)]
    pairs = [pair for entry in named for pair in entry.items()]
    return {group: choice for group, choice in pairs if not group.startswith("override ")}


def group_choices(group: str) -> list[str]:
    """List the choices of a group and of its subfolders."""
    folder = CONFIG_DIRECTORY / group
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if (group, name) not in BASES)


@cache
def known_settings() -> dict[str, list[str]]:
    """All settings, each with the choices that have it; an empty list means every run."""
    train = read_yaml(_path("train"))
    del train["defaults"]
    found: dict[str, list[str]] = {name: [] for name in (*default_choices(), *_leaves(train))}
    for group, default in default_choices().items():
        choices = [] if default is None else group_choices(group)
        settings = {choice: _settings(group, choice) for choice in choices}
        for name in set().union(*settings.values()) - found.keys():
            having = [choice for choice in choices if name in settings[choice]]
            shared = len(having) == len(choices)
            found[name] = [] if shared else [f"{group}={choice}" for choice in having]
    return found


def _settings(group: str, choice: str) -> set[str]:
    """The settings of a choice, with those that it includes from other files of its group."""
    values = read_yaml(_path(f"{group}/{choice}"))
    defaults = values.pop("defaults", [])
    settings = set().union(
        *(_settings(group, each) for each in defaults if isinstance(each, str) and each != "_self_")
    )
    whole = "@package _global_" in _path(f"{group}/{choice}").read_text("utf-8")
    return settings | set(_leaves(values if whole else {group: values}))


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all settings, the groups above them included."""
    found = []
    for name, value in values.items():
        found.append(f"{prefix}{name}")
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{name}.")
    return found


def _path(name: str) -> Path:
    return CONFIG_DIRECTORY / f"{name}.yaml"
