"""Hydra's composed configuration as plain values, and the resolvers that conf/ uses."""

from collections.abc import Callable
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lyricgen.cli.conf_files import CONFIG_DIRECTORY
from lyricgen.cli.directories import NEW
from lyricgen.files import expand_home
from lyricgen.runs.directories import job_directory, outputs_directory
from lyricgen.settings import key


def register_resolvers() -> None:
    """Register the resolvers that conf/train.yaml uses; none has a side effect."""
    resolvers: dict[str, Callable[..., str]] = {
        "lyricgen.outputs": lambda: str(outputs_directory()),
        "lyricgen.job_directory": job_directory,
        NEW: str,  # marks a directory that `Directories` makes
        "lyricgen.sweep_name": _sweep_name,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _sweep_name(sweep: str | None, name: str, *, _root_: DictConfig) -> str:
    """Name a sweep: the typed name, that of its file in conf/sweep, or that of a run."""
    typed = any(key(one) == "name" for one in _root_.hydra.overrides.task)
    return name if typed or sweep is None else sweep


def plain_values(config: DictConfig, hydra: Any) -> dict[str, Any]:
    """Plain values of a composed configuration, not yet checked.

    Args:
        config: without the group `hydra`.
        hydra: that group, as Hydra composed it.
    """
    values: Any = OmegaConf.to_container(config, resolve=True)
    named = any(override.startswith("sampler=") for override in hydra.overrides.task)
    by_default = hydra.runtime.choices["sampler"] == "consecutive" and not named
    if by_default and values["data"]["unit"] == "line":
        # of data=text data.unit=line, for example: one sample a line
        lines = OmegaConf.load(CONFIG_DIRECTORY / "sampler" / "lines.yaml")
        values["sampler"] = OmegaConf.to_container(lines)
    for group, setting in ((values, "init_from"), (values["data"], "path")):
        if isinstance(group.get(setting), str):
            group[setting] = str(expand_home(group[setting]))
    return values  # type: ignore[no-any-return]


def search_options(hydra: Any) -> dict[str, Any] | None:
    """Options of the search that a job is a trial of; None for another run."""
    if hydra.mode != RunMode.MULTIRUN or hydra.runtime.choices["hydra/sweeper"] != "study":
        return None
    options: Any = OmegaConf.to_container(hydra.sweeper, resolve=True)
    return {name: value for name, value in options.items() if name != "_target_"}


def job_values(loader: ConfigLoader, sweep: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Plain values of a job's configuration, not yet checked.

    Args:
        loader: Hydra's.
        sweep: the configuration of the whole sweep.
        overrides: of the job.
    """
    config = loader.load_sweep_config(sweep, overrides)
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    return plain_values(own, config.hydra)
