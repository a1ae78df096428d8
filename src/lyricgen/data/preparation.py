"""Preparation of a text: line ends, lower case, length, documents, composed characters (NFC)."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from lyricgen.data.options import ENDS, Newline, Unit
from lyricgen.data.units import UNDIVIDED, Division, divide
from lyricgen.data.vocabulary import find_characters
from lyricgen.errors import UserError

# Vowels and finals of Hangul, which compose with the character before them.
_JAMO = frozenset(map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))))
# Categories of characters that end a word; the lower case of a Σ depends on its place in a word.
_WORD_ENDS = frozenset(("Zs", "Nd", "Lo", "Ps", "Pe", "Sm", "Sc"))


@dataclass(frozen=True)
class Corpus:
    r"""A prepared text.

    Attributes:
        name: Its name in messages.
        unit: ``text`` for a running text, ``line`` for a list of lines, ``document`` for documents.
        text: The characters in composed form (NFC), with ``\n`` as the only line end. With unit
            ``line``, every line ends with ``\n``, also the last, and no line is blank or has white
            space around it. The same holds for documents, which end with U+0003.
        division: How the documents were divided.
    """

    name: str
    unit: Unit
    text: str
    division: Division = UNDIVIDED

    @property
    def lines(self) -> list[str]:
        """The lines or documents in order, without their ends; repeated ones stay."""
        end = ENDS[self.unit]
        return self.text.removesuffix(end).split(end)


def prepare(
    parts: Sequence[str],
    *,
    name: str,
    unit: Unit,
    division: Division = UNDIVIDED,
    newline: Newline = "keep",
    lowercase: bool = False,
    distinct_lines: bool = False,
    max_chars: int | None = None,
) -> Corpus:
    r"""Prepare a text as a corpus.

    Args:
        parts: The parts of the text, such as files; their lines may end with ``\n``, ``\r`` or
            ``\r\n``. A newline joins the parts of a running text.
        name: See `Corpus`.
        unit: See `Corpus`.
        division: How to divide the parts into documents.
        newline: ``keep``, or ``space`` to turn each newline within a text into a space.
        lowercase: Whether to lower-case the text.
        distinct_lines: Whether to keep only the first of equal lines, or of equal documents.
        max_chars: Most characters of the prepared text; the rest is cut off. Only whole lines or
            documents are kept, and the end of each counts. None keeps all.

    Raises:
        UserError: A setting is unknown or contradicts another; `max_chars` is below 2 or does not
            hold the first line; the separator is no line of the text; or the prepared text is
            empty, only white space, or one repeated character.
    """
    _check_settings(unit, newline, max_chars)
    if unit == "text":
        whole = ["\n".join(parts)]
        pieces = prepare_pieces(whole, newline=newline, lowercase=lowercase, max_chars=max_chars)
        text = "".join(pieces)
    else:
        divided = divide_parts(parts, unit, division, lowercase=lowercase)
        _check_divided(len(divided) > len(parts), division, name)
        inner = "\n" if newline == "keep" else " "
        kept = [one.replace("\n", inner) for one in divided if one]
        kept = list(dict.fromkeys(kept)) if distinct_lines else kept
        text = _join(kept, unit, max_chars, name)
    check_symbols(find_characters(text).replace(ENDS["document"], ""), len(text), name)
    return Corpus(name, unit, text, division)


def _join(kept: Sequence[str], unit: Unit, max_chars: int | None, name: str) -> str:
    """Join whole lines or documents of at most `max_chars` characters, each with its end."""
    text = "".join(one + ENDS[unit] for one in kept)
    if not kept or max_chars is None:
        return text
    text = text[: text.rfind(ENDS[unit], 0, max_chars) + 1]
    if not text:
        raise UserError(
            f"data.max_chars={max_chars} does not hold the first {unit} of corpus {name!r}; give "
            f"at least {len(kept[0]) + 1}"
        )
    return text


def _check_divided(divided: bool, division: Division, name: str) -> None:
    if division.separator and not divided:
        raise UserError(
            f"data.separator={division.separator!r} is no line of corpus {name!r}: give a whole "
            "line that stands between documents"
        )


def divide_parts(
    parts: Sequence[str], unit: Unit, division: Division, *, lowercase: bool
) -> list[str]:
    """Compose the parts of a text, and divide them into lines or documents.

    Each loses the white space around it, and may be empty.
    """
    if division.separator:
        separator = "".join(_compose_pieces([division.separator], lowercase))
        division = division._replace(separator=separator)
    composed = ("".join(_compose_pieces([part], lowercase)) for part in parts)
    return [one.strip() for one in divide(composed, unit, division)]


def prepare_pieces(
    pieces: Iterable[str], *, newline: Newline, lowercase: bool, max_chars: int | None
) -> Iterator[str]:
    """Prepare a running text that comes in pieces; `prepare` explains the settings.

    Yields:
        Pieces of the prepared text. The whole does not depend on how the text was cut.

    Raises:
        UserError: `newline` is unknown, or `max_chars` is below 2.
    """
    _check_settings("text", newline, max_chars)
    left = max_chars
    for piece in _compose_pieces(pieces, lowercase):
        kept = piece.replace("\n", " ") if newline == "space" else piece
        if left is not None:
            kept = kept[:left]
            left -= len(kept)
        yield kept
        if left == 0:
            return


def _compose_pieces(pieces: Iterable[str], lowercase: bool) -> Iterator[str]:
    held: list[str] = []  # pieces read since the last place to cut
    has_sigma = False
    for piece in pieces:
        has_sigma = has_sigma or (lowercase and "Σ" in piece)
        cut = _last_cut(piece, has_sigma)
        if cut is None:
            held.append(piece)
            continue
        ready, rest = "".join([*held, piece[:cut]]), piece[cut:]
        if ready:
            yield _compose(ready, lowercase)
        held, has_sigma = [rest], lowercase and "Σ" in rest
    if any(held):
        yield _compose("".join(held), lowercase)


def _last_cut(piece: str, has_sigma: bool) -> int | None:
    """Find the last place for a cut that surely changes nothing; None if there is no such place.

    Args:
        piece: The text to cut.
        has_sigma: Whether the text since the last cut has a Σ to lower-case.
    """
    for index in range(len(piece), -1, -1):
        if index and piece[index - 1] == "\n":
            return index
        if index < len(piece) and _begins(piece[index], has_sigma):
            return index
    return None


def _begins(character: str, has_sigma: bool) -> bool:
    """Whether a text may be cut before a character.

    Marks and the vowels and finals of Hangul may not be cut off, since they compose with the
    character before them; nor may a newline, which may belong to a carriage return. If the text
    before has a Σ to lower-case, as `has_sigma` says, the form of the σ depends on the whole word,
    so the character must also end a word.
    """
    first = unicodedata.normalize("NFD", character)[0]
    if character in "\r\n" or unicodedata.category(first).startswith("M") or first in _JAMO:
        return False
    ends_word = unicodedata.category(character) in _WORD_ENDS and character not in "ªº"
    return ends_word or not has_sigma


def _compose(text: str, lowercase: bool) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Composed last, since some letters have a composed form with an accent only in lower case.
    return unicodedata.normalize("NFC", text.lower() if lowercase else text)


def _check_settings(unit: str, newline: str, max_chars: int | None) -> None:
    for setting, value, choices in (("unit", unit, Unit), ("newline", newline, Newline)):
        if value not in get_args(choices):
            choose = " or ".join(get_args(choices))
            raise UserError(f"data.{setting}={value!r} is unknown; choose {choose}")
    if unit == "line" and newline == "space":
        raise UserError(
            "data.newline=space does not go with data.unit=line, where the newline ends a line; "
            "choose data.newline=keep or data.unit=text"
        )
    if max_chars is not None and max_chars < 2:
        raise UserError(
            f"data.max_chars={max_chars} leaves nothing to predict; give at least 2, or null for "
            "the whole text"
        )


def check_symbols(characters: str, length: int, name: str) -> None:
    """Refuse a corpus that has nothing to learn from.

    Args:
        characters: The distinct characters of the corpus.
        length: Number of characters of the whole corpus, for the message.
        name: The name of the corpus, for the message.

    Raises:
        UserError: The corpus is empty, only white space, or one repeated character.
    """
    if not characters or characters.isspace():
        raise UserError(
            f"corpus {name!r} holds only white space ({length} characters kept); "
            "give a text with words in it, or a larger data.max_chars"
        )
    if len(characters) == 1:
        raise UserError(
            f"corpus {name!r} holds one single symbol, {characters!r}; a model needs at least two "
            "distinct characters: give another text, or a larger data.max_chars"
        )
