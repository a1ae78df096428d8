"""From a file, plain or packed, to its text: everything a file can get wrong is told here."""

import gzip
import os
import re
import stat
import zipfile
import zlib
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import IO

from lyricgen.errors import UserError

DEFAULT_MAX_BYTES = 256_000_000

_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_CHUNK = 1 << 20  # bytes a read
# Unicode's class Cc without \t, \n and \r, and the lone surrogates that some codecs let through:
# no such character can be part of a text that is later written as UTF-8 to a terminal or a log.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# What the standard library raises on archives whose bytes are not what their headers promise.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    IndexError,
    NotImplementedError,
    ValueError,
)


def read_text(
    path: str | os.PathLike[str], encoding: str = "utf-8", max_bytes: int = DEFAULT_MAX_BYTES
) -> str:
    r"""Read a text from a plain file, a gzip file or a zip archive of exactly one file.

    The three are told apart by their first bytes, never by their names, and unpacked in memory.
    A byte-order mark at the start is dropped; nothing else is changed.

    Args:
        path: The file, shown in every error as it is given here.
        encoding: A text encoding that Python knows. It is never guessed and never lenient.
        max_bytes: The most bytes the file may hold, both as it lies there and unpacked.

    Returns:
        The text: at least one character, none of them a control character other than
        ``\n``, ``\r`` and ``\t``.

    Raises:
        UserError: If the file is missing, not a file, unreadable, empty, too large, a damaged,
            encrypted or ambiguous archive, not in ``encoding``, or has control characters.
    """
    shown = repr(os.fspath(path))
    if max_bytes < 1:
        raise UserError(f"data.max_bytes={max_bytes}: it must be at least 1")
    data = _read_file(path, shown, max_bytes)
    if data.startswith(_GZIP):
        data = _unpack_gzip(data, shown, max_bytes)
    elif data.startswith(_ZIP):
        data = _unpack_zip(data, shown, max_bytes)
    text = _decode(data, shown, encoding)
    if not text:
        raise UserError(f"{shown} is empty; name a file with text in it (data.path=FILE)")
    _refuse_control_characters(text, shown)
    return text


def _read_capped(stream: IO[bytes] | BufferedIOBase, shown: str, max_bytes: int) -> bytearray:
    # In chunks: read(max_bytes + 1) would reserve all of a generous limit for the smallest file.
    data = bytearray()
    while chunk := stream.read(min(_CHUNK, max_bytes + 1 - len(data))):
        data += chunk
    if len(data) > max_bytes:
        raise UserError(
            f"{shown} holds more than the {max_bytes} bytes allowed; "
            f"raise the limit, for example data.max_bytes={2 * max_bytes}"
        )
    return data


def _read_file(path: str | os.PathLike[str], shown: str, max_bytes: int) -> bytearray:
    try:
        with Path(path).open("rb") as stream:
            return _read_capped(stream, shown, max_bytes)
    except (OSError, ValueError) as error:  # ValueError: a path that no file system can hold
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"cannot read {shown}: {reason}; name a readable text file (data.path=FILE)"
        ) from error


def _unpack_gzip(packed: bytearray, shown: str, max_bytes: int) -> bytearray:
    try:
        with gzip.GzipFile(fileobj=BytesIO(packed)) as stream:
            return _read_capped(stream, shown, max_bytes)
    except _DAMAGE as error:
        raise _damaged(shown, "gzip file", error) from error


def _unpack_zip(packed: bytearray, shown: str, max_bytes: int) -> bytearray:
    try:
        with zipfile.ZipFile(BytesIO(packed)) as archive:
            member = _only_member(archive, shown)
            with archive.open(member) as stream:
                return _read_capped(stream, shown, max_bytes)
    except _DAMAGE as error:
        raise _damaged(shown, "zip archive", error) from error


def _damaged(shown: str, kind: str, error: Exception) -> UserError:
    # The library's words may quote bytes of the file, so they are escaped like any other.
    reason = repr(str(error) or "cut short")
    return UserError(f"{shown} is a damaged {kind} ({reason}); get it again")


def _only_member(archive: zipfile.ZipFile, shown: str) -> zipfile.ZipInfo:
    members = [info for info in archive.infolist() if _may_be_text(info)]
    if len(members) != 1:
        seen = members or archive.infolist()
        names = ", ".join(repr(info.filename) for info in seen[:5])
        more = f" and {len(seen) - 5} more" if len(seen) > 5 else ""
        raise UserError(
            f"{shown} is a zip archive with {len(members)} text files where exactly one is needed; "
            f"it holds {names or 'nothing'}{more}; unpack it and name one (data.path=FILE)"
        )
    [member] = members
    if member.flag_bits & 1:
        raise UserError(f"{shown} is an encrypted zip archive; unpack it and name the text file")
    # Only these two are unpacked by zipfile in bounded steps: a bzip2 or LZMA bomb would go off.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(
            f"{shown} is a zip archive packed by method {member.compress_type}, which is not read; "
            "pack it with the ordinary one (deflate) or unpack it"
        )
    return member


def _may_be_text(info: zipfile.ZipInfo) -> bool:
    return not (
        info.is_dir()
        or stat.S_ISLNK(info.external_attr >> 16)  # its content is a path, not a text
        or info.filename.startswith("__MACOSX/")
        or info.filename.rsplit("/", 1)[-1].startswith(".")
    )


def _decode(data: bytearray, shown: str, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        # A codec that drops a byte-order mark first counts from behind it.
        offset = error.start + len(data) - len(error.object)
        raise UserError(
            f"{shown} is not in the encoding {encoding!r}: byte 0x{data[offset]:02X} at offset "
            f"{offset} ({error.reason}); if it is in another one, name it, for example "
            "data.encoding=gb18030"
        ) from error
    except (LookupError, ValueError) as error:
        raise UserError(
            f"data.encoding={encoding!r} is not a text encoding that Python knows; "
            "name another, for example utf-8, gb18030, big5 or utf-16"
        ) from error


def _refuse_control_characters(text: str, shown: str) -> None:
    found = FORBIDDEN.search(text)
    if found is None:
        return
    before = text[: found.start()].replace("\r\n", "\n").replace("\r", "\n")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    raise UserError(
        f"{shown} has the control character U+{ord(found[0]):04X} at line {line}, column {column}; "
        "remove it, or name the file's encoding if it is another (data.encoding=utf-16)"
    )
