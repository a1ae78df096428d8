"""Kinds of file that hold no plain text, told by their first bytes or by the names in a zip."""

import re
from collections.abc import Collection

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
