"""Private parts of Hydra and of its parser that the train command uses or replaces.

Tests in tests/cli fail if one of them changes.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

# groups and names of files in conf/ that are not choices
BASES = {("data", "base"), ("sampler", "default")}
BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
REFUSED = object()  # result of `parse_by_grammar` for a refused value


def parse_by_grammar(value: str) -> Any:
    """Read a typed value by Hydra's grammar; return REFUSED if the grammar does not allow it.

    A quoted text stays a QuotedString.
    """
    try:
        return OverridesParser.create().parse_override(f"value={value}")._value
    except HydraException:
        return REFUSED


def combine_values(loader: ConfigLoader, overrides: list[str]) -> list[list[str]]:
    """List every combination of the values of overrides, as Hydra's own sweeper does.

    Raises:
        HydraException: an override cannot be read.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    [combinations] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return combinations


def options_parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """Create the parser of Hydra's command line; list the names of its options."""
    parser = get_args_parser()
    return parser, list(parser._option_string_actions)


def compose_once() -> None:
    """Make Hydra compose a single run once, instead of twice."""
    find_mode = Hydra.get_mode

    def get_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> RunMode | None:
        load, typed = hydra.config_loader.load_configuration, list(overrides)
        try:
            config = load(config_name, typed, RunMode.RUN)
        except Exception:  # a mistake, or a sweep
            return find_mode(hydra, config_name, overrides)  # type: ignore[no-any-return]
        mode: RunMode | None = config.hydra.mode
        added = [] if mode else ["hydra.mode=RUN"]  # which Hydra adds after this function

        def load_configuration(
            config_name: str | None, overrides: list[str], run_mode: RunMode, **options: Any
        ) -> DictConfig:
            del vars(hydra.config_loader)["load_configuration"]  # a job gets the plain loader
            if (overrides, run_mode) != ([*typed, *added], RunMode.RUN):
                return load(config_name, overrides, run_mode, **options)
            config.hydra.overrides.hydra.extend(added)
            config.hydra.mode = RunMode.RUN
            return config

        if mode != RunMode.MULTIRUN:
            hydra.config_loader.load_configuration = load_configuration  # type: ignore[assignment,method-assign]
        return mode

    Hydra.get_mode = get_mode  # type: ignore[assignment,method-assign]


@contextmanager
def show_everything(options: argparse.Namespace) -> Iterator[None]:
    """Let Hydra's --cfg and --info show everything until the block ends.

    `options` holds the parsed options of the command line. With --cfg hydra and --resolve, all
    settings are resolved first, since Hydra's own settings refer to others that Hydra cuts off.
    """
    if options.cfg is None and options.info is None:
        yield
        return
    cut: Callable[..., DictConfig] = Hydra.get_sanitized_cfg

    def resolve_and_cut(hydra: Hydra, cfg: DictConfig, cfg_type: str) -> DictConfig:
        if options.resolve and cfg_type == "hydra":
            OmegaConf.resolve(cfg)
        return cut(hydra, cfg, cfg_type)

    errors = logging.raiseExceptions
    try:
        Hydra.get_sanitized_cfg = resolve_and_cut  # type: ignore[method-assign,assignment]
        logging.raiseExceptions = False  # --info prints a log, whose reader may leave
        yield
    finally:
        Hydra.get_sanitized_cfg = cut  # type: ignore[method-assign]
        logging.raiseExceptions = errors


def hide_bases() -> None:
    """Omit the files of `BASES` from Hydra's lists of choices."""
    all_options = ConfigRepository.get_group_options

    def choices(
        repository: ConfigRepository,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
    ) -> list[str]:
        found = all_options(repository, group_name, results_filter)
        return [one for one in found if (group_name, one) not in BASES]

    ConfigRepository.get_group_options = choices  # type: ignore[method-assign,assignment]


def complete_program(program: str) -> None:
    """Let Hydra's completion in bash complete a program, and remove it again as a whole."""
    find_plugins = Hydra.get_shell_to_plugin_map

    def plugins(_: Hydra, loader: ConfigLoader) -> dict[str, list[CompletionPlugin]]:
        found = find_plugins(loader)
        for plugin in found["bash"]:
            plugin._get_exec = lambda: program  # type: ignore[attr-defined]
            plugin.uninstall = lambda: print(  # type: ignore[method-assign]
                f"complete -r {program}\nunset -f hydra_bash_completion"
            )
        return found

    Hydra.get_shell_to_plugin_map = plugins  # type: ignore[method-assign,assignment]


@contextmanager
def keep_callers_state() -> Iterator[None]:
    """Give Hydra and logging a state of their own until the block ends, then restore the caller's.

    Hydra's logging would close the caller's handlers.
    """
    kinds = (GlobalHydra, HydraConfig, JobRuntime, version.VersionBase)
    states = {kind: Singleton._instances.pop(kind, None) for kind in kinds}
    root, names, handlers = logging.getLogger(), dict(logging._handlers), logging._handlerList[:]  # type: ignore[attr-defined]
    loggers = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    levels = [(one, one.level) for one in (root, *loggers)]
    of_root, root.handlers = root.handlers, []
    logging._handlerList[:] = []  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers = of_root
        logging._handlers.update(names)  # type: ignore[attr-defined]
        logging._handlerList[:] = handlers  # type: ignore[attr-defined]
        for logger, level in levels:
            logger.setLevel(level)
        for kind, state in states.items():
            Singleton._instances.pop(kind, None)
            if state is not None:
                Singleton._instances[kind] = state


def run_task(task: TaskFunction, options: argparse.Namespace, config_path: Path) -> Path:
    """Run a task as `hydra.main` does, but raise all errors and return the directory.

    Args:
        task: function that gets the composed configuration.
        options: parsed command line.
        config_path: directory of train.yaml, unless --config-path names another.

    Returns:
        Directory of the run, or of the sweep if --multirun or the configuration asks for one.
    """
    version.setbase("1.3")
    name, overrides = options.config_name or "train", options.overrides
    path = create_automatic_config_search_path(
        __file__, None, options.config_path or str(config_path)
    )
    if options.config_dir is not None:
        added = f"file://{Path(options.config_dir).absolute()}"
        path.prepend("command-line", added, SearchPathQuery(provider="schema"))
    hydra = Hydra.create_main_hydra2(name, path)
    mode = hydra.get_mode(name, overrides)
    if mode is None or (options.multirun and mode == RunMode.RUN):
        mode = RunMode.MULTIRUN if options.multirun else RunMode.RUN
        overrides.append(f"hydra.mode={mode.name}")
    if mode == RunMode.RUN:
        done = hydra.run(name, task, overrides)
        return Path(done.hydra_cfg.hydra.runtime.output_dir)  # type: ignore[union-attr]
    return Path(hydra.multirun(name, task, overrides))
