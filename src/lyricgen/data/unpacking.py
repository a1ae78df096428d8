"""The bytes of a file, unpacked where it is packed, a piece at a time."""

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import IO

from lyricgen.errors import UserError

HEAD = 1100  # bytes that are enough to tell

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
# a member's name -> what the zip archive is
_IN_ZIP = {
    "word/document.xml": "a Word document (docx)",
    "xl/workbook.xml": "an Excel workbook (xlsx)",
    "ppt/presentation.xml": "a PowerPoint presentation (pptx)",
    "META-INF/container.xml": "an EPUB book",
    "content.xml": "an OpenDocument file (odt, ods)",
}


_ZIP = "zip archive"
# the first bytes of the files that are unpacked
_PACKED = {
    "gzip file": (b"\x1f\x8b",),
    _ZIP: (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"),
    "bzip2 file": tuple(b"BZh%d" % level + b"1AY&SY" for level in range(1, 10)),
    "xz file": (b"\xfd7zXZ\0",),
}
_CHUNK = 1 << 20  # bytes a read
# What the standard library raises on archives whose bytes are not what their headers promise.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    IndexError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    ValueError,
)


def foreign_kind(head: bytes) -> tuple[str, str] | None:
    """Name the kind of a file that holds no plain text.

    Args:
        head: its first `HEAD` bytes, unpacked.

    Returns:
        What it is and what to do; None for a text.
    """
    found = ((name, advice) for pattern, name, advice in _KINDS if pattern.match(head))
    return next(found, None)


def document_kind(names: Collection[str]) -> tuple[str, str] | None:
    """Name the document that a zip archive holds, by the names in it; None for no document."""
    return next(((kind, _SAVE) for name, kind in _IN_ZIP.items() if name in names), None)


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as one that is unpacked.

    Raises:
        OSError: It cannot be read.
        UserError: It is a pipe or a device.
    """
    with _opened(path) as file:
        return _kind(file) != ""


def unpacked(
    path: str | os.PathLike[str],
    max_bytes: int,
    passed: Callable[[int], object] = lambda _: None,
) -> Iterator[bytes]:
    """Read a plain file, a gzip, bzip2 or xz file, or a zip archive of exactly one file.

    They are told apart by their first bytes, never by their names. Nothing is unpacked to the
    disk.

    Args:
        path: The file, shown in every error as it is given here.
        max_bytes: The most bytes the file may hold, both as it lies there and unpacked.
        passed: Told before each piece how many of the file's own bytes have been read.

    Yields:
        Pieces of at most a mebibyte, none empty.

    Raises:
        UserError: If the file is missing, not a file, unreadable, too large, a damaged, encrypted
            or ambiguous archive, or of a kind that holds no plain text.
    """
    shown = repr(os.fspath(path))
    kind = ""
    try:
        with ExitStack() as opened:
            file = opened.enter_context(_opened(path))
            if os.fstat(file.fileno()).st_size > max_bytes:
                raise too_large(shown, max_bytes)
            kind = _kind(file)
            stream = _unpacking(file, kind, shown, opened)
            head, left = b"", max_bytes
            # In pieces: read(max_bytes + 1) would reserve all of a generous limit.
            while piece := stream.read(min(_CHUNK, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise too_large(shown, max_bytes)
                if len(head) < HEAD:
                    head += piece[:HEAD]
                    _refuse_kind(foreign_kind(head), shown)
                passed(file.tell() if file.seekable() else 0)
                yield piece
    except _DAMAGE as error:
        raise unreadable(error, shown, kind) from error


def _opened(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file; what is none, a pipe say, may keep its reader waiting for ever."""
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise UserError(f"{os.fspath(path)!r} is no ordinary file: name one with a text in it")
    return Path(path).open("rb")


def _kind(file: BufferedReader) -> str:
    head = file.peek(16)[:16]
    return next((kind for kind, marks in _PACKED.items() if head.startswith(marks)), "")


def _unpacking(
    file: BufferedReader, kind: str, shown: str, opened: ExitStack
) -> IO[bytes] | gzip.GzipFile:
    if kind == _ZIP:
        archive = opened.enter_context(zipfile.ZipFile(file))
        return opened.enter_context(archive.open(_only_member(archive, shown)))
    # each unpacks no more at a time than is read
    if kind == "gzip file":
        return opened.enter_context(gzip.GzipFile(fileobj=file))
    if kind == "bzip2 file":
        return opened.enter_context(bz2.BZ2File(file))
    if kind == "xz file":
        return opened.enter_context(lzma.LZMAFile(file))
    return file


def _refuse_kind(found: tuple[str, str] | None, shown: str) -> None:
    if found is not None:
        raise UserError(f"{shown} is {found[0]}, no plain text: {found[1]}")


def too_large(shown: str, max_bytes: int) -> UserError:
    """Error for a file with more bytes than are allowed."""
    return UserError(
        f"{shown} holds more than the {max_bytes} bytes allowed; "
        f"raise the limit, for example data.max_bytes={2 * max_bytes}"
    )


def unreadable(error: Exception, shown: str, kind: str = "") -> UserError:
    """Error for a file that cannot be read; `kind` names an archive."""
    # EINVAL: a place that a damaged archive points to and no file can have
    from_system = isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}
    if kind and not from_system:
        # The library's words may quote bytes of the file, so they are escaped like any other.
        reason = repr(str(error) or "cut short")
        return UserError(f"{shown} is a damaged {kind} ({reason}); get it again")
    told = error.strerror if isinstance(error, OSError) else error
    return UserError(f"cannot read {shown}: {told}; name a readable text file (data.path=FILE)")


def _only_member(archive: zipfile.ZipFile, shown: str) -> zipfile.ZipInfo:
    _refuse_kind(document_kind(archive.namelist()), shown)
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
