"""Hydra's composed configuration: resolvers, plain values, and the directory of a run or sweep."""

import os
import re
import stat
from collections.abc import Callable, Sequence
from glob import has_magic
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from lyricgen.cli.errors import stop
from lyricgen.cli.hydra_private import BASIC_SWEEPER
from lyricgen.cli.recorded_settings import with_recorded_settings
from lyricgen.cli.typed_arguments import drop_resume
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.runs.directories import (
    HYDRA_FOLDER,
    MULTIRUN,
    OF_RUN,
    OF_SWEEP,
    SUMMARY,
    directory_taken,
    is_marked,
    job_directory,
    list_matching,
    make_directory,
    mark,
    new_directory,
    outputs_directory,
    refuse_links,
)
from lyricgen.runs.run import Run
from lyricgen.runs.summary import Summary
from lyricgen.settings import (
    AUTO,
    choose_sampler,
    group_settings,
    key,
    plain_settings,
    replace_auto,
)

CONFIG = "config.yaml"  # Hydra's record of the composed configuration
_LONGEST_NAME = 40  # characters of a text's name in the name of its run
NEW = "lyricgen.new_directory"  # resolver that marks a directory which must be new


def register_resolvers() -> None:
    """Register the resolvers of conf/train.yaml; they have no side effects."""
    resolvers: dict[str, Callable[..., str]] = {
        "lyricgen.outputs": lambda: str(outputs_directory()),
        "lyricgen.job_directory": job_directory,
        NEW: str,
        "lyricgen.sweep_name": _sweep_name,
        "lyricgen.network": _network,
        "lyricgen.text": _text,
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _sweep_name(sweep: str | None, name: str, *, _root_: DictConfig) -> str:
    """Name a sweep by the typed name, else its file in conf/sweep, else the name of its runs."""
    typed = any(key(one) == "name" for one in _root_.hydra.overrides.task)
    return name if typed or sweep is None else sweep


def _network(*, _root_: DictConfig) -> str:
    """Write the network for the name of a run, as lstm_1x256; init_from if an older model has it.

    A hidden size that the recipe decides is left out.
    """
    if _root_.init_from is not None:
        return "init_from"
    size = _root_.hidden_size
    if size == AUTO and _root_.recipe != AUTO:
        size = plain_settings()["hidden_size"]
    return f"{_root_.cell.kind}_{_root_.layers}{'' if size == AUTO else f'x{size}'}"


def _text(kind: str, typed: Any) -> str:
    """Name a text for the name of a run: its kind, or the first file or folder of the user.

    Packings and suffixes are left out, and so are characters other than letters, digits and "_-.".
    """
    paths = [typed] if isinstance(typed, str) else list(typed or ())
    if kind != "text" or not paths:
        return kind
    path = Path(os.path.abspath(expand_home(str(paths[0]))))  # noqa: PTH100  which resolves ".."
    plain = [part for part in path.parts if not has_magic(part)]
    name = re.sub(r"\.(?:gz|xz|bz2|zip)$", "", plain[-1] if plain else "", flags=re.IGNORECASE)
    if len(plain) == len(path.parts) and not os.path.isdir(path):  # noqa: PTH112  any length
        name = Path(name).stem
    safe = re.sub(r"[^\w.-]+", "_", name)[:_LONGEST_NAME].strip("_.-") or kind
    return safe if len(paths) == 1 else f"{safe}+{len(paths) - 1}"


def plain_values(config: DictConfig, hydra: Any) -> dict[str, Any]:
    """Return the plain, unchecked values of a composed configuration.

    A run that chooses no sampler gets the sampler of its text, as soon as the unit of the text is
    known; a text that a chosen sampler reads as a stream is running text. Without a recipe, the
    values of conf/plain.yaml replace `auto`; n-grams have no recipe. In `init_from` and
    `data.path`, the home directory replaces "~".

    Args:
        config: configuration without its group `hydra`.
        hydra: the group `hydra`.

    Raises:
        UserError: the sampler of the text lacks a chosen setting.
        OmegaConfBaseException: a value is missing, or refers to a setting that does not exist.
    """
    values: Any = OmegaConf.to_container(config, resolve=True)
    data = values["data"]
    if data["unit"] == AUTO and values["sampler"]["kind"] not in (AUTO, "lines"):
        data["unit"] = "text"
    if data["unit"] in ("text", "line"):
        undivided = {"separator": None, "verse": False}
        data |= {name: one for name, one in undivided.items() if data[name] == AUTO}
    values["sampler"] |= _ignored_of_sampler(values, hydra.overrides.task)
    values = choose_sampler(values)
    for group, setting in ((values, "init_from"), (values["data"], "path")):
        value = group.get(setting)
        if isinstance(value, list):
            group[setting] = [_expand(one) for one in value]
        else:
            group[setting] = _expand(value)
    if values["recipe"] == AUTO and values["model"]["kind"] != "ngram":
        return values  # type: ignore[no-any-return]
    return replace_auto(values, plain_settings())


def _expand(path: Any) -> Any:
    return str(expand_home(path)) if path and isinstance(path, str) else path


def _ignored_of_sampler(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, str]:
    """Find the settings of the default sampler that a resumed run had, but sampler=lines lacks.

    Earlier versions left them out, so they become `auto`, unless they are typed anew.
    """
    sampler, unit = values["sampler"], values["data"]["unit"]
    if sampler["kind"] != AUTO or unit in ("text", AUTO) or not values["resume"]:
        return {}
    earlier = Summary.read_earlier(Path(values["resume"]))
    if earlier is None:
        return {}
    recorded = earlier.overrides if "overrides" in earlier.model_fields_set else overrides
    typed = {key(one) for one in set(overrides) - set(recorded)}
    unknown = sampler.keys() - group_settings("sampler", "lines").keys()
    return {name: AUTO for name in unknown if f"sampler.{name}" not in typed}


def compose_run(config: DictConfig, hydra: Any) -> tuple[dict[str, Any], Run]:
    """Return the plain values and the `Run` of a configuration.

    A resumed single run keeps its recorded settings, as `with_recorded_settings` explains.

    Args:
        config: configuration of the run.
        hydra: Hydra's own configuration.

    Raises:
        UserError, OmegaConfBaseException: see `plain_values`.
    """
    directory = Path(hydra.runtime.output_dir)
    sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    overrides = list(hydra.overrides.task)
    typed = drop_resume(overrides)
    values = plain_values(config, hydra)
    if values["resume"] is not None and sweep is None:
        values = with_recorded_settings(directory, values, typed)
    record = {  # Hydra would write them before it knows whether the directory is free
        CONFIG: OmegaConf.to_yaml(config),
        "hydra.yaml": OmegaConf.to_yaml(HydraConfig.instance().cfg),
        "overrides.yaml": OmegaConf.to_yaml(overrides),
    }
    search: Any = None
    if sweep is not None and hydra.runtime.choices["hydra/sweeper"] == "study":
        search = OmegaConf.to_container(hydra.sweeper, resolve=True)
        del search["_target_"]
    return values, Run(directory, sweep, typed, record, search, f"{hydra.job.name}.log")


def record_filled(run: Run, options: dict[str, Any]) -> None:
    """Write the settings that were filled or taken into the configuration that a run records."""
    config: Any = OmegaConf.create(run.record[CONFIG])
    composed: Any = OmegaConf.to_container(config, resolve=False)
    for name, value in options.items():
        if composed.get(name, value) != value and "${" not in str(composed[name]):
            OmegaConf.update(config, name, value, merge=False)
    run.record[CONFIG] = OmegaConf.to_yaml(config)


def job_values(loader: ConfigLoader, sweep: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Return the plain, unchecked values of a sweep's configuration with a job's overrides.

    Raises:
        HydraException: the overrides do not fit the configuration.
        UserError, OmegaConfBaseException: see `plain_values`.
    """
    config = loader.load_sweep_config(sweep, overrides)
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    values = plain_values(own, config.hydra)
    if values["find_lr"]:
        raise UserError("find_lr=true tests a single run: leave it out of a sweep")
    return values


class DirectoryCallback(Callback):
    """Hydra callback that checks the directory of a run or sweep before Hydra writes to it.

    The callback makes the directory unless `resume` is given, and stores the path in the
    configuration. If the directory cannot be used, it raises `Refusal`.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check and make a run's directory."""
        _check_and_make(config, "run", (*OF_RUN, f"{config.hydra.job.name}.log"))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check and make a sweep's directory."""
        _check_and_make(config, "sweep", OF_SWEEP)


def _check_and_make(config: DictConfig, kind: str, patterns: Sequence[str]) -> None:
    try:
        if config.hydra.job.chdir:
            raise UserError(
                "hydra.job.chdir=true: paths count from where the command was started: leave it out"
            )
        if kind == "sweep" and OmegaConf.select(config, "hydra.sweeper._target_") == BASIC_SWEEPER:
            raise UserError("hydra/sweeper=basic: it would not tell which jobs fail: leave it out")
        raw = str(OmegaConf.to_container(config.hydra[kind])["dir"])  # type: ignore[index,call-overload]
        directory = expand_home(config.hydra[kind].dir)
        if NEW in raw:  # the path contains a typed name
            directory = directory.with_name(directory.name.replace("${", "{"))
        _refuse_unusable(directory)
        if NEW in raw:
            directory = new_directory(directory)
        elif OmegaConf.select(config, "resume") is None:
            _refuse_foreign(directory, patterns, kind)
            make_directory(directory)
            if kind == "run":
                mark(directory)
        elif kind == "run":
            refuse_links(directory, patterns)
        with read_write(config):
            config.hydra[kind].dir = str(directory)
    except (UserError, OSError, ValueError, OmegaConfBaseException) as error:
        stop(error)  # Hydra would turn an exception into a warning


def _refuse_unusable(directory: Path) -> None:
    """Refuse a path that is not UTF-8 or contains `${`, since records cannot hold it."""
    path = os.path.realpath(directory)
    shown = f"the directory {path!r} cannot be recorded"
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{shown}: its path is not UTF-8: name another") from None
    if "${" in path:
        raise UserError(f"{shown}: its path has ${{ in it: name another")


def _refuse_foreign(directory: Path, patterns: Sequence[str], kind: str) -> None:
    """Refuse a directory with files that a new run or sweep would replace."""
    found = list_matching(directory, patterns)
    if kind == "run" and SUMMARY in found:
        raise directory_taken(directory, "run")
    if {SUMMARY, MULTIRUN} <= set(found):
        return  # a sweep, perhaps of several processes
    if is_marked(directory) and all(_is_written_first(directory / name) for name in found):
        return  # left by a run that was killed before its summary was written
    if found:
        names = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise UserError(
            f"{str(directory)!r} holds what a {kind} writes ({names}), and no {kind}: name "
            f"another directory, or leave hydra.{kind}.dir out"
        )


def _is_written_first(path: Path) -> bool:
    """Whether a run writes this file before summary.json: the log or .hydra."""
    mode = path.lstat().st_mode
    if path.name == HYDRA_FOLDER:
        return stat.S_ISDIR(mode)
    return path.suffix == ".log" and stat.S_ISREG(mode)
