"""Reading of plain and packed text files, piece by piece."""

import bz2
import codecs
import errno
import gzip
import lzma
import os
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
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
from lyricgen.data.options import ControlCharacters
from lyricgen.errors import UserError

DEFAULT_MAX_BYTES = 256_000_000
_CHUNK = 1 << 20  # bytes read at a time
_HEAD = 1100  # first bytes of a file, which tell its kind

_UNPACK = "unpack it and name the text file (data.path=FILE)"
_SAVE = "save it as plain text and name that file (data.path=FILE)"
_OTHER = "name a text file (data.path=FILE)"
_KINDS = [
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), name, advice)
    for pattern, name, advice in (
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
        (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
        (rb"\x28\xb5\x2f\xfd", "a Zstandard file", _UNPACK),
        (rb"\x04\x22\x4d\x18", "an LZ4 file", _UNPACK),
        (rb"\x1f[\x9d\xa0]", "a file packed by compress", _UNPACK),
        (rb"MSCF\0\0\0\0", "a cabinet archive", _UNPACK),
        (rb".{257}ustar[\0 ]", "a tar archive", _UNPACK),
        (rb"\x1f\x8b|PK\x03\x04|BZh[1-9]1AY&SY|\xfd7zXZ\0", "packed twice", _UNPACK),
        (rb".{0,1000}%PDF-\d", "a PDF document", _SAVE),
        (rb"\s*%!PS", "a PostScript document", _SAVE),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (doc, xls, ppt)", _SAVE),
        (rb"\s*\{\\rtf", "an RTF document", _SAVE),
        (rb"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)?(?:<\?xml[^>]{0,200}\?>\s*)?"
         rb"<(?:!doctype\s+html|html|head|body)[\s>]", "an HTML page", _SAVE),
        (rb".{60}(?:BOOKMOBI|TEXtREAd)", "a Mobipocket book", _SAVE),
        (rb"AT&TFORM....DJV", "a DjVu document", _SAVE),
        (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP", "a picture", _OTHER),
        (rb"ID3[\x02-\x04]|OggS\0|fLaC\0|RIFF....WAVE", "a sound file", _OTHER),
        (rb"....ftyp|RIFF....AVI |\x1aE\xdf\xa3", "a film", _OTHER),
        (rb"SQLite format 3\0", "an SQLite database", _OTHER),
        (rb"PAR1.*\x15", "a Parquet table", _SAVE),
        (rb"\x7fELF|MZ\x90\0", "a program", _OTHER),
    )
]  # fmt: skip
# member of a zip archive -> kind of document in it
_IN_ZIP = {
    "word/document.xml": "a Word document (docx)",
    "xl/workbook.xml": "an Excel workbook (xlsx)",
    "ppt/presentation.xml": "a PowerPoint presentation (pptx)",
    "META-INF/container.xml": "an EPUB book",
    "content.xml": "an OpenDocument file (odt, ods)",
}

_ZIP = "zip archive"
# kind of a packed file -> its first bytes, and its reader, which unpacks only as much as is read
_PACKED: dict[str, tuple[tuple[bytes, ...], Callable[[BufferedReader], Any]]] = {
    _ZIP: ((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"), zipfile.ZipFile),
    "gzip file": ((b"\x1f\x8b",), lambda file: gzip.GzipFile(fileobj=file)),
    "bzip2 file": (tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)), bz2.BZ2File),
    "xz file": ((b"\xfd7zXZ\0",), lzma.LZMAFile),
}
# Errors that the standard library raises on damaged archives.
_DAMAGE = (
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
) -> Iterator[str]:
    """Read a text from a plain file, a gzip, bzip2 or xz file, or a zip archive of one text file.

    The first bytes of the file, not its name, tell how it is packed. A byte-order mark decides the
    encoding and is dropped.

    Args:
        path: The file.
        encoding: A text encoding that Python knows, for a file without a byte-order mark.
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
    shown = repr(os.fspath(path))
    if max_bytes < 1:
        raise UserError(f"data.max_bytes={max_bytes}: it must be at least 1")
    controls = ControlCharacterFilter(shown, control_characters or "refuse")
    data, empty = _unpack_file(path, max_bytes, passed), True
    head, encoding, codec = _choose_codec(encoding, data)
    try:
        for decoded in _decode_blocks(chain([head], data), shown, encoding, codec):
            piece = decoded if control_characters is None else controls.feed(decoded)
            if piece and controls.error is None:
                empty = False
                yield piece
    except _UndecodableError as error:
        for _ in data:
            pass  # an archive that turns out to be damaged is the deeper cause
        raise UserError(f"{error}{_other_encodings(path, codec, max_bytes)}") from error
    if controls.error is not None:
        if controls.misread and not codec.startswith("utf"):
            raise UserError(f"{controls.message}{_other_encodings(path, codec, max_bytes)}")
        raise controls.error
    if empty:
        raise UserError(f"{shown} is empty; name a file with text in it (data.path=FILE)")


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a gzip, bzip2, xz or zip file.

    Raises:
        OSError: The file cannot be read.
        UserError: The file is a pipe, a device or a socket.
        ValueError: The path has the character NUL.
    """
    with _open(path) as file:
        return _packed_kind(file) != ""


def size_error(shown: str, max_bytes: int) -> UserError:
    """Make the error for a file of more than `max_bytes` bytes, packed or unpacked.

    `shown` is the quoted path of the file.
    """
    return UserError(
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


def _unpack_file(
    path: str | os.PathLike[str], max_bytes: int, passed: Callable[[int], object]
) -> Iterator[bytes]:
    """Read a file's unpacked bytes in pieces; `text_pieces` explains the arguments and errors."""
    shown, kind = repr(os.fspath(path)), ""
    try:
        with ExitStack() as opened:
            file = opened.enter_context(_open(path))
            if os.fstat(file.fileno()).st_size > max_bytes:
                raise size_error(shown, max_bytes)
            kind = _packed_kind(file)
            stream: Any = opened.enter_context(_PACKED[kind][1](file)) if kind else file
            if kind == _ZIP:
                stream = opened.enter_context(stream.open(_only_member(stream, shown)))
            head, left = b"", max_bytes
            # In pieces, since read(max_bytes + 1) would reserve that much memory.
            while piece := stream.read(min(_CHUNK, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise size_error(shown, max_bytes)
                if len(head) < _HEAD:
                    head += piece[:_HEAD]
                    _refuse_kind(shown, ((k, a) for mark, k, a in _KINDS if mark.match(head)))
                passed(file.tell() if file.seekable() else 0)
                yield piece
    except _DAMAGE as error:
        raise reading_error(error, shown, kind) from error


def _open(path: str | os.PathLike[str]) -> BufferedReader:
    file = Path(path)
    if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe may never end
        raise UserError(f"{os.fspath(path)!r} is no ordinary file: name one with a text in it")
    return file.open("rb")


def _packed_kind(file: BufferedReader) -> str:
    head = file.peek(16)[:16]
    return next((kind for kind, (marks, _) in _PACKED.items() if head.startswith(marks)), "")


def _refuse_kind(shown: str, found: Iterable[tuple[str, str]]) -> None:
    for kind, advice in found:
        raise UserError(f"{shown} is {kind}, no plain text: {advice}")


def _only_member(archive: zipfile.ZipFile, shown: str) -> zipfile.ZipInfo:
    names = archive.namelist()
    _refuse_kind(shown, ((kind, _SAVE) for name, kind in _IN_ZIP.items() if name in names))
    members = [info for info in archive.infolist() if _may_be_text(info)]
    if len(members) != 1:
        seen = members or archive.infolist()
        listed = ", ".join(repr(info.filename) for info in seen[:5])
        more = f" and {len(seen) - 5} more" if len(seen) > 5 else ""
        raise UserError(
            f"{shown} is a zip archive with {len(members)} text files where exactly one is needed; "
            f"it holds {listed or 'nothing'}{more}; unpack it and name one (data.path=FILE)"
        )
    [member] = members
    if member.flag_bits & 1:
        raise UserError(f"{shown} is an encrypted zip archive; unpack it and name the text file")
    # zipfile unpacks only these two in bounded steps; others could fill the memory.
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
        codecs.getincrementaldecoder(name)
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


def _no_encoding(encoding: str) -> UserError:
    return UserError(
        f"data.encoding={encoding!r} is not a text encoding that Python knows; "
        "name another, for example utf-8, gb18030, big5 or utf-16"
    )


def _other_encodings(path: str | os.PathLike[str], tried: str, max_bytes: int) -> str:
    """Advise to mend the places of a file that the encoding `tried` cannot decode, if they are few.

    Otherwise tell which other encodings decode the file, if any does.
    """
    with progress("looking for the encoding", 2 * os.stat(path).st_size) as moved:  # noqa: PTH116
        damaged = count_damage(_unpack_file(path, max_bytes, moved), tried)
        if damaged:
            places = "this place" if damaged == 1 else f"the {damaged:,} such places"
            return f"; the rest of the file is in it: mend {places}"
        readings = possible_readings(_unpack_file(path, max_bytes, moved), tried)
    return f"; {encoding_advice(readings)}"
