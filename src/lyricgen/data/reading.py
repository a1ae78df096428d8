"""Reading of a text file, plain or packed, with a message for each fault of a file."""

import codecs
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain

from lyricgen.console import progress
from lyricgen.data.options import ControlCharacters
from lyricgen.data.text_encodings import MARKS, advice, count_damage, possible_readings
from lyricgen.data.unpacking import unpacked
from lyricgen.data.vocabulary import distinct
from lyricgen.errors import UserError

_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
# Unicode's class Cc without \t, \n and \r, and the lone surrogates that some codecs let through:
# no such character can be part of a text that is later written as UTF-8 to a terminal or a log.
FORBIDDEN = re.compile(f"[{_CONTROLS}\ud800-\udfff]")
_REPLACED = re.compile(f"[{_CONTROLS}]")
_NAMES = {
    "\0": "NUL",
    "\x08": "backspace",
    "\x0b": "vertical tab",
    "\x0c": "form feed",
    "\x1a": "Ctrl-Z",
    "\x1b": "escape",
    "\x7f": "delete",
    "\x85": "next line",
}
_LISTED = 8  # kinds in a message
_CHOICES = (
    "data.control_characters=newline turns them into newlines, data.control_characters=drop "
    "leaves them out"
)
DEFAULT_MAX_BYTES = 256_000_000


class ControlCharacterFilter:
    """Replaces the control characters of a text that comes in pieces, or counts them.

    Args:
        shown: what to call the text in the message.
        wanted: `refuse` counts all kinds for `error`, `newline` puts a newline in place of each,
            `drop` leaves them out. Lone surrogates are always refused.
        choices: what the message offers to do about them.
    """

    def __init__(self, shown: str, wanted: ControlCharacters, choices: str = _CHOICES) -> None:
        self.shown = shown
        self.wanted = wanted
        self.choices = choices
        self._places: dict[str, str] = {}  # of the first of each kind
        self._counts: Counter[str] = Counter()
        self._line, self._column = 1, 1  # of the next character
        self._after_return = False
        self._length = 0
        self._nuls = [0, 0]  # at even and at odd places
        self._shifts = False  # ESC as ISO-2022-JP has it

    def feed(self, piece: str) -> str:
        """Replace what is to be replaced, and count what is refused."""
        # The few distinct characters are searched much faster than all of them.
        kinds = FORBIDDEN.findall(distinct(piece))
        if kinds and self.wanted != "refuse":
            piece = _REPLACED.sub("\n" if self.wanted == "newline" else "", piece)
            kinds = [kind for kind in kinds if kind in piece]
        self._counts.update({kind: piece.count(kind) for kind in kinds})
        if "\0" in kinds:
            for place in (0, 1):
                self._nuls[(self._length + place) % 2] += piece[place::2].count("\0")
        passed = 0
        for kind in sorted(set(kinds) - self._places.keys(), key=piece.index):
            place = piece.index(kind)
            self._pass(piece[passed:place])
            passed = place
            self._places[kind] = f"line {self._line}, column {self._column}"
        self._shifts = self._shifts or "\x1b$B" in piece
        self._pass(piece[passed:])
        return piece

    @property
    def error(self) -> UserError | None:
        """Message about the refused characters; None if there were none."""
        return UserError(f"{self.found}; {self._advice()}") if self._counts else None

    @property
    def misread(self) -> bool:
        """Whether there are characters that only a wrong encoding without gaps reads."""
        return any("\x80" <= kind <= "\x9f" and kind != "\x85" for kind in self._counts)

    @property
    def found(self) -> str:
        """The kinds that are refused, each with its number and its first place."""
        kinds = [
            f"U+{ord(kind):04X}{f' ({_NAMES[kind]})' if kind in _NAMES else ''} "
            f"{'once' if self._counts[kind] == 1 else f'{self._counts[kind]:,} times, first'} "
            f"at {place}"
            for kind, place in self._places.items()
        ]
        more = f" and {len(kinds) - _LISTED} more kinds" if len(kinds) > _LISTED else ""
        listed = "; ".join(kinds[:_LISTED])
        return f"{self.shown} has control characters: {listed}{';' if more else ''}{more}"

    def _advice(self) -> str:
        nuls = sum(self._nuls)
        share = nuls / max(1, self._length)
        order = "le" if self._nuls[1] > self._nuls[0] else "be"
        if share > 0.7:
            return "the NULs are those of UTF-32: name it (data.encoding=utf-32-le or utf-32-be)"
        if share > 0.2 and max(self._nuls) > 0.95 * nuls:
            return f"NULs alternate, as in UTF-16: name it (data.encoding=utf-16-{order})"
        if self._shifts:
            return "the escapes are those of ISO-2022-JP: name it (data.encoding=iso2022_jp)"
        if all("\ud800" <= kind <= "\udfff" for kind in self._counts):
            return "halves of characters: take them out, or name another encoding"
        return self.choices

    def _pass(self, text: str) -> None:
        if not text:
            return
        ends = text.count("\n") + text.count("\r") - text.count("\r\n")
        if self._after_return and text[0] == "\n":
            ends -= 1  # the second half of an end that was counted
        self._after_return = text[-1] == "\r"
        self._length += len(text)
        self._line += ends
        last = max(text.rfind("\n"), text.rfind("\r"))
        self._column = len(text) - last if last >= 0 else self._column + len(text)


def read_text(
    path: str | os.PathLike[str],
    encoding: str = "utf-8",
    max_bytes: int = DEFAULT_MAX_BYTES,
    control_characters: ControlCharacters | None = "refuse",
) -> str:
    """Read a whole text; see `text_pieces` for arguments and errors."""
    return "".join(text_pieces(path, encoding, max_bytes, control_characters=control_characters))


def text_pieces(
    path: str | os.PathLike[str],
    encoding: str = "utf-8",
    max_bytes: int = DEFAULT_MAX_BYTES,
    passed: Callable[[int], object] = lambda _: None,
    control_characters: ControlCharacters | None = "refuse",
) -> Iterator[str]:
    r"""Read a text from a plain file, a gzip, bzip2 or xz file, or a zip archive of one file.

    Their first bytes tell them apart. A byte-order mark decides the encoding and is dropped.

    Args:
        path: The file, shown in every error as it is given here.
        encoding: Of a file without a byte-order mark: a text encoding that Python knows.
        max_bytes: The most bytes the file may hold, both as it lies there and unpacked.
        passed: Told before each piece how many of the file's own bytes have been read.
        control_characters: What becomes of all but ``\n``, ``\r`` and ``\t``; None: they stay.

    Yields:
        Pieces of the text, none empty: at least one character in all.

    Raises:
        UserError: If the file cannot be read, or is no plain text in its encoding.
    """
    shown = repr(os.fspath(path))
    if max_bytes < 1:
        raise UserError(f"data.max_bytes={max_bytes}: it must be at least 1")
    decoder = _Decoder(shown, encoding)
    controls = ControlCharacterFilter(shown, control_characters or "refuse")
    empty, undecodable = True, None
    for data in chain(unpacked(path, max_bytes, passed), [b""]):
        if undecodable is not None:
            continue  # an archive that turns out to be damaged is the deeper cause
        try:
            piece = decoder.decode(data)
        except _UndecodableError as error:
            undecodable = error
            continue
        piece = piece if control_characters is None else controls.feed(piece)
        if piece and controls.error is None:
            empty = False
            yield piece
    if undecodable is not None:
        raise UserError(f"{undecodable}{_other_encodings(path, undecodable.codec, max_bytes)}")
    if controls.error is not None and controls.misread and not decoder.codec.startswith("utf"):
        raise UserError(f"{controls.found}{_other_encodings(path, decoder.codec, max_bytes)}")
    if controls.error is not None:
        raise controls.error
    if empty:
        raise UserError(f"{shown} is empty; name a file with text in it (data.path=FILE)")


def _other_encodings(path: str | os.PathLike[str], tried: str, max_bytes: int) -> str:
    """Advice about a file that is not in the encoding tried."""
    with progress("looking for the encoding", 2 * os.stat(path).st_size) as moved:  # noqa: PTH116
        damaged = count_damage(unpacked(path, max_bytes, moved), tried)
        if damaged:
            places = "this place" if damaged == 1 else f"the {damaged:,} such places"
            return f"; all else in it is: mend {places}"
        readings = possible_readings(unpacked(path, max_bytes, moved), tried)
    return f"; {advice(readings)}"


class _UndecodableError(Exception):
    """A file is not in an encoding; the message says where."""

    def __init__(self, message: str, codec: str) -> None:
        super().__init__(message)
        self.codec = codec


class _Decoder:
    """Bytes to characters, piece by piece; the last piece is empty."""

    def __init__(self, shown: str, encoding: str) -> None:
        self.shown = shown
        self.encoding = self.codec = encoding
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
                self.encoding, self.codec = _chosen(self.encoding, data)
                self._decoder = codecs.getincrementaldecoder(self.codec)()
            self._fed += len(data)
            piece = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            # What the codec complains of ends where we are, and may begin in an earlier piece.
            offset = self._fed - len(error.object) + error.start
            raise _UndecodableError(
                f"{self.shown} is not in the encoding {self.encoding!r}: byte "
                f"0x{error.object[error.start]:02X} at offset {offset} ({error.reason})",
                self.codec,
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


def _chosen(encoding: str, head: bytes) -> tuple[str, str]:
    """The encoding that a byte-order mark asks for, or else the one given; and its codec."""
    "".encode(encoding)  # refuses codecs that are not of text, as bytes.decode does
    name = codecs.lookup(encoding).name
    marked = next((kind for mark, kind in MARKS.items() if head.startswith(mark)), None)
    if marked is not None and not name.startswith(marked):
        return marked, marked
    if marked is not None:  # of the same family, the mark tells the order of the bytes
        return encoding, name if marked == "utf-8" else marked
    if name in ("utf-16", "utf-32"):
        # Python reads these in the machine's order without a mark, but not in pieces.
        return encoding, f"{name}-{'le' if sys.byteorder == 'little' else 'be'}"
    return encoding, name
