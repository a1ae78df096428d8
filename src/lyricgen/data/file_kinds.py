"""Kinds of files by their first bytes, and the texts in zip archives."""

import bz2
import gzip
import lzma
import os
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from lyricgen.data.options import KEPT_INPUT
from lyricgen.errors import UserError

HEAD = 1100  # first bytes of a file, which tell its kind

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

ZIP = "zip archive"
# kind of a packed file -> its first bytes, and its reader, which unpacks only as much as is read
PACKED: dict[str, tuple[tuple[bytes, ...], Callable[[BufferedReader], Any]]] = {
    ZIP: ((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"), zipfile.ZipFile),
    "gzip file": ((b"\x1f\x8b",), lambda file: gzip.GzipFile(fileobj=file)),
    "bzip2 file": (tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)), bz2.BZ2File),
    "xz file": ((b"\xfd7zXZ\0",), lzma.LZMAFile),
}


class NoTextError(UserError):
    """Error for a file that holds no text; `kind` describes the file, as in "a picture"."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


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


class Member(NamedTuple):
    """A file in an open zip archive."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo


@dataclass(frozen=True)
class TextFile:
    """A file that may hold a text.

    Attributes:
        path: of the file, or of the zip archive that holds it.
        member: its place in the archive; None for another file.
        named: whether the user named the file itself, and no folder, pattern or archive.
    """

    path: str | os.PathLike[str]
    member: Member | None = None
    named: bool = True

    @property
    def shown(self) -> str:
        """The quoted path, for messages."""
        path = os.fspath(self.path)
        inner = "" if self.member is None else f"/{self.member.info.filename}"
        return repr(("standard input" if KEPT_INPUT.search(path) else path) + inner)

    @property
    def size(self) -> int:
        """Number of bytes, packed as they are.

        Raises:
            OSError: the file is gone.
        """
        member = self.member
        return Path(self.path).stat().st_size if member is None else member.info.compress_size


def packed_kind(file: BufferedReader) -> str:
    """Return the kind of a packed file, a name in `PACKED`; "" for a plain file."""
    head = file.peek(16)[:16]
    return next((kind for kind, (marks, _) in PACKED.items() if head.startswith(marks)), "")


def refuse_kind(shown: str, head: bytes) -> None:
    """Refuse the unpacked content of a file that begins with `head` if its kind is no text.

    Raises:
        NoTextError: the kind is known, and no text.
    """
    for mark, kind, advice in _KINDS:
        if mark.match(head):
            raise _no_plain_text(shown, kind, advice)


def text_members(archive: zipfile.ZipFile, shown: str) -> list[zipfile.ZipInfo]:
    """List the files of an archive that may be texts, in sorted order of their names.

    `shown` is the quoted path of the archive.

    Raises:
        NoTextError: the archive is a document, such as an EPUB book, or has no such file.
    """
    names = archive.namelist()
    for name, kind in _IN_ZIP.items():
        if name in names:
            raise _no_plain_text(shown, kind, _SAVE)
    members = [info for info in archive.infolist() if _may_be_text(info)]
    if not members:
        message = _count_members(archive.infolist(), shown, 0)
        raise NoTextError(message, "a zip archive without a text")
    return sorted(members, key=lambda info: info.filename.split("/"))


def only_member(archive: zipfile.ZipFile, shown: str) -> zipfile.ZipInfo:
    """Return the only file of an archive that may be a text.

    Raises:
        UserError: the archive has no or several such files.
    """
    members = text_members(archive, shown)
    if len(members) > 1:
        raise UserError(_count_members(members, shown, len(members)))
    return members[0]


def check_member(info: zipfile.ZipInfo, shown: str) -> zipfile.ZipInfo:
    """Return a file of an archive, if it can be unpacked piece by piece.

    Raises:
        UserError: the file is encrypted, or packed by another method than zipfile unpacks so.
    """
    if info.flag_bits & 1:
        raise UserError(f"{shown} is an encrypted zip archive; unpack it and name the text file")
    # zipfile unpacks only these two in bounded steps; others could fill the memory.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(
            f"{shown} is a zip archive packed by method {info.compress_type}, which is not read; "
            "pack it with the ordinary one (deflate) or unpack it"
        )
    return info


def _no_plain_text(shown: str, kind: str, advice: str) -> NoTextError:
    return NoTextError(f"{shown} is {kind}, no plain text: {advice}", kind)


def _count_members(seen: list[zipfile.ZipInfo], shown: str, texts: int) -> str:
    listed = ", ".join(repr(info.filename) for info in seen[:5]) or "nothing"
    more = f" and {len(seen) - 5} more" if len(seen) > 5 else ""
    return (
        f"{shown} is a zip archive with {texts} text files where exactly one is needed; "
        f"it holds {listed}{more}; unpack it and name one (data.path=FILE)"
    )


def _may_be_text(info: zipfile.ZipInfo) -> bool:
    return not (
        info.is_dir()
        or stat.S_ISLNK(info.external_attr >> 16)  # its content is a path, not a text
        or info.filename.startswith("__MACOSX/")
        or any(part[:1] == "." and part not in (".", "..") for part in info.filename.split("/"))
    )
