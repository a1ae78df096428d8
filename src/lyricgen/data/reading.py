"""From a file, plain or packed, to its text: everything a file can get wrong is told here."""

import codecs
import os
import re
import sys
from collections.abc import Callable, Iterator
from itertools import chain

from lyricgen.data.code_points import distinct
from lyricgen.data.unpacking import unpacked
from lyricgen.errors import UserError

DEFAULT_MAX_BYTES = 256_000_000

# Unicode's class Cc without \t, \n and \r, and the lone surrogates that some codecs let through:
# no such character can be part of a text that is later written as UTF-8 to a terminal or a log.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# Python reads these without a byte-order mark in the machine's order, but not in pieces.
_NEEDS_MARK = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


def read_text(
    path: str | os.PathLike[str], encoding: str = "utf-8", max_bytes: int = DEFAULT_MAX_BYTES
) -> str:
    """Read a whole text; arguments and errors are those of `text_pieces`."""
    return "".join(text_pieces(path, encoding, max_bytes))


def text_pieces(
    path: str | os.PathLike[str],
    encoding: str = "utf-8",
    max_bytes: int = DEFAULT_MAX_BYTES,
    passed: Callable[[int], object] = lambda _: None,
) -> Iterator[str]:
    r"""Read a text from a plain file, a gzip file or a zip archive of exactly one file.

    The three are told apart by their first bytes, never by their names, and unpacked in memory.
    A byte-order mark at the start is dropped; nothing else is changed.

    Args:
        path: The file, shown in every error as it is given here.
        encoding: A text encoding that Python knows. It is never guessed and never lenient.
        max_bytes: The most bytes the file may hold, both as it lies there and unpacked.
        passed: Told before each piece how many of the file's own bytes have been read.

    Yields:
        Pieces of the text, none empty: at least one character in all, none of them a control
        character other than ``\n``, ``\r`` and ``\t``.

    Raises:
        UserError: If the file is missing, not a file, unreadable, empty, too large, a damaged,
            encrypted or ambiguous archive, not in ``encoding``, or has control characters. What
            is wrong with the bytes is told before what is wrong with the characters.
    """
    shown = repr(os.fspath(path))
    if max_bytes < 1:
        raise UserError(f"data.max_bytes={max_bytes}: it must be at least 1")
    decoder, place = _Decoder(shown, encoding), _Place(shown)
    empty, undecodable, forbidden = True, None, None
    for data in chain(unpacked(path, max_bytes, passed), [b""]):
        if undecodable is not None:
            continue  # an archive that turns out to be damaged is the deeper cause
        try:
            piece = decoder.decode(data)
        except UserError as error:
            undecodable = error
            continue
        forbidden = forbidden or place.check(piece)
        if piece and forbidden is None:
            empty = False
            yield piece
    if (error_found := undecodable or forbidden) is not None:
        raise error_found
    if empty:
        raise UserError(f"{shown} is empty; name a file with text in it (data.path=FILE)")


class _Decoder:
    """Bytes to characters, piece by piece; the last piece is empty."""

    def __init__(self, shown: str, encoding: str) -> None:
        self.shown = shown
        self.encoding = encoding
        self._head = b""  # kept until it is long enough for any byte-order mark
        self._fed = 0  # bytes
        self._started = False  # some character has come
        self._decoder: codecs.IncrementalDecoder | None = None

    def decode(self, data: bytes) -> str:
        final = not data
        try:
            if self._decoder is None:
                self._head = data = self._head + data
                if len(data) < 4 and not final:
                    return ""
                self._decoder = _incremental_decoder(self.encoding, data)
            self._fed += len(data)
            piece = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            # What the codec complains of ends where we are, and may begin in an earlier piece.
            offset = self._fed - len(error.object) + error.start
            raise UserError(
                f"{self.shown} is not in the encoding {self.encoding!r}: byte "
                f"0x{error.object[error.start]:02X} at offset {offset} ({error.reason}); if it is "
                "in another one, name it, for example data.encoding=gb18030"
            ) from error
        except (LookupError, ValueError) as error:
            raise UserError(
                f"data.encoding={self.encoding!r} is not a text encoding that Python knows; "
                "name another, for example utf-8, gb18030, big5 or utf-16"
            ) from error
        if piece and not self._started:
            self._started = True
            piece = piece.removeprefix("\ufeff")
        return piece


def _incremental_decoder(encoding: str, head: bytes) -> codecs.IncrementalDecoder:
    "".encode(encoding)  # refuses codecs that are not of text, as bytes.decode does
    name = codecs.lookup(encoding).name
    if name in _NEEDS_MARK and not head.startswith(_NEEDS_MARK[name]):
        name += "-le" if sys.byteorder == "little" else "-be"
    return codecs.getincrementaldecoder(name)()


class _Place:
    """The line and column that the pieces have come to, and the search for what may not be."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.line, self.column = 1, 1  # of the next character
        self._after_return = False

    def check(self, piece: str) -> UserError | None:
        # The few distinct characters are searched much faster than all of them.
        if not FORBIDDEN.search(distinct(piece)):
            self._pass(piece)
            return None
        found = FORBIDDEN.search(piece)
        if found is None:
            raise RuntimeError("a piece has lost a character")
        self._pass(piece[: found.start()])
        return UserError(
            f"{self.shown} has the control character U+{ord(found[0]):04X} at line {self.line}, "
            f"column {self.column}; remove it, or name the file's encoding if it is another "
            "(data.encoding=utf-16)"
        )

    def _pass(self, text: str) -> None:
        if not text:
            return
        ends = text.count("\n") + text.count("\r") - text.count("\r\n")
        if self._after_return and text[0] == "\n":
            ends -= 1  # the second half of an end that was counted
        self._after_return = text[-1] == "\r"
        self.line += ends
        last = max(text.rfind("\n"), text.rfind("\r"))
        self.column = len(text) - last if last >= 0 else self.column + len(text)
