"""Write files that are whole or absent, open ordinary files only, and find files by patterns."""

import glob
import io
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

NOT_ORDINARY = "it is no ordinary file"


@contextmanager
def replace_file(path: Path, *, follow_link: bool = False) -> Iterator[BinaryIO]:
    """Replace a file as a whole, once its new content is on the disk.

    A kill, a full disk or an error inside the block leaves the earlier file, if there is one.

    Args:
        path: the file, in an existing directory.
        follow_link: replace the file that a link names, instead of the link.

    Yields:
        The stream to write to.

    Raises:
        OSError: the file cannot be written; the error names it, not the temporary file.
    """
    if follow_link:
        path = Path(os.path.realpath(path))
    # random, since process numbers repeat if containers share a disk; at most 255 bytes
    start = os.fsdecode(os.fsencode(path.name)[:200])
    temporary = path.with_name(f".{start}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
            to_disk(stream)
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            # a full disk names no file, and a user does not know the temporary one
            error.filename = str(path)
            del error.filename2
        temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every file system lets a directory be opened
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # its names
        finally:
            os.close(directory)


def open_ordinary(path: Path) -> io.BufferedReader:
    """Open an ordinary file to read it, but no pipe or device, which may never end.

    Raises:
        OSError: the path cannot be opened, or is no ordinary file.
        ValueError: the path has the character NUL.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a device may have effects
        raise OSError(NOT_ORDINARY)
    # not blocking: a pipe may have taken its place by now
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb")
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(NOT_ORDINARY)


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace a leading ~ or ~user by the home directory, if it is known."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  expanduser of Path may raise


def list_matches(path: str | os.PathLike[str]) -> list[str]:
    """List the paths that match a pattern, such as songs/*.txt, in sorted order.

    Hidden files do not match, `**` follows no links, and a path without wildcards matches nothing.
    """
    parts = Path(path).parts
    plain = list(takewhile(lambda part: not glob.has_magic(part), parts))
    pattern = parts[len(plain) :]
    if not pattern:
        return []
    wanted = "/".join(part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern)
    found = (one.relative_to(*plain) if plain else one for one in Path(*plain).glob(wanted))
    hidden = any(part.startswith(".") for part in pattern)
    kept = (one for one in found if hidden or not any(part.startswith(".") for part in one.parts))
    return sorted(str(Path(*plain, one)) for one in kept)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a file or a folder, or a pattern that matches one."""
    with suppress(OSError, ValueError):  # too long, NUL
        return Path(path).exists() or bool(list_matches(path))
    return False


def remove_torn(directory: Path) -> None:
    """Remove the temporary files of `replace_file` that a killed process has left.

    No other process may write to the directory at the same time.

    Raises:
        OSError: a file cannot be removed.
    """
    for path in directory.glob(".*.part"):
        if re.search(r"\.[0-9a-f]{16}\.part$", path.name) and path.is_file():
            path.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8 by `replace_file`."""
    with replace_file(path) as stream:
        stream.write(text.encode())


def to_json(value: Any) -> str:
    """Turn plain values into JSON, with null for NaN and infinity."""
    return json.dumps(keep_finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def keep_finite(value: Any) -> Any:
    """Copy plain values, with None for NaN and infinity in all dictionaries and lists."""
    if isinstance(value, dict):
        return {key: keep_finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [keep_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_disk(stream: BinaryIO) -> None:
    """Wait until the data of a stream is on the disk."""
    stream.flush()
    os.fsync(stream.fileno())
