"""Removal of runs: they move into a folder of the outputs directory."""

import errno
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from lyricgen.errors import UserError
from lyricgen.runs.directories import (
    BEGUN,
    MULTIRUN,
    TRASH,
    claim_directory,
    list_matching,
    outputs_directory,
    read_number,
)
from lyricgen.runs.newest import is_newest, record_newest_left


def check_removable(directory: Path) -> None:
    """Check that the directory of a run or sweep can be removed as a whole.

    Raises:
        UserError: it is no run below the outputs directory, or it is a job of a sweep.
    """
    shown, sweep = repr(str(directory)), directory.parent
    if not list_matching(directory, BEGUN) or _relative(directory) == Path():
        raise UserError(f"{shown} is not the directory of a run: name a run by its id")
    if (sweep / MULTIRUN).exists() and read_number(directory) is not None:
        raise UserError(
            f"{shown} is a job, without which its sweep would be incomplete: remove the whole "
            f"sweep {str(sweep)!r}, or leave it out"
        )


def _relative(directory: Path) -> Path:
    """Path of a directory below the outputs directory; links are followed only if needed."""
    outputs = outputs_directory()
    for path, above in (
        (directory.absolute(), outputs.absolute()),
        (directory.resolve(), outputs.resolve()),
    ):
        if path.is_relative_to(above) and ".." not in path.parts:
            return path.relative_to(above)
    raise UserError(
        f"{str(directory)!r} is not below {str(outputs)!r}: set LYRICGEN_OUTPUTS to its outputs "
        "directory, or remove it yourself"
    )


def move_to_trash(directory: Path) -> Path:
    """Move a run or sweep into `.trash` of the outputs directory; `check_removable` comes first.

    If latest.txt names the run, it names the newest run that is left afterwards.

    Returns:
        The new path: the old one below `.trash`, with _2, _3, … added to a name that is taken.

    Raises:
        UserError: another process works on the run or on a job of the sweep, or it cannot be moved.
    """
    was_newest = is_newest(directory)
    wanted = outputs_directory() / TRASH / _relative(directory)
    jobs = (path for path in directory.iterdir() if read_number(path) is not None and path.is_dir())
    try:
        with ExitStack() as locks:
            for claimed in (directory, *jobs):
                locks.enter_context(claim_directory(claimed))
            wanted.parent.mkdir(parents=True, exist_ok=True)
            target, number = wanted, 1
            while os.path.lexists(target):
                number += 1
                target = wanted.with_name(f"{wanted.name}_{number}")
            _move(directory, target)
    except OSError as error:
        raise UserError(
            f"{str(directory)!r} cannot be moved to {str(wanted)!r} ({error.strerror or error}): "
            "mend that, or remove the directory yourself"
        ) from error
    if was_newest:
        record_newest_left()
    return target


def _move(directory: Path, target: Path) -> None:
    """Move a directory, also to another file system; the target appears when it is complete."""
    try:
        directory.rename(target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    copy = target.with_name(f".{target.name}.part")
    try:
        shutil.copytree(directory, copy, symlinks=True)
        copy.rename(target)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    shutil.rmtree(directory)
