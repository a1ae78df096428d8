"""Files that are whole under their name, or not there."""

import io
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

NOT_ORDINARY = "it is no ordinary file"


@contextmanager
def replacing(path: Path, *, follow_link: bool = False) -> Iterator[BinaryIO]:
    """Write beside a file, wait for the disk, then take its place.

    A kill, a full disk or an error inside the block leaves what was there before.

    Args:
        path: of the file.
        follow_link: take the place of the file that a link names, instead of the link's.

    Raises:
        OSError: the disk is full or may not be written.
    """
    if follow_link:
        path = Path(os.path.realpath(path))
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with temporary.open("xb") as stream:
            yield stream
            to_disk(stream)
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            # a full disk does not say what for, and nobody knows the temporary file
            error.filename = str(path)
            del error.filename2
        temporary.unlink(missing_ok=True)
        raise
    _names_to_disk(path.parent)


def open_ordinary(path: Path) -> io.BufferedReader:
    """Open an ordinary file, or a link to one, to read it; a pipe or a device may never end.

    Raises:
        OSError: it cannot be opened, or is no ordinary file.
        ValueError: the path has the character NUL.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a device may have effects
        raise OSError(NOT_ORDINARY)
    # not blocking: another file may have taken its place by now
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb")
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(NOT_ORDINARY)


def _temporary_name(name: str) -> str:
    """A name that no other writer has: process numbers repeat where containers share a disk."""
    start = os.fsdecode(os.fsencode(name)[:200])  # a name has at most 255 bytes
    return f".{start}.{secrets.token_hex(8)}.part"


def expand_home(path: str | os.PathLike[str]) -> Path:
    """A path whose leading ~ means the user's home; unchanged where that is not known."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  which raises where it is not known


def remove_torn(directory: Path) -> None:
    """Remove what `replacing` has left of files whose writing was cut short by a kill.

    Args:
        directory: in which nobody writes at the moment.
    """
    for path in directory.glob(".*.part"):
        if re.search(r"\.[0-9a-f]{16}\.part$", path.name) and path.is_file():
            path.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8, or leave what was there; errors as `replacing`."""
    with replacing(path) as stream:
        stream.write(text.encode())


def to_json(value: Any) -> str:
    """Plain values as JSON, which knows no infinity: what is not finite is written as null."""
    return json.dumps(finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Plain values with None for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_disk(stream: BinaryIO) -> None:
    """Wait until what was written would survive a loss of power.

    Raises:
        OSError: the disk is full.
    """
    stream.flush()
    os.fsync(stream.fileno())


def _names_to_disk(directory: Path) -> None:
    with suppress(OSError):  # not every file system lets a directory be opened
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
