"""Files that are whole under their name, or not there."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside a file, wait for the disk, then take its place, or that of what it links to.

    A kill, a full disk or an error inside the block leaves what was there before.

    Raises:
        OSError: the disk is full or may not be written.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            to_disk(stream)
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say what for
        temporary.unlink(missing_ok=True)
        raise
    _names_to_disk(path.parent)


def remove_torn(directory: Path) -> None:
    """Remove what `replacing` has left of files whose writing was cut short by a kill.

    Args:
        directory: in which nobody writes at the moment.
    """
    for path in directory.glob(".*"):
        if path.suffix[1:].isdigit() and path.is_file():
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
