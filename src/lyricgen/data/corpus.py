"""A text made ready once, so that nothing later touches its characters; then its ids.

N characters in the corpus, V in the vocabulary.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from lyricgen.data.checked_mapping import CheckedMapping
from lyricgen.data.options import Newline, Unit
from lyricgen.data.vocabulary import Vocabulary, distinct
from lyricgen.errors import UserError

_JAMO = frozenset(map(chr, (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))))
# Characters, by category, that neither are letters of a word, for the lower-casing of a Σ before
# or behind them, nor are looked through by it.
_APART = frozenset(("Zs", "Nd", "Lo", "Ps", "Pe", "Sm", "Sc"))
_CHUNK = 1 << 22  # ids counted at a time: bincount takes eight bytes for each


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
    distinct_lines: bool = False,
    max_chars: int | None = None,
) -> Corpus:
    r"""Turn a text as it was read into a corpus.

    Args:
        text: The text, with any of the three line ends.
        name: What to call it in messages.
        unit: ``text`` for one running text, ``line`` for a list of short ones.
        newline: Whether a newline of a running text is kept or becomes a space.
        lowercase: Whether to lower-case the text.
        distinct_lines: With unit ``line``, whether to keep only the first of equal lines.
        max_chars: The most characters to keep, from the start and counted in the finished text.
            With unit ``line``, whole lines are kept while they fit, their ``\n`` counted.

    Returns:
        The corpus: at least two distinct characters, not all of them white space.

    Raises:
        UserError: If a setting is not one of its choices, does not go with another one, or leaves
            nothing to learn from.
    """
    _check_settings(unit, newline, max_chars)
    if unit == "line":
        lines = "".join(_composed([text], lowercase)).split("\n")
        kept = [stripped for line in lines if (stripped := line.strip())]
        if distinct_lines:
            kept = list(dict.fromkeys(kept))
        text = _whole_lines(kept, name, max_chars)
    else:
        pieces = prepared_pieces([text], newline=newline, lowercase=lowercase, max_chars=max_chars)
        text = "".join(pieces)
    check_symbols(distinct(text), len(text), name)
    return Corpus(name, unit, text)


def prepared_pieces(
    pieces: Iterable[str], *, newline: Newline, lowercase: bool, max_chars: int | None
) -> Iterator[str]:
    """Prepare a running text that comes in pieces, cut anywhere; settings as for `prepare`.

    Yields:
        Pieces of the prepared text, which does not depend on where it was cut.
    """
    _check_settings("text", newline, max_chars)
    left = max_chars
    for piece in _composed(pieces, lowercase):
        kept = piece.replace("\n", " ") if newline == "space" else piece
        if left is not None:
            kept = kept[:left]
            left -= len(kept)
        yield kept
        if left == 0:
            return


def _composed(pieces: Iterable[str], lowercase: bool) -> Iterator[str]:
    held: list[str] = []  # read and not yet given on, for there is nowhere to cut
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
    """The last place where cutting changes nothing of what becomes of the two sides, if any."""
    for place in range(len(piece), -1, -1):
        if place and piece[place - 1] == "\n":
            return place
        if place < len(piece) and _begins(piece[place], has_sigma):
            return place
    return None


def _begins(character: str, has_sigma: bool) -> bool:
    """Whether a character neither composes with one before it nor has to do with a Σ near it.

    Only marks (categories M) and the jamo of Hangul vowels and finals compose with what stands
    before them. The Σ of a word's end is lower-cased by its context.
    """
    first = unicodedata.normalize("NFD", character)[0]
    if character in "\r\n" or unicodedata.category(first).startswith("M") or first in _JAMO:
        return False
    return not has_sigma or (unicodedata.category(character) in _APART and character not in "ªº")


def _compose(text: str, lowercase: bool) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Composed last: lower-casing can bring together a letter and an accent that have a composed
    # form only in lower case.
    return unicodedata.normalize("NFC", text.lower() if lowercase else text)


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


def _whole_lines(kept: list[str], name: str, max_chars: int | None) -> str:
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


def check_symbols(characters: str, length: int, name: str) -> None:
    """Refuse a corpus that has nothing to learn from.

    Args:
        characters: Its distinct characters.
        length: How many characters it has in all.
        name: What to call it in messages.

    Raises:
        UserError: If it is all white space or one single symbol.
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


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus ready to be cut into splits.

    Attributes:
        name: What to call it in messages.
        unit: ``text`` for one running text, ``line`` for a list of short ones.
        vocabulary: Its distinct characters.
        ids: (N,) its characters, of the vocabulary's type.
        counts: (V,) int64, how often each character occurs.
        digest: The SHA-256 sum of the ids and the characters, which tells this text from any other.
        mapping: Of the file in which the ids lie, where they are not in memory.
    """

    name: str
    unit: Unit
    vocabulary: Vocabulary
    ids: Tensor
    counts: Tensor
    digest: str
    mapping: CheckedMapping | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def opening(self) -> str:
        """How the text begins, without the white space that it may begin with."""
        for start in range(0, len(self), 1000):
            ids = self.ids[start : start + 1000]
            if self.mapping is not None:
                self.mapping.check(ids)
            text = self.vocabulary.decode(ids).lstrip()
            if text:
                return text
        return ""

    @property
    def lines(self) -> list[str]:
        r"""The lines of a list, repeats included, without their ``\n``."""
        return self.vocabulary.decode(self.ids).removesuffix("\n").split("\n")


def encode(corpus: Corpus) -> EncodedCorpus:
    """Encode a corpus that lies in memory."""
    vocabulary = Vocabulary.of(corpus.text)
    ids = vocabulary.encode(corpus.text)
    digest = hashlib.sha256(ids.numpy().data)
    digest.update(vocabulary.characters.encode())
    counts = count_ids(ids, len(vocabulary))
    return EncodedCorpus(corpus.name, corpus.unit, vocabulary, ids, counts, digest.hexdigest())


def count_ids(ids: Tensor, size: int) -> Tensor:
    """How often each of the ids 0 … size - 1 occurs, (size,) int64; an id beyond is left out."""
    counts = torch.zeros(size, dtype=torch.int64)
    for chunk in torch.split(ids, _CHUNK):
        counts += torch.bincount(chunk, minlength=size)[:size]
    return counts
