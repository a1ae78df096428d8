"""Encodings that a file of unknown encoding may be in, and what it would read in each."""

import codecs
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np

from lyricgen.errors import printable

# In the order of preference where two read equally well. Of the Korean and the Japanese encodings
# nearly every text is also one of a Chinese encoding, but not the other way round.
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
# The letters beyond ASCII of each of some languages in Latin letters.
_LATIN = (
    "àâæçéèêëîïôœùûüÿ äöüßé áéíóúüñ àçèéíïòóúü àáâãçéêíóôõúü àèéìíòóùú ëïéèêöüá åäöæøéü "
    "áðéíóúýþæö áéíóöőúüű ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž čćđšž ăâîşţșț "
    "çğıiöşüâîû ąčęėįšųūž āčēģīķļņšūž äöüõšž"
)
_ASCII = frozenset(map(chr, range(128)))
_MOSTLY = 10  # sound characters beyond ASCII for each damaged place
_SHOWN = 5  # encodings in a message
_BEFORE, _EXCERPT, _SAMPLE = 6, 14, 4000  # characters


class Reading(NamedTuple):
    """A file as an encoding reads it: the share of odd characters, and some of the characters."""

    encoding: str
    oddity: float
    excerpt: str


def possible_readings(pieces: Iterable[bytes], tried: str) -> list[Reading]:
    """Find the encodings that decode a whole file.

    Args:
        pieces: the file's bytes.
        tried: an encoding that is left out.

    Returns:
        What each of them reads, the most plausible first; of equal readings the first.
    """
    attempts = [_Attempt(name) for name in _MULTIBYTE if not _same(name, tried)]
    used = np.zeros(256, np.int64)  # how often each byte occurs
    sample = b""
    for piece in pieces:
        used += np.bincount(np.frombuffer(piece, np.uint8), minlength=256)
        attempts = [attempt for attempt in attempts if attempt.feed(piece)]
        if not sample and not piece.isascii():
            sample = piece
    attempts = [attempt for attempt in attempts if attempt.feed(b"")]
    samples = {attempt.encoding: attempt.sample for attempt in attempts}
    alphabet = bytes(np.flatnonzero(used).tolist())
    for name in _SINGLE_BYTE:
        if not _same(name, tried) and _decodes(name, alphabet):
            samples[name] = _from_first_beyond_ascii(sample.decode(name, "replace"))
    different = {text: name for name, text in reversed(samples.items()) if text}
    readings = [
        Reading(name, oddity(text), " ".join(text[:_EXCERPT].split()))
        for text, name in different.items()
    ]
    order = list(samples)
    return sorted(readings, key=lambda one: (round(one.oddity, 2), order.index(one.encoding)))


def count_damage(pieces: Iterable[bytes], encoding: str) -> int:
    """Count the places that an encoding cannot decode in a file that is in it otherwise.

    Returns:
        Their number; 0 if they are so many, or the rest reads so oddly, that the file is in another
        encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    damaged, sound, sample = 0, 0, ""
    for piece in chain(pieces, [b""]):
        text = decoder.decode(piece, not piece)
        places = text.count("\ufffd")
        damaged += places
        sound += sum(map(text.count, set(text) - _ASCII)) - places
        sample = sample or _from_first_beyond_ascii(text.replace("\ufffd", ""))
    return damaged if sound > _MOSTLY * damaged and oddity(sample) < 0.1 else 0


def advice(readings: Sequence[Reading]) -> str:
    """Say which encodings a file may be in."""
    if not readings:
        return "no encoding known here decodes all of it: it is damaged, or no text"
    shown = ", ".join(
        f"data.encoding={one.encoding} ('{printable(one.excerpt)}')" for one in readings[:_SHOWN]
    )
    return f"name the encoding that reads well: {shown}"


class _Attempt:
    """A decoder, and the first characters beyond ASCII that it has come to."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.sample = ""
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def feed(self, data: bytes) -> bool:
        """Decode a piece, the last one being empty; False where it cannot be."""
        try:
            text = self._decoder.decode(data, not data)
        except (UnicodeDecodeError, ValueError):
            return False
        self.sample = self.sample or _from_first_beyond_ascii(text)
        return "\0" not in text


def _from_first_beyond_ascii(text: str) -> str:
    if text.isascii():
        return ""
    first = next(place for place, character in enumerate(text) if character > "\x7f")
    return text[max(0, first - _BEFORE) :][:_SAMPLE]


def _same(name: str, tried: str) -> bool:
    return codecs.lookup(name).name == codecs.lookup(tried).name


def _decodes(name: str, alphabet: bytes) -> bool:
    try:
        text = alphabet.decode(name)
    except UnicodeDecodeError:
        return False
    return not any(character == "\0" or "\x80" <= character <= "\x9f" for character in text)


def oddity(text: str) -> float:
    """Share of a text's characters beyond ASCII that do not fit their surroundings, 0 … 1."""
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
        # accents stand between plain letters, letters of other scripts beside their like
        if _is_latin(character):
            strange = before.isalpha() and before > "\x7f"
        else:
            strange = any(one.isalpha() and one <= "\x7f" for one in (before, after))
        if strange or (before.islower() and character.isupper()):
            return 1
        return 0.3 if before.isalpha() and character.isupper() else 0
    if category[0] == "P":
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
    """The everyday characters of China, Taiwan, Japan and Korea."""
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
