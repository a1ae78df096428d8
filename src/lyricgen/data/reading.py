"""Reading of plain and packed text files, piece by piece."""

import codecs
import errno
import logging
import lzma
import os
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any

from lyricgen.console import progress
from lyricgen.data.faults import (
    MARKS,
    ControlCharacterFilter,
    count_damage,
    encoding_advice,
    possible_readings,
)
from lyricgen.data.file_kinds import (
    HEAD,
    PACKED,
    ZIP,
    Member,
    NoTextError,
    check_member,
    only_member,
    packed_kind,
    refuse_kind,
)
from lyricgen.data.options import KEPT_INPUT, ControlCharacters
from lyricgen.errors import UserError

log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 256_000_000
# Of a text whose encoding is found: largest oddity, fewest characters beyond ASCII, and most bytes,
# since it is read some more times.
SURE, FEWEST, MOST = 0.02, 10, 1 << 26
# encodings that were found, by the path, inode, size and time of change; None: as chosen
_FOUND: dict[tuple[str, int, int, int], str | None] = {}
_CHUNK = 1 << 20  # bytes read at a time
_OTHER = "name a file with text in it (data.path=FILE)"

# Errors that the standard library raises on damaged archives.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, IndexError),
    *(MemoryError, NotImplementedError, OverflowError, ValueError),
)


def read_text(
    path: str | os.PathLike[str],
    encoding: str = "utf-8",
    max_bytes: int = DEFAULT_MAX_BYTES,
    control_characters: ControlCharacters | None = "refuse",
) -> str:
    """Read a whole text file; `text_pieces` explains the arguments and errors."""
    return "".join(text_pieces(path, encoding, max_bytes, control_characters=control_characters))


def text_pieces(
    path: str | os.PathLike[str],
    encoding: str = "utf-8",
    max_bytes: int = DEFAULT_MAX_BYTES,
    passed: Callable[[int], object] = lambda _: None,
    control_characters: ControlCharacters | None = "refuse",
    member: Member | None = None,
) -> Iterator[str]:
    """Read a text from a plain file, a gzip, bzip2 or xz file, or a zip archive of one text file.

    The first bytes of the file, not its name, tell how it is packed. A byte-order mark decides the
    encoding and is dropped.

    Args:
        path: The file.
        encoding: Of a file without a byte-order mark; `_find_encoding` may replace "utf-8".
        max_bytes: Most bytes of the file, and of its text when unpacked.
        passed: Called often with the number of bytes of the file read so far.
        control_characters: See `ControlCharacterFilter`; None keeps all control characters.
        member: The file of the zip archive at `path` to read; None for its only text.

    Yields:
        Pieces of the text, none of them empty.

    Raises:
        UserError: An argument is wrong; the file is missing, no ordinary file, unreadable, empty or
            too large; an archive is damaged, encrypted, packed by an unknown method, or does not
            hold exactly one text file; or the content is no plain text in its encoding, or has
            refused characters. Some pieces may come before the error.
    """
    shown = quote_path(path, member)
    controls = ControlCharacterFilter(shown, control_characters or "refuse")
    unpack = partial(unpack_file, path, max_bytes, member=member)
    data, empty = unpack(passed), True
    head, encoding, codec = _choose_codec(_find_encoding(unpack, shown, encoding), data)
    try:
        for decoded in _decode_blocks(chain([head], data), shown, encoding, codec):
            piece = decoded if control_characters is None else controls.feed(decoded)
            if piece and controls.error is None:
                empty = False
                yield piece
    except _UndecodableError as error:
        deque(data, maxlen=0)  # an archive that turns out to be damaged is the deeper cause
        raise UserError(f"{error}{_other_encodings(unpack, codec)}") from error
    if controls.error is not None and controls.misread and not codec.startswith("utf"):
        raise UserError(f"{controls.message}{_other_encodings(unpack, codec)}")
    if controls.error is not None:
        raise controls.error
    if empty:
        raise NoTextError(f"{shown} is empty; {_OTHER}", "empty")


def file_kind(path: str | os.PathLike[str]) -> str:
    """Return the kind of a packed file, such as "gzip file"; "" for a plain file.

    Raises:
        OSError: The file cannot be read.
        UserError: The file is a pipe, a device or a socket.
        ValueError: The path has the character NUL.
    """
    with _open(path) as file:
        return packed_kind(file)


class TooLargeError(UserError):
    """Error for texts with more bytes than data.max_bytes allows."""


def size_error(shown: str, max_bytes: int) -> TooLargeError:
    """Make the error for a text of more than `max_bytes` bytes, packed or unpacked.

    `shown` is the quoted path of the text.
    """
    return TooLargeError(
        f"{shown} holds more than the {max_bytes} bytes allowed; "
        f"raise the limit, for example data.max_bytes={2 * max_bytes}"
    )


def reading_error(error: Exception, shown: str, kind: str = "") -> UserError:
    """Make the error for a file that cannot be read.

    Args:
        error: The reason.
        shown: The quoted path of the file.
        kind: The kind of a packed file; "" for a plain file, or if the kind is unknown.
    """
    # EINVAL: a damaged archive points to a place that no file can have
    from_system = isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}
    if kind and not from_system:
        # The library's message may quote bytes of the file, so it is escaped.
        reason = repr(str(error) or "cut short")
        return UserError(f"{shown} is a damaged {kind} ({reason}); get it again")
    why = error.strerror if isinstance(error, OSError) else error
    return UserError(f"cannot read {shown}: {why}; name a readable text file (data.path=FILE)")


def quote_path(path: str | os.PathLike[str], member: Member | None = None) -> str:
    """Quote the path of a file, or of a file in a zip archive, for messages."""
    named = "standard input" if KEPT_INPUT.search(os.fspath(path)) else os.fspath(path)
    return repr(named + ("" if member is None else f"/{member.info.filename}"))


def unpack_file(
    path: str | os.PathLike[str],
    max_bytes: int,
    passed: Callable[[int], object] = lambda _: None,
    member: Member | None = None,
) -> Iterator[bytes]:
    """Read a file's unpacked bytes in pieces; `text_pieces` explains the arguments and errors."""
    if max_bytes < 1:
        raise UserError(f"data.max_bytes={max_bytes}: it must be at least 1")
    shown, kind = quote_path(path, member), "" if member is None else ZIP
    try:
        with ExitStack() as opened:
            file: Any
            stream: Any
            if member is not None:
                check_member(member.info, shown)
                stream = file = opened.enter_context(member.archive.open(member.info))
            else:
                stream = file = opened.enter_context(_open(path))
                if os.fstat(file.fileno()).st_size > max_bytes:
                    raise size_error(shown, max_bytes)
                kind = packed_kind(file)
                if kind:
                    stream = opened.enter_context(PACKED[kind][1](file))
                if kind == ZIP:
                    info = check_member(only_member(stream, shown), shown)
                    stream = opened.enter_context(stream.open(info))
            head, left = b"", max_bytes
            # In pieces, since read(max_bytes + 1) would reserve that much memory.
            while piece := stream.read(min(_CHUNK, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise size_error(shown, max_bytes)
                if len(head) < HEAD:
                    head += piece[:HEAD]
                    refuse_kind(shown, head)
                passed(file.tell() if file.seekable() else 0)
                yield piece
    except DAMAGE as error:
        raise reading_error(error, shown, kind) from error


def _open(path: str | os.PathLike[str]) -> BufferedReader:
    file = Path(path)
    if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe may never end
        raise UserError(f"{os.fspath(path)!r} is no ordinary file: name one with a text in it")
    # not blocking: some files of the system, such as /proc/kmsg, wait for more
    flag = getattr(os, "O_NONBLOCK", 0)
    return open(file, "rb", opener=lambda name, flags: os.open(name, flags | flag))


class _UndecodableError(Exception):
    """Error for bytes that the chosen encoding cannot decode; the message says where they are."""


def _decode_blocks(blocks: Iterable[bytes], shown: str, encoding: str, codec: str) -> Iterator[str]:
    decoder, fed, started = codecs.getincrementaldecoder(codec)(), 0, False
    for block in chain(blocks, [b""]):
        fed += len(block)
        try:
            piece = decoder.decode(block, not block)
        except UnicodeDecodeError as error:
            # error.object ends with this block, and may begin in an earlier one
            offset = fed - len(error.object) + error.start
            raise _UndecodableError(
                f"{shown} is not in the encoding {encoding!r}: byte "
                f"0x{error.object[error.start]:02X} at offset {offset} ({error.reason})"
            ) from error
        except ValueError as error:
            raise _no_encoding(encoding) from error
        yield piece if started else piece.removeprefix("\ufeff")
        started = started or piece != ""


def _choose_codec(encoding: str, data: Iterator[bytes]) -> tuple[bytes, str, str]:
    """Choose the encoding of a file by its byte-order mark, or else by `encoding`.

    Returns:
        The first bytes of the file, which are taken from `data`; the encoding's name for messages;
        and the codec's name.

    Raises:
        UserError: Python knows no text encoding named `encoding`, even if a mark decides.
    """
    head = b""
    while len(head) < 4 and (block := next(data, b"")):
        head += block
    try:
        "".encode(encoding)  # refuses codecs that are not of text, as bytes.decode does
        name = codecs.lookup(encoding).name
        # refuses those of names in the internet, which cannot replace wrong bytes
        codecs.getincrementaldecoder(name)("replace").decode(b"\xff", True)
    except (LookupError, ValueError) as error:
        raise _no_encoding(encoding) from error
    marked = next((kind for mark, kind in MARKS.items() if head.startswith(mark)), None)
    if marked is not None and not name.startswith(marked):
        return head, marked, marked
    if marked is not None:  # the given encoding; the mark tells its byte order
        return head, encoding, name if marked == "utf-8" else marked
    if name in ("utf-16", "utf-32"):
        # Python reads these in the machine's order without a mark, but not in pieces.
        return head, encoding, f"{name}-{'le' if sys.byteorder == 'little' else 'be'}"
    return head, encoding, name


def _find_encoding(unpack: partial[Iterator[bytes]], shown: str, encoding: str) -> str:
    """Find the encoding of a file: one that reads well, if the file is not in a chosen UTF-8.

    `unpack` is a call of `unpack_file`. The result is the chosen encoding also for a file that has
    a byte-order mark, that UTF-8 cannot decode at few places, that no encoding reads well, or that
    has more than `MOST` bytes. The log names another encoding. An unchanged file is searched once.
    """
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        return encoding
    key = None
    with suppress(OSError, ValueError):  # reading the file explains it
        found = os.stat(unpack.args[0])  # noqa: PTH116
        key = shown, found.st_ino, found.st_size, found.st_mtime_ns
    if key is None or key not in _FOUND:
        other = _guess_encoding(unpack)
        if other is not None:
            log.info("%s: read in the encoding %s (data.encoding=%s)", shown, other, other)
        if key is None:
            return other or encoding
        _FOUND[key] = other
    return _FOUND[key] or encoding


def _guess_encoding(unpack: partial[Iterator[bytes]]) -> str | None:
    """Guess the encoding of a file that is not in UTF-8; None if it is, or if no guess is sure."""
    decoder, head, size = codecs.getincrementaldecoder("utf-8")(), b"", 0
    try:
        for block in chain(unpack(), [b""]):
            head, size = head or block, size + len(block)
            if size > MOST:
                return None
            decoder.decode(block, not block)
        return None
    except UnicodeDecodeError:
        if any(map(head.startswith, MARKS)) or sum(map(len, unpack())) > MOST:
            return None
    if count_damage(unpack(), "utf-8"):
        return None
    for one in possible_readings(unpack(), "utf-8")[:1]:
        # any bytes of an even number are UTF-16 of some kind
        if one.oddity <= SURE and one.beyond >= FEWEST and "utf" not in one.encoding:
            return one.encoding
    return None


def _no_encoding(encoding: str) -> UserError:
    return UserError(
        f"data.encoding={encoding!r} is not a text encoding that Python knows; "
        "name another, for example utf-8, gb18030, big5 or utf-16"
    )


def _other_encodings(unpack: partial[Iterator[bytes]], tried: str) -> str:
    """Advise to mend the places of a file that the encoding `tried` cannot decode, if they are few.

    Otherwise tell which other encodings decode the file, if any does. `unpack` is a call of
    `unpack_file`.
    """
    member: Member | None = unpack.keywords["member"]
    size = member.info.file_size if member else os.stat(unpack.args[0]).st_size  # noqa: PTH116
    with progress("looking for the encoding", 2 * size) as moved:
        damaged = count_damage(unpack(moved), tried)
        if damaged:
            places = "this place" if damaged == 1 else f"the {damaged:,} such places"
            return f"; the rest of the file is in it: mend {places}"
        readings = possible_readings(unpack(moved), tried)
    return f"; {encoding_advice(readings)}"
