"""Directories that one process at a time may work in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lyricgen.errors import UserError

LOCK = ".lock"


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
