"""Directories that one process at a time may work in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lyricgen.errors import UserError
from lyricgen.files import open_ordinary

LOCK = ".lock"
MARK = b"lyricgen\n"  # in the lock of a run's directory that was empty before


def mark(directory: Path) -> None:
    """Mark the files of a run that is killed from now on as its own.

    Raises:
        OSError: the lock is a link, or cannot be written.
    """
    path = directory / LOCK
    try:
        with path.open("xb") as stream:  # follows no link
            stream.write(MARK)
    except FileExistsError:
        if path.is_symlink():
            raise


def is_marked(directory: Path) -> bool:
    """Whether a run of lyricgen has begun in a directory."""
    try:
        with open_ordinary(directory / LOCK) as stream:
            return stream.read(len(MARK) + 1) == MARK
    except OSError:  # the answer
        return False


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Keep every other process out of a directory, until this one ends at the latest.

    Raises:
        UserError: another process works there.
    """
    lock = FileLock(directory / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{str(directory)!r} is in use by another process: wait for it, or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()
