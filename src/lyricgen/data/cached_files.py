"""The cache directory, and the texts that it keeps as files: published ones, standard input."""

import hashlib
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pooch

from lyricgen.data.file_kinds import size_error
from lyricgen.data.options import PublishedText
from lyricgen.errors import UserError, reason
from lyricgen.files import expand_home, to_disk

_LONGEST = 100  # most characters of the reason why a file cannot be fetched
_CHUNK = 1 << 20  # bytes read at a time
MAX_BYTES = 16_000_000_000  # default limit of a text that is not held in memory


def cache_directory() -> Path:
    """Find the directory of fetched and encoded texts: $LYRICGEN_DATA, else in the user's cache."""
    # A leading ~ is expanded, as pooch does: both have to mean the same directory.
    return expand_home(os.environ.get("LYRICGEN_DATA") or pooch.os_cache("lyricgen"))


def fetch_published(published: PublishedText) -> Path:
    """Fetch a published file if it is missing, check its checksum, and return its path.

    Raises:
        UserError: The file cannot be fetched, cannot be read or is not the published file.
    """
    path = cache_directory() / published.file_name
    # lexists: a fetch would also replace a link whose target is missing.
    if not os.path.lexists(path):
        _fetch(published, path)
    try:
        found = _digest(path)
    except OSError as error:
        raise UserError(
            f"cannot read {str(path)!r}: {error.strerror}; make it readable, or set LYRICGEN_DATA "
            "to another directory"
        ) from error
    # Checked here, because pooch would overwrite a file that is not the published one.
    if found != published.sha256:
        raise UserError(
            f"{str(path)!r} is not the published file: its sha256 is {found}, expected "
            f"{published.sha256}; move it away, or set LYRICGEN_DATA to another directory"
        )
    return path


def _fetch(published: PublishedText, path: Path) -> None:
    pooch.get_logger().setLevel("ERROR")  # pooch would announce each download
    try:
        pooch.retrieve(
            url=published.url,
            known_hash=f"sha256:{published.sha256}",
            fname=path.name,
            path=path.parent,
            progressbar=False,
        )
    except Exception as error:  # raised by pooch, by requests or because of the disk
        why = ""
        deeper: BaseException | None = error  # the first cause is plain: "Connection refused"
        while deeper is not None:
            why = getattr(deeper, "strerror", None) or why
            deeper = deeper.__cause__ or deeper.__context__
        raise UserError(
            f"cannot fetch {published.url} ({why or reason(error)[:_LONGEST]}): try again, or put "
            f"the file there by hand as {str(path)!r}"
        ) from error


def keep_standard_input(max_bytes: int = MAX_BYTES) -> Path:
    """Keep the bytes of standard input in the cache, once, and return the path of the file.

    The name of the file's directory is the SHA-256 of the bytes.

    Raises:
        UserError: standard input is closed, a terminal, empty, or has more than `max_bytes` bytes;
            or the cache cannot be written.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise UserError(
            "-: standard input is a terminal or closed: send a text to it, as in "
            "cat my.txt | python -m lyricgen.train -"
        )
    directory = cache_directory() / "stdin"
    temporary = directory / f".{secrets.token_hex(8)}.part"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as stream:
                digest = _copy(sys.stdin.buffer, stream, max_bytes)
                to_disk(stream)
            path = directory / digest / "stdin.txt"
            with suppress(OSError):  # missing
                if _digest(path) == digest:
                    return path
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"-: standard input cannot be kept in {str(directory)!r}: {error.strerror}; make room "
            "there, or set LYRICGEN_DATA to another directory"
        ) from error
    return path


def _copy(source: BinaryIO, target: BinaryIO, max_bytes: int) -> str:
    """Copy all bytes, at least one and at most `max_bytes`; return their SHA-256."""
    digest, left = hashlib.sha256(), max_bytes
    while block := source.read(_CHUNK):
        left -= len(block)
        if left < 0:
            raise size_error("-: standard input", max_bytes)
        digest.update(block)
        target.write(block)
    if left == max_bytes:
        raise UserError("-: standard input is empty: send a text to it, or name a file")
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
