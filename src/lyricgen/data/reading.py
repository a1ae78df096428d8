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
from contextlib import ExitStack
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
    NoTextError,
    TextFile,
    check_member,
    only_member,
    packed_kind,
    refuse_kind,
    size_error,
)
from lyricgen.data.options import DEFAULT_MAX_BYTES, ControlCharacters
from lyricgen.errors import UserError
from lyricgen.files import NOT_ORDINARY, open_ordinary

log = logging.getLogger(__name__)

# Of a text whose encoding is found: largest oddity, fewest characters beyond ASCII, and most bytes,
# since it is read some more times.
MOST_ODDITY, FEWEST_BEYOND, MOST_SEARCHED = 0.02, 10, 1 << 26
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
    file = TextFile(path)
    return "".join(text_pieces(file, encoding, max_bytes, control_characters=control_characters))


def text_pieces(
    file: TextFile,
    encoding: str = "utf-8",
    max_bytes: int = DEFAULT_MAX_BYTES,
    passed: Callable[[int], object] = lambda _: None,
    control_characters: ControlCharacters | None = "refuse",
) -> Iterator[str]:
    """Read a text from a plain file, a gzip, bzip2 or xz file, or a zip archive of one text file.

    The first bytes of the file, not its name, tell how it is packed. A byte-order mark decides the
    encoding and is dropped.

    Args:
        file: The file; a zip archive itself must hold a single text.
        encoding: Of a file without a byte-order mark; `_find_encoding` may replace "utf-8".
        max_bytes: Most bytes of the file, and of its text when unpacked.
        passed: Called often with the number of bytes of the file read so far.
        control_characters: See `ControlCharacterFilter`; None keeps all control characters.

    Yields:
        Pieces of the text, none of them empty.

    Raises:
        UserError: An argument is wrong; the file is missing, no ordinary file, unreadable, empty or
            too large; an archive is damaged, encrypted, packed by an unknown method, or does not
            hold exactly one text file; or the content is no plain text in its encoding, or has
            refused characters. Some pieces may come before the error.
    """
    shown = file.shown
    controls = ControlCharacterFilter(shown, control_characters or "refuse")
    data, empty = unpack_file(file, max_bytes, passed), True
    head, encoding, codec = _choose_codec(_find_encoding(file, max_bytes, encoding), data)
    try:
        for decoded in _decode_blocks(chain([head], data), shown, encoding, codec):
            piece = decoded if control_characters is None else controls.feed(decoded)
            if piece and controls.error is None:
                empty = False
                yield piece
    except _UndecodableError as error:
        deque(data, maxlen=0)  # an archive that turns out to be damaged is the deeper cause
        raise UserError(f"{error}{_other_encodings(file, max_bytes, codec)}") from error
    if controls.error is not None and controls.misread and not codec.startswith("utf"):
        raise UserError(f"{controls.message}{_other_encodings(file, max_bytes, codec)}")
    if controls.error is not None:
        raise controls.error
    if empty:
        raise NoTextError(f"{shown} is empty; {_OTHER}", "empty")


def file_kind(path: str | os.PathLike[str]) -> str:
    """Return the kind of a packed file, such as "gzip file"; "" for a plain file.

    Raises:
        OSError: The file cannot be read, or is a pipe, a device or a socket.
        ValueError: The path has the character NUL.
    """
    with open_ordinary(Path(path)) as file:
        return packed_kind(file)


def reading_error(error: Exception, shown: str, kind: str = "") -> UserError:
    """Make the error for a file that cannot be read.

    Args:
        error: The reason.
        shown: The quoted path of the file.
        kind: The kind of a packed file; "" for a plain file, or if the kind is unknown.
    """
    if str(error) == NOT_ORDINARY:
        return UserError(f"{shown} is no ordinary file: name one with a text in it")
    # EINVAL: a damaged archive points to a place that no file can have
    from_system = isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}
    if kind and not from_system:
        # The library's message may quote bytes of the file, so it is escaped.
        reason = repr(str(error) or "cut short")
        return UserError(f"{shown} is a damaged {kind} ({reason}); get it again")
    why = error.strerror if isinstance(error, OSError) else error
    return UserError(f"cannot read {shown}: {why}; name a readable text file (data.path=FILE)")


def unpack_file(
    file: TextFile, max_bytes: int, passed: Callable[[int], object] = lambda _: None
) -> Iterator[bytes]:
    """Read a file's unpacked bytes in pieces; `text_pieces` explains the arguments and errors."""
    if max_bytes < 1:
        raise UserError(f"data.max_bytes={max_bytes}: it must be at least 1")
    shown, member, kind, start = file.shown, file.member, "", 0
    try:
        with ExitStack() as opened:
            source: Any
            stream: Any
            if member is not None:
                check_member(member.info, shown)
                kind, source, start = ZIP, member.archive.fp, member.info.header_offset
                stream = opened.enter_context(member.archive.open(member.info))
            else:
                stream = source = opened.enter_context(open_ordinary(Path(file.path)))
                if os.fstat(source.fileno()).st_size > max_bytes:
                    raise size_error(shown, max_bytes)
                kind = packed_kind(source)
                if kind:
                    stream = opened.enter_context(PACKED[kind][1](source))
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
                passed(source.tell() - start if source.seekable() else 0)
                yield piece
    except DAMAGE as error:
        raise reading_error(error, shown, kind) from error


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


def _find_encoding(file: TextFile, max_bytes: int, encoding: str) -> str:
    """Find the encoding of a file: one that reads well, if the file is not in a chosen UTF-8.

    The result is the chosen encoding also for a file that has a byte-order mark, that UTF-8 cannot
    decode at few places, that no encoding reads well, or that is longer than `MOST_SEARCHED`. The
    log names another encoding. An unchanged file is searched once.
    """
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        return encoding
    try:
        found = Path(file.path).stat()
    except (OSError, ValueError):  # reading the file explains it
        return encoding
    key = file.shown, found.st_ino, found.st_size, found.st_mtime_ns
    if key not in _FOUND:
        other = _FOUND[key] = _guess_encoding(file, max_bytes)
        if other is not None:
            log.info("%s: read in the encoding %s (data.encoding=%s)", file.shown, other, other)
    return _FOUND[key] or encoding


def _guess_encoding(file: TextFile, max_bytes: int) -> str | None:
    """Guess the encoding of a file that is not in UTF-8; None if it is, or if no guess is sure."""
    decoder, head, size = codecs.getincrementaldecoder("utf-8")(), b"", 0
    try:
        for block in chain(unpack_file(file, max_bytes), [b""]):
            head, size = head or block, size + len(block)
            if size > MOST_SEARCHED:
                return None
            decoder.decode(block, not block)
        return None
    except UnicodeDecodeError:
        if (
            any(map(head.startswith, MARKS))
            or sum(map(len, unpack_file(file, max_bytes))) > MOST_SEARCHED
        ):
            return None
    if count_damage(unpack_file(file, max_bytes), "utf-8"):
        return None
    for one in possible_readings(unpack_file(file, max_bytes), "utf-8")[:1]:
        # any bytes of an even number are UTF-16 of some kind
        if one.oddity <= MOST_ODDITY and one.beyond >= FEWEST_BEYOND and "utf" not in one.encoding:
            return one.encoding
    return None


def _no_encoding(encoding: str) -> UserError:
    return UserError(
        f"data.encoding={encoding!r} is not a text encoding that Python knows; "
        "name another, for example utf-8, gb18030, big5 or utf-16"
    )


def _other_encodings(file: TextFile, max_bytes: int, tried: str) -> str:
    """Advise to mend the places of a file that the encoding `tried` cannot decode, if they are few.

    Otherwise tell which other encodings decode the file, if any does.
    """
    with progress("looking for the encoding", 2 * file.size) as moved:
        damaged = count_damage(unpack_file(file, max_bytes, moved), tried)
        if damaged:
            places = "this place" if damaged == 1 else f"the {damaged:,} such places"
            return f"; the rest of the file is in it: mend {places}"
        readings = possible_readings(unpack_file(file, max_bytes, moved), tried)
    return f"; {encoding_advice(readings)}"
