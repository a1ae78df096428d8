"""The settings of conf/, and the choices of its groups."""

import re
from functools import cache
from typing import Any

from lyricgen.cli.hydra_private import BASES
from lyricgen.runs.record_files import read_yaml
from lyricgen.settings import CONFIG_DIRECTORY

POINTS, GRID_POINTS = "sweep.points", "hydra.sweeper.points"  # as it is typed, and recorded
SEVERAL = "logger"  # the group that takes several choices, as a list

_SWEEPERS = ("study", "grid")


@cache
def default_choices() -> dict[str, str | None]:
    """Return the groups of conf/train.yaml with their default choices; None for no choice."""
    entries = [each for each in _read("train")["defaults"] if isinstance(each, dict)]
    pairs = [pair for entry in entries for pair in entry.items()]
    return {group: choice for group, choice in pairs if not group.startswith("override ")}


def group_choices(group: str) -> list[str]:
    """List the choices of a group and of its subfolders."""
    folder = CONFIG_DIRECTORY / group
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if (group, name) not in BASES)


@cache
def known_settings() -> dict[str, list[str]]:
    """Return all settings and groups, with the choices that have them, such as "cell=lstm".

    The list of choices is empty if every run has the setting.
    """
    train = _read("train")
    del train["defaults"]
    found: dict[str, list[str]] = {name: [] for name in (*default_choices(), *_leaves(train))}
    for group, default in default_choices().items():
        choices = [] if default is None else group_choices(group)
        settings = {choice: _settings(group, choice) for choice in choices}
        for name in set().union(*settings.values()) - found.keys():
            having = [choice for choice in choices if name in settings[choice]]
            shared = len(having) == len(choices)
            found[name] = [] if shared else [f"{group}={choice}" for choice in having]
    search, grid = (_leaves(_read(f"hydra/sweeper/{one}"), "hydra.sweeper.") for one in _SWEEPERS)
    found |= {name: [] if name in grid else ["sweep=optuna"] for name in search}
    return found | {GRID_POINTS: ["a sweep without Optuna"]}


def _settings(group: str, choice: str) -> set[str]:
    """Return the settings of a choice and of the files that it includes from its group."""
    values = _read(f"{group}/{choice}")
    defaults = values.pop("defaults", [])
    settings = set().union(
        *(_settings(group, each) for each in defaults if isinstance(each, str) and each != "_self_")
    )
    text = (CONFIG_DIRECTORY / f"{group}/{choice}.yaml").read_text("utf-8")
    return settings | set(_leaves(values if "@package _global_" in text else {group: values}))


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    """List the dotted names of all settings and of their groups."""
    found = []
    for name, value in values.items():
        found.append(f"{prefix}{name}")
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{name}.")
    return found


def _read(name: str) -> Any:
    return read_yaml(CONFIG_DIRECTORY / f"{name}.yaml")


@cache
def off_switches() -> dict[str, list[str]]:
    """Return the overrides that switch a callback off, by the name of the callback."""
    switches = sorted(re.findall(r"callbacks\.\w+\.enabled", "\n".join(known_settings())))
    return {
        "callbacks.samples": ["callbacks.samples.every_n_epochs=0", "callbacks.samples.steps=[]"],
        **{switch.removesuffix(".enabled"): [f"{switch}=false"] for switch in switches},
    }
