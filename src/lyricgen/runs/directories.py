"""Directories of runs and sweeps: checked before Hydra makes them, removed if nothing begins."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from lyricgen.cli.errors import stop
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.runs.listing import MULTIRUN, RECORD, SUMMARY, directory_taken
from lyricgen.runs.lock import LOCK
from lyricgen.runs.rewind import GROWING

# Patterns of the names that a run writes, and those that a sweep writes.
OF_RUN = (SUMMARY, RECORD, "checkpoints", "metrics.csv", "hparams.yaml", "*profile*", *GROWING)
OF_SWEEP = (SUMMARY, MULTIRUN, ".submitit", "report", "[0-9]*_*")
NEW = "lyricgen.new_directory"  # Hydra's settings name a directory that must be a new one by it

_made: list[Path] = []  # by this process, parents first


class Directories(Callback):
    """Hydra's callback that settles where a run or a sweep goes, before anything is written."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Settle the directory of a run."""
        _settle(config, "run", (*OF_RUN, f"{config.hydra.job.name}.log"))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Settle the directory of a sweep."""
        _settle(config, "sweep", OF_SWEEP)


def make_directory(directory: Path) -> None:
    """Make a directory and its parents where they are missing.

    Raises:
        OSError: it cannot be made.
    """
    _make(directory, exist_ok=True)


def new_directory(wanted: Path) -> Path:
    """Make a directory that nobody else has: the one wanted, or one with _2, _3, … after it.

    Raises:
        OSError: it cannot be made.
    """
    number = 1
    while True:
        directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            _make(directory, exist_ok=False)
        except FileExistsError:
            if not directory.parent.is_dir():  # the parent is in the way
                raise
            number += 1
            continue
        return directory


def remove_unused() -> None:
    """Remove the directories that this process has made and that hold nothing."""
    while _made:
        directory = _made.pop()
        with suppress(OSError):  # it holds something, or is gone already
            if os.listdir(directory) == [LOCK]:  # noqa: PTH208  names are all it takes
                (directory / LOCK).unlink()
            directory.rmdir()


def refuse_links(directory: Path, patterns: Sequence[str] = OF_RUN) -> None:
    """Refuse to go on with a run whose own files are links, pipes or devices.

    Raises:
        UserError: one is; writing there would change another place, or wait for ever.
    """
    for name in _matching(directory, patterns):
        path = directory / name
        if not (path.is_dir() or stat.S_ISREG(path.lstat().st_mode)):
            raise UserError(
                f"{str(path)!r} is no ordinary file, and the run writes there: bring the file "
                "back, or move this one away"
            )


def _settle(config: DictConfig, kind: str, patterns: Sequence[str]) -> None:
    try:
        if config.hydra.job.chdir:
            raise UserError(
                "hydra.job.chdir=true: paths count from where the command was started: leave it out"
            )
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
                # marks what a run that is killed now leaves as its own; a link is not followed
                os.close(os.open(directory / LOCK, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW))
        elif kind == "run":
            refuse_links(directory, patterns)
        with read_write(config):
            config.hydra[kind].dir = str(directory)
    except (UserError, OSError, ValueError, OmegaConfBaseException) as error:
        stop(error)  # from here: Hydra would make a warning of it


def _refuse_unusable(directory: Path) -> None:
    """Refuse a directory whose path cannot be recorded: records are UTF-8, and Hydra reads ${."""
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
    found = _matching(directory, patterns)
    if kind == "run" and SUMMARY in found:
        raise directory_taken(directory, "run")
    if {SUMMARY, MULTIRUN} <= set(found):
        return  # a sweep, which may be one that several processes do
    if (directory / LOCK).is_file() and all(_written_first(directory / name) for name in found):
        return  # left by a run that was killed before its summary was written
    if found:
        names = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise UserError(
            f"{str(directory)!r} holds what a {kind} writes ({names}), and no {kind}: name "
            f"another directory, or leave hydra.{kind}.dir out"
        )


def _written_first(path: Path) -> bool:
    """Whether a run writes it before its summary: its log, or the record of its composition."""
    mode = path.lstat().st_mode
    if path.name == RECORD:
        return stat.S_ISDIR(mode)
    return path.suffix == ".log" and stat.S_ISREG(mode)


def _matching(directory: Path, patterns: Sequence[str]) -> list[str]:
    """The names in a directory that match; also of links that lead nowhere, unlike glob's."""
    names = sorted(os.listdir(directory)) if directory.is_dir() else []  # noqa: PTH208
    return [name for name in names if any(fnmatchcase(name, each) for each in patterns)]


def _make(directory: Path, *, exist_ok: bool) -> None:
    directory = directory.absolute()
    missing = list(takewhile(lambda place: not place.exists(), (directory, *directory.parents)))
    directory.mkdir(parents=True, exist_ok=exist_ok)
    _made.extend(reversed(missing))
