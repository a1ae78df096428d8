"""Configurations composed as the train command does."""

import copy
import functools
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lyricgen.cli.composition import plain_values
from lyricgen.settings import CONFIG_DIRECTORY

# files of conf/ that are no choices
ABSTRACT = {("data", "base"), ("sampler", "default")}


RUNNING_TEXT = {"lyrics", "jaychou", "text"}


SAMPLERS_OF_LINES = {"lines", "lines_carried"}


@functools.cache
def groups() -> dict[str, list[str | None]]:
    """Every group and its choices from the files of conf/; None where the default is null."""
    defaults = yaml.safe_load((CONFIG_DIRECTORY / "train.yaml").read_text("utf-8"))["defaults"]
    listed = {group: choice for entry in defaults if isinstance(entry, dict)
              for group, choice in entry.items() if "override" not in group}  # fmt: skip
    found: dict[str, list[str | None]] = {}
    for group, choice in listed.items():
        names = sorted(path.stem for path in (CONFIG_DIRECTORY / group).glob("*.yaml"))
        chosen: list[str | None] = [name for name in names if (group, name) not in ABSTRACT]
        found[group] = chosen if choice is not None else [None, *chosen]
    return found


def compose_options(*overrides: str) -> dict[str, Any]:
    """Compose the values of a run; `auto` stays."""
    return copy.deepcopy(_composed(*overrides))


def values_of_run(*overrides: str) -> dict[str, Any]:
    """Compose the values of a run as the train command reads them."""
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=list(overrides), return_hydra_config=True)
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    return plain_values(own, config.hydra)


@functools.cache
def _composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]
