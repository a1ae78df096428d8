"""Hydra's callback that checks and makes the directory of a run or a sweep."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from lyricgen.cli.errors import stop
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.runs.directories import (
    MULTIRUN,
    OF_RUN,
    OF_SWEEP,
    RECORD,
    SUMMARY,
    directory_taken,
    is_marked,
    make_directory,
    mark,
    matching,
    new_directory,
    refuse_links,
)

# Hydra's sweeper; those of lyricgen know of jobs that fail
_BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
NEW = "lyricgen.new_directory"  # marks a directory in Hydra's settings that must be a new one


class Directories(Callback):
    """Hydra's callback that checks and makes the directory of a run or a sweep before all else."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check and make the directory of a run."""
        _check_and_make(config, "run", (*OF_RUN, f"{config.hydra.job.name}.log"))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check and make the directory of a sweep."""
        _check_and_make(config, "sweep", OF_SWEEP)


def _check_and_make(config: DictConfig, kind: str, patterns: Sequence[str]) -> None:
    try:
        if config.hydra.job.chdir:
            raise UserError(
                "hydra.job.chdir=true: paths count from where the command was started: leave it out"
            )
        if kind == "sweep" and OmegaConf.select(config, "hydra.sweeper._target_") == _BASIC:
            raise UserError("hydra/sweeper=basic: it would not tell which jobs fail: leave it out")
        raw = str(OmegaConf.to_container(config.hydra[kind])["dir"])  # type: ignore[index,call-overload]
        directory = expand_home(config.hydra[kind].dir)
        if NEW in raw:  # a name that was typed is part of it
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
        stop(error)  # from here: Hydra would make a warning of it


def _refuse_unusable(directory: Path) -> None:
    """Refuse a path that cannot be recorded: records are UTF-8, and Hydra reads ${."""
    path = os.path.realpath(directory)
    shown = f"the directory {path!r} cannot be recorded"
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{shown}: its path is not UTF-8: name another") from None
    if "${" in path:
        raise UserError(f"{shown}: its path has ${{ in it: name another")


def _refuse_foreign(directory: Path, patterns: Sequence[str], kind: str) -> None:
    """Refuse a directory that holds files which a new run or sweep would replace."""
    found = matching(directory, patterns)
    if kind == "run" and SUMMARY in found:
        raise directory_taken(directory, "run")
    if {SUMMARY, MULTIRUN} <= set(found):
        return  # a sweep, perhaps of several processes
    if is_marked(directory) and all(_written_first(directory / name) for name in found):
        return  # left by a run that was killed before its summary was written
    if found:
        names = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise UserError(
            f"{str(directory)!r} holds what a {kind} writes ({names}), and no {kind}: name "
            f"another directory, or leave hydra.{kind}.dir out"
        )


def _written_first(path: Path) -> bool:
    """Whether a run writes this file before summary.json: only the log and .hydra are."""
    mode = path.lstat().st_mode
    if path.name == RECORD:
        return stat.S_ISDIR(mode)
    return path.suffix == ".log" and stat.S_ISREG(mode)
