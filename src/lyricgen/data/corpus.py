"""The text a model learns from, made ready once so that nothing later touches its characters."""

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Literal, get_args

from lyricgen.errors import UserError

Unit = Literal["text", "line"]
Newline = Literal["keep", "space"]


@dataclass(frozen=True)
class Corpus:
    r"""A text ready to be learnt.

    Attributes:
        name: What to call it in messages.
        unit: ``text`` for one running text, ``line`` for a list of short ones.
        text: The characters, in Unicode's composed form (NFC) and with ``\n`` as the only line
            end. With unit ``line`` every line is stripped, none is blank, and each, the last
            included, ends with ``\n``.
    """

    name: str
    unit: Unit
    text: str

    @property
    def digest(self) -> str:
        """What tells this text from any other: the SHA-256 sum of its UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def lines(self) -> list[str]:
        r"""The lines in their order, repeats included, without their ``\n``."""
        return self.text.removesuffix("\n").split("\n")


def prepare(
    text: str,
    *,
    name: str,
    unit: Unit,
    newline: Newline = "keep",
    lowercase: bool = False,
    max_chars: int | None = None,
) -> Corpus:
    r"""Turn a text as it was read into a corpus.

    Args:
        text: The text, with any of the three line ends.
        name: What to call it in messages.
        unit: ``text`` for one running text, ``line`` for a list of short ones.
        newline: Whether a newline of a running text is kept or becomes a space.
        lowercase: Whether to lower-case the text.
        max_chars: The most characters to keep, from the start and counted in the finished text.
            With unit ``line``, whole lines are kept while they fit, their ``\n`` counted.

    Returns:
        The corpus: at least two distinct characters, not all of them white space.

    Raises:
        UserError: If a setting is not one of its choices, does not go with another one, or leaves
            nothing to learn from.
    """
    _check_settings(unit, newline, max_chars)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Composed last: lower-casing can bring together a letter and an accent that have a composed
    # form only in lower case.
    text = unicodedata.normalize("NFC", text.lower() if lowercase else text)
    if unit == "line":
        text = _whole_lines(text, name, max_chars)
    else:
        text = text.replace("\n", " ") if newline == "space" else text
        text = text[:max_chars]
    _check_symbols(text, name)
    return Corpus(name, unit, text)


def _check_settings(unit: str, newline: str, max_chars: int | None) -> None:
    if unit not in get_args(Unit):
        raise UserError(f"data.unit={unit!r} is unknown; choose text or line")
    if newline not in get_args(Newline):
        raise UserError(f"data.newline={newline!r} is unknown; choose keep or space")
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


def _whole_lines(text: str, name: str, max_chars: int | None) -> str:
    kept = [stripped for line in text.split("\n") if (stripped := line.strip())]
    if not kept:
        return ""
    text = "\n".join([*kept, ""])
    if max_chars is None:
        return text
    text = text[: text.rfind("\n", 0, max_chars) + 1]
    if not text:
        raise UserError(
            f"data.max_chars={max_chars} does not hold the first line of corpus {name!r}; "
            f"give at least {len(kept[0]) + 1}"
        )
    return text


def _check_symbols(text: str, name: str) -> None:
    if not text or text.isspace():
        raise UserError(
            f"corpus {name!r} holds only white space ({len(text)} characters kept); "
            "give a text with words in it, or a larger data.max_chars"
        )
    if text.count(text[0]) == len(text):
        raise UserError(
            f"corpus {name!r} holds one single symbol, {text[0]!r}; a model needs at least two "
            "distinct characters: give another text, or a larger data.max_chars"
        )
