"""Directories of runs and sweeps: checked before Hydra makes them, removed if nothing begins."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

from lyricgen.errors import UserError
from lyricgen.runs.listing import MULTIRUN, RECORD, SUMMARY
from lyricgen.runs.lock import LOCK
from lyricgen.runs.resume import GROWING

# Patterns of the names that a run writes, and those that a sweep writes.
OF_RUN = (SUMMARY, RECORD, "checkpoints", "metrics.csv", "hparams.yaml", "*profile*", *GROWING)
OF_SWEEP = (SUMMARY, MULTIRUN, ".submitit", "report", "[0-9]*_*")

_made: list[Path] = []  # by this process, parents first


def make_directory(directory: Path) -> None:
    """Make a directory and its parents where they are missing.

    Raises:
        OSError: it cannot be made.
    """
    _make(directory, exist_ok=True)


def new_directory(wanted: Path) -> Path:
    """Make a new directory: the wanted one, or the first free name with _2, _3, … after it.

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
        UserError: a file is one. Writing to it would change another place or block for ever.
    """
    for name in matching(directory, patterns):
        path = directory / name
        mode = path.lstat().st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise UserError(
                f"{str(path)!r} is no ordinary file, and the run writes there: bring the file "
                "back, or move this one away"
            )


def matching(directory: Path, patterns: Sequence[str]) -> list[str]:
    """The names in a directory that match; also of links that lead nowhere, unlike glob's."""
    names = sorted(os.listdir(directory)) if directory.is_dir() else []  # noqa: PTH208
    return [name for name in names if any(fnmatchcase(name, each) for each in patterns)]


def _make(directory: Path, *, exist_ok: bool) -> None:
    directory = directory.absolute()
    missing = list(takewhile(lambda place: not place.exists(), (directory, *directory.parents)))
    directory.mkdir(parents=True, exist_ok=exist_ok)
    _made.extend(reversed(missing))
