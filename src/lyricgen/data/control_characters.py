"""Control characters, which no text may have: counted, refused, or replaced."""

import re
from collections import Counter

from lyricgen.data.code_points import distinct
from lyricgen.data.options import ControlCharacters
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
