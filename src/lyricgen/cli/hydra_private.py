"""Private parts of Hydra and of its parser that the train command uses or replaces.

Tests in tests/cli fail if one of them changes.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
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
    uninstall = BashCompletion.uninstall

    def remove(completion: BashCompletion) -> None:
        print(f"complete -r {program}")  # Hydra's own lines only bring an earlier completion back
        uninstall(completion)

    BashCompletion._get_exec = staticmethod(lambda: program)  # type: ignore[method-assign]
    BashCompletion.uninstall = remove  # type: ignore[method-assign,assignment]
