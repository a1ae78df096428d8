"""Faults of a text file: control characters, and bytes that its encoding cannot decode."""

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np

from lyricgen.data.options import ControlCharacters
from lyricgen.data.vocabulary import find_characters
from lyricgen.errors import UserError, escape_line

_CONTROLS = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
# Unicode's class Cc without \t, \n and \r; and lone surrogates, which some codecs let through, but
# which cannot be written as UTF-8.
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
_LISTED = 8  # most kinds of characters in a message
_CHOICES = (
    "data.control_characters=newline turns them into newlines, data.control_characters=drop "
    "leaves them out"
)

# In order of preference. Nearly every Korean or Japanese text can be decoded as Chinese, too, but
# not the other way round.
_MULTIBYTE = (
    *("utf-8", "utf-32-le", "utf-32-be", "euc_kr", "cp949", "shift_jis", "cp932", "euc_jp"),
    *("gb18030", "big5", "cp950", "big5hkscs", "utf-16-le", "utf-16-be"),
)
_SINGLE_BYTE = (
    *("cp1252", "cp1251", "cp1250", "koi8_r", "cp1253", "cp1254", "cp1257", "cp1255", "cp1256"),
    *("cp874", "iso8859_15", "mac_roman", "cp437", "cp850", "cp866"),
)
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# The letters beyond ASCII of languages in Latin script, one word for each language.
_LATIN = (
    "àâæçéèêëîïôœùûüÿ äöüßé áéíóúüñ àçèéíïòóúü àáâãçéêíóôõúü àèéìíòóùú ëïéèêöüá åäöæøéü "
    "áðéíóúýþæö áéíóöőúüű ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž čćđšž ăâîşţșț "
    "çğıiöşüâîû ąčęėįšųūž āčēģīķļņšūž äöüõšž"
)
_ASCII = frozenset(map(chr, range(128)))
_MOSTLY = 10  # a damaged place needs more sound characters beyond ASCII than this
_SHOWN = 5  # most encodings in a message
# characters of a sample: before its first one beyond ASCII, shown in a message, and in all
_BEFORE, _EXCERPT, _SAMPLE = 6, 14, 4000


class ControlCharacterFilter:
    r"""Filter that replaces, deletes or counts the control characters of a text in pieces.

    Tabs, ``\n`` and ``\r`` are kept and not counted.

    Args:
        name: of the text, for messages.
        action: `newline` replaces each control character by a newline, `drop` deletes it, `refuse`
            counts it for `error`. Lone surrogates are always counted.
        choices: advice at the end of `error`, unless the characters point to another encoding.
    """

    def __init__(self, name: str, action: ControlCharacters, choices: str = _CHOICES) -> None:
        self.name, self.action, self.choices = name, action, choices
        self._positions: dict[str, str] = {}  # line and column of the first character of each kind
        self._counts: Counter[str] = Counter()
        self._line, self._column = 1, 1  # place of the next character
        self._after_return = False
        self._length = 0
        self._nuls = [0, 0]  # numbers of NULs at even and at odd places
        self._shifts = False  # whether there is an escape sequence of ISO-2022-JP

    def feed(self, piece: str) -> str:
        """Filter the control characters of the next piece, and return the filtered piece."""
        # The few distinct characters are searched much faster than all of them.
        kinds = FORBIDDEN.findall(find_characters(piece))
        if kinds and self.action != "refuse":
            piece = _REPLACED.sub("\n" if self.action == "newline" else "", piece)
            kinds = [kind for kind in kinds if kind in piece]
        self._counts.update({kind: piece.count(kind) for kind in kinds})
        if "\0" in kinds:
            for parity in (0, 1):
                self._nuls[(self._length + parity) % 2] += piece[parity::2].count("\0")
        passed = 0
        for kind in sorted(set(kinds) - self._positions.keys(), key=piece.index):
            index = piece.index(kind)
            self._pass(piece[passed:index])
            passed = index
            self._positions[kind] = f"line {self._line}, column {self._column}"
        self._shifts = self._shifts or "\x1b$B" in piece
        self._pass(piece[passed:])
        return piece

    @property
    def error(self) -> UserError | None:
        """Error about the characters counted so far; None if no character was counted."""
        return UserError(f"{self.message}; {self._advice()}") if self._counts else None

    @property
    def misread(self) -> bool:
        """Whether a C1 control other than U+0085 was counted, which suggests a wrong encoding."""
        return any("\x80" <= kind <= "\x9f" and kind != "\x85" for kind in self._counts)

    @property
    def message(self) -> str:
        """Message about the counted characters: up to eight kinds, with counts and first places."""
        kinds = [
            f"U+{ord(kind):04X}{f' ({_NAMES[kind]})' if kind in _NAMES else ''} "
            f"{'once' if self._counts[kind] == 1 else f'{self._counts[kind]:,} times, first'} "
            f"at {position}"
            for kind, position in self._positions.items()
        ]
        more = f"; and {len(kinds) - _LISTED} more kinds" if len(kinds) > _LISTED else ""
        return f"{self.name} has control characters: {'; '.join(kinds[:_LISTED])}{more}"

    def _advice(self) -> str:
        nuls = sum(self._nuls)
        share = nuls / max(1, self._length)
        order = "le" if self._nuls[1] > self._nuls[0] else "be"
        if 0.7 < share < 0.8:
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
            ends -= 1  # this \n belongs to a \r that was counted
        self._after_return = text[-1] == "\r"
        self._length += len(text)
        self._line += ends
        last = max(text.rfind("\n"), text.rfind("\r"))
        self._column = len(text) - last if last >= 0 else self._column + len(text)


class Reading(NamedTuple):
    """An encoding that decodes a file, and facts about a sample of the text.

    Attributes:
        oddity: see `oddity`.
        excerpt: some characters.
        beyond: number of characters beyond ASCII.
    """

    encoding: str
    oddity: float
    excerpt: str
    beyond: int


def possible_readings(pieces: Iterable[bytes], tried: str) -> list[Reading]:
    """Find the encodings of a fixed list that decode all of a file's bytes.

    Args:
        pieces: the bytes.
        tried: an encoding to leave out; Python must know it.

    Returns:
        Readings, the most plausible first. Encodings that decode a sample to the same characters
        share one reading. An encoding that decodes to a NUL or only to ASCII has no reading, nor
        has an encoding of one byte for each character that decodes to a C1 control.
    """
    decoders = {
        name: codecs.getincrementaldecoder(name)()
        for name in _MULTIBYTE
        if not _is_same_codec(name, tried)
    }
    samples = dict.fromkeys(decoders, "")
    used, sample = np.zeros(256, np.int64), b""  # how often each byte occurs
    for piece in chain(pieces, [b""]):
        used += np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
        sample = sample or (b"" if piece.isascii() else piece)
        for name, decoder in list(decoders.items()):
            try:
                text = decoder.decode(piece, not piece)
            except ValueError:
                text = "\0"
            if "\0" in text:
                del decoders[name], samples[name]
            else:
                samples[name] = samples[name] or _from_first_beyond_ascii(text)
    alphabet = bytes(np.flatnonzero(used).tolist())
    for name in _SINGLE_BYTE:
        if not _is_same_codec(name, tried) and not re.search(
            "[\0\x80-\x9f\ufffd]", alphabet.decode(name, "replace")
        ):
            samples[name] = _from_first_beyond_ascii(sample.decode(name, "replace"))
    different = {text: name for name, text in reversed(samples.items()) if text}
    readings = []
    for text, name in different.items():
        excerpt = " ".join(text[:_EXCERPT].split())
        beyond = sum(character > "\x7f" for character in text)
        readings.append(Reading(name, oddity(text), excerpt, beyond))
    order = list(samples)
    return sorted(readings, key=lambda one: (round(one.oddity, 2), order.index(one.encoding)))


def count_damage(pieces: Iterable[bytes], encoding: str) -> int:
    """Count the places in a file that an encoding cannot decode.

    Returns:
        The number of places; 0 if the file seems to have another encoding: its text is odd, or has
        few sound characters beyond ASCII for each damaged place.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    damaged, sound, sample = 0, 0, ""
    for piece in chain(pieces, [b""]):
        text = decoder.decode(piece, not piece)
        count = text.count("\ufffd")
        damaged += count
        sound += sum(map(text.count, set(text) - _ASCII)) - count
        sample = sample or _from_first_beyond_ascii(text.replace("\ufffd", ""))
    return damaged if sound > _MOSTLY * damaged and oddity(sample) < 0.1 else 0


def encoding_advice(readings: Sequence[Reading]) -> str:
    """Advise which encoding to name; without `readings`, say that no known one decodes the file."""
    if not readings:
        return "no encoding known here decodes all of it: it is damaged, or no text"
    shown = ", ".join(
        f"data.encoding={one.encoding} ('{escape_line(one.excerpt)}')" for one in readings[:_SHOWN]
    )
    return f"name the encoding that reads well: {shown}"


def _from_first_beyond_ascii(text: str) -> str:
    if text.isascii():
        return ""
    first = next(index for index, character in enumerate(text) if character > "\x7f")
    return text[max(0, first - _BEFORE) :][:_SAMPLE]


def _is_same_codec(name: str, tried: str) -> bool:
    return codecs.lookup(name).name == codecs.lookup(tried).name


def oddity(text: str) -> float:
    """Estimate the share of odd characters among a text's characters beyond ASCII.

    A character is odd if it does not fit its neighbours or the text's likeliest language. The share
    is 0 for ASCII. It may exceed 1, since a character may be odd for both reasons.
    """
    text = f" {text} "
    east_asian, latin, odd, every = "", "", 0.0, 0
    for before, character, after in zip(text, text[1:], text[2:], strict=False):
        if character <= "\x7f":
            continue
        every += 1
        if _is_east_asian(character):
            if (before + after).isascii() and before.isalpha() and after.isalpha():
                odd += 1  # inside a word of another script
            else:
                east_asian += character
        else:
            odd += _oddity(before, character, after)
            latin += character.lower()[0] if _is_latin(character) else ""
    odd += min(sum(one not in letters for one in latin) for letters in _LATIN.split()) / 2
    rare = min(sum(one not in common for one in east_asian) for common in _common_characters())
    return (odd + rare) / max(1, every)


def _oddity(before: str, character: str, after: str) -> float:
    category = unicodedata.category(character)
    if category[0] == "L":
        # an accented letter stands beside plain letters; other scripts do not mix with them
        if _is_latin(character):
            strange = before.isalpha() and before > "\x7f"
        else:
            strange = any(one.isalpha() and one <= "\x7f" for one in (before, after))
        if strange or (before.islower() and character.isupper()):
            return 1
        return 0.3 if before.isalpha() and character.isupper() else 0
    if category[0] == "P":
        if unicodedata.east_asian_width(character) in "WF":
            return 0  # East Asian texts have no spaces beside punctuation
        inside = before.isalpha() and after.isalpha() and character not in "’‐·—…"
        return 1 if inside else 0
    if category[0] == "M":
        return 0 if before.isalpha() or unicodedata.category(before)[0] == "M" else 1
    return 0 if category[0] == "Z" or category == "Sc" else 1


def _is_latin(character: str) -> bool:
    return unicodedata.name(character, "").startswith("LATIN")


def _is_east_asian(character: str) -> bool:
    return unicodedata.name(character, "").startswith(
        ("CJK U", "CJK C", "HIRAG", "KATAK", "HANGUL")
    )


@cache
def _common_characters() -> tuple[frozenset[str], ...]:
    """Find the common characters of China, Taiwan, Japan and Korea, one set for each."""
    kana = frozenset(map(chr, range(0x3041, 0x3100)))
    return (
        _rows("gb2312", 0xB0, 0xD7),
        _rows("big5", 0xA4, 0xC6),
        _rows("euc_jp", 0xB0, 0xCF) | kana,
        _rows("euc_kr", 0xB0, 0xC8),
    )


def _rows(encoding: str, first: int, last: int) -> frozenset[str]:
    pairs = (bytes((lead, trail)) for lead in range(first, last + 1) for trail in range(0x40, 0xFF))
    return frozenset("".join(pair.decode(encoding, "ignore") for pair in pairs)) - _ASCII
