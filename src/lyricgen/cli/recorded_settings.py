"""Recorded settings of a run, where the defaults of conf/ have changed since."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lyricgen.cli.known_settings import default_choices, group_choices
from lyricgen.cli.typed_values import write_value
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import (
    AUTO,
    CONFIG_DIRECTORY,
    Value,
    belongs_to,
    complete,
    flatten,
    key,
    plain_settings,
    replace_auto,
)

PLAIN = "recipe=none"  # override that gives the defaults of versions without recipes
# Groups whose choice changes neither other groups nor the learning.
INDEPENDENT = {"trainer", "callbacks", "logger"}


def compose_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose the settings of conf/ with overrides, nested; interpolations stay as they are.

    Raises:
        HydraException, OmegaConfBaseException: the overrides do not fit conf/.
    """
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", list(overrides))
    composed: Any = OmegaConf.to_container(config)
    return dict(composed)


def list_choices(options: Mapping[str, Any]) -> dict[str, str]:
    """List the choices of groups in recorded options, as far as conf/ has them."""
    kinds = {
        group: options[group].get("kind")
        for group in default_choices()
        if isinstance(options.get(group), Mapping)
    }
    return {group: kind for group, kind in kinds.items() if kind in group_choices(group)}


def default_settings(options: Mapping[str, Any]) -> dict[str, Value]:
    """Defaults under flat names, for the choices of groups in a run's recorded options."""
    choices = list_choices(options)
    composed = compose_settings([f"{group}={choice}" for group, choice in choices.items()])
    return flatten(composed) | {group: default_choices()[group] for group in choices}


def restore_changed(options: Mapping[str, Any], overrides: Sequence[str]) -> list[str]:
    """Write overrides that give recorded options, where `overrides` with conf/ do not.

    So a setting keeps its value although its default has changed since the run. Settings that say
    `auto` or refer to others, and settings that conf/ no longer has, are left out.
    """
    with suppress(HydraException, OmegaConfBaseException):  # which the command itself explains
        now = list_choices(compose_settings(overrides))
        choices = [
            f"{group}={kind}"
            for group, kind in list_choices(options).items()
            if now.get(group, kind) != kind
        ]
        composed = compose_settings([*overrides, *choices])
        if composed["recipe"] != AUTO:
            composed = replace_auto(composed, plain_settings())
        return [*choices, *_differences(options, composed)]
    return []


def _differences(
    options: Mapping[str, Any], composed: dict[str, Any], above: str = ""
) -> list[str]:
    found = []
    for name, now in composed.items():
        path, value = f"{above}{name}", options.get(name, now)
        if isinstance(value, Mapping) and isinstance(now, dict):
            if value.get("kind") == now.get("kind"):
                found += _differences(value, now, f"{path}.")
        elif value != now and AUTO not in (value, now) and "${" not in str(now):
            found.append(f"{path}={write_value(value)}")
    return found


def with_recorded_settings(
    directory: Path, values: dict[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """Restore a run's recorded settings, in case a default has changed since.

    Args:
        directory: directory of the run.
        values: plain values of the present configuration; the function does not change them.
        overrides: overrides of the present configuration.

    Returns:
        The values with recorded settings restored, except settings with a new override. Nothing is
        restored if nothing is recorded, or if a new override chooses a group other than trainer,
        callbacks and logger.
    """
    earlier = RunSummary.read_earlier(directory)
    if earlier is None or earlier.options is None or "overrides" not in earlier.model_fields_set:
        return values
    last, now = ({key(one): one for one in each} for each in (earlier.overrides, overrides))
    if "recipe" not in earlier.options:
        last = {"recipe": PLAIN} | last
    typed = {name for name, one in now.items() if last.get(name) != one}
    if typed & (default_choices().keys() - INDEPENDENT):
        return values
    return _with_recorded(values, complete(earlier.options), typed)


def _with_recorded(
    values: dict[str, Any], recorded: dict[str, Any], typed: set[str], above: str = ""
) -> dict[str, Any]:
    settled = dict(values)
    for name, value in recorded.items():
        path = f"{above}{name}"
        if name not in values or path in typed or path == "resume":
            continue
        now = values[name]
        both = isinstance(value, dict) and isinstance(now, dict)
        if both and value.get("kind") == now.get("kind"):
            settled[name] = _with_recorded(now, value, typed, f"{path}.")
        elif not any(belongs_to(one, [path]) for one in typed):
            settled[name] = value
    return settled
