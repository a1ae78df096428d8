"""Vocabularies, which number the characters of a text."""

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lyricgen.errors import UserError

# Characters encoded at a time; the code points of a whole text would take four bytes for each.
_CHUNK = 1 << 18
CODE_POINTS = 0x110000
RARE_SYMBOL = "\N{REPLACEMENT CHARACTER}"  # the symbol that stands for all rare characters


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the code points of a short text, (N,)."""
    # surrogatepass: a command line that is not UTF-8 gives lone surrogates, unknown characters
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def decode_codes(codes: NDArray[np.uint32]) -> str:
    """Return the text of code points, (N,)."""
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def chunks(text: str) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """Yield the code points of a long text in pieces, each with its start in the text."""
    for start in range(0, len(text), _CHUNK):
        yield start, code_points(text[start : start + _CHUNK])


class CharacterCounts:
    """Counts of the characters of texts."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)  # by code point

    def add(self, text: str) -> None:
        """Count the characters of a text."""
        for _, codes in chunks(text):
            found = np.bincount(codes, minlength=len(self._counts))
            found[: len(self._counts)] += self._counts
            self._counts = found

    @property
    def characters(self) -> str:
        """Distinct characters so far, by rising code point."""
        return decode_codes(np.flatnonzero(self._counts).astype("<u4"))

    def vocabulary(self, min_count: int | None, end: str = "") -> "Vocabulary":
        """Make the vocabulary of the texts.

        Args:
            min_count: a character that occurs less often is rare; None for no rare characters.
            end: a character that is never rare; "" for none.

        Raises:
            UserError: the texts have no characters, or all but one are rare.
        """
        if min_count is None:
            return Vocabulary(self.characters)
        codes = code_points(self.characters)
        # a replacement character of the text cannot be told from the symbol of rare characters
        is_rare = (self._counts[codes] < min_count) | (codes == ord(RARE_SYMBOL))
        is_rare &= ~np.isin(codes, code_points(end))
        frequent, rare = decode_codes(codes[~is_rare]), decode_codes(codes[is_rare])
        if len(frequent) < 2:
            raise UserError(
                f"data.min_count={min_count}: only {len(frequent)} of {len(frequent + rare)} "
                "characters occur so often; give a smaller number"
            )
        return Vocabulary("".join(sorted(frequent + RARE_SYMBOL * bool(rare))), rare)


def find_characters(text: str) -> str:
    """Find the distinct characters of a text, by rising code point."""
    found = CharacterCounts()
    found.add(text)
    return found.characters


# Groups of characters that people confuse, besides those that Unicode's NFKC makes equal.
_GROUPS = (
    "'’‘‛ʼʹ′`´",
    '"“”„‟″«»「」『』',
    "-‐‑‒–—―−─",
    ".。．｡",
    ",，、､",
    "…⋯",
    "·・•‧∙･",
    "~～〜∼",
    " \t\u00a0\u2002\u2003\u2009\u200a\u202f\u3000",
)
_GROUP = {one: group[0] for group in _GROUPS for one in group}
LISTED = 10  # most unknown characters in an error


def find_twins(character: str, known: str) -> str:
    """Find the characters of `known` that are easily confused with `character`; "" for none."""
    form = _form(character)
    return "".join(one for one in known if one != character and _form(one) == form)


def _form(character: str) -> str:
    """Map characters that are easily confused to the same form; case is ignored."""
    if character in _GROUP:
        return _GROUP[character]
    folded = unicodedata.normalize("NFKC", character).casefold()
    return _GROUP.get(folded, folded)


@dataclass(frozen=True)
class Vocabulary:
    """The distinct characters of a corpus, numbered 0…V-1 by rising code point.

    The number V is no character, but the symbol that starts a line.

    Attributes:
        characters: The V characters; the index of a character is its id.
        rare: The rare characters, which are all encoded as `RARE_SYMBOL`, sorted; "" for none.

    Raises:
        UserError: There are no characters, they or the rare ones are not sorted and distinct, or
            there are rare ones without `RARE_SYMBOL`.
    """

    characters: str
    rare: str = ""

    def __post_init__(self) -> None:
        codes = code_points(self.characters)
        if not codes.size:
            raise UserError(
                "the vocabulary is empty; give a text or checkpoint that has characters"
            )
        is_sorted = all((one[1:] > one[:-1]).all() for one in (codes, code_points(self.rare)))
        shared = {*self.rare} & {*self.characters} - {RARE_SYMBOL}
        if not is_sorted or shared or (self.rare and RARE_SYMBOL not in self.characters):
            raise UserError(
                "the characters of the vocabulary are not sorted and distinct; build it from a "
                "text, or take the checkpoint it came from as damaged"
            )

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """Make the vocabulary of a text; an empty text is a UserError."""
        return cls(find_characters(text))

    def union(self, other: "Vocabulary") -> "Vocabulary":
        """Make the vocabulary of the characters of both; this one's rare characters stay rare."""
        characters = {*self.characters, *other.characters} - {RARE_SYMBOL, *self.rare}
        rare = {*self.rare, *other.rare} - characters
        if rare or RARE_SYMBOL in self.characters:
            characters.add(RARE_SYMBOL)
        return Vocabulary("".join(sorted(characters)), "".join(sorted(rare)))

    @cached_property
    def rare_id(self) -> int | None:
        """The id of `RARE_SYMBOL`; None without rare characters."""
        return self.characters.index(RARE_SYMBOL) if self.rare else None

    @property
    def num_distinct(self) -> int:
        """Number of distinct characters, each rare one counted."""
        return len(self) - 1 + len(self.rare) if self.rare else len(self)

    @property
    def charge(self) -> float:
        """Nats that a rare character adds to the nats of `RARE_SYMBOL`.

        The k rare characters share its probability equally, so each costs ln k more.
        """
        return math.log(max(1, len(self.rare)))

    def charge_rare(self, nats: Tensor, ids: Tensor) -> Tensor:
        """Add `charge` to the nats of rare characters; `ids` has the shape of `nats`."""
        if self.rare_id is None:
            return nats
        return torch.where(ids.eq(self.rare_id), nats + self.charge, nats)

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def dtype(self) -> torch.dtype:
        """The smallest of uint8, int16 and int32 that holds the numbers 0…V."""
        if len(self) <= torch.iinfo(torch.uint8).max:
            return torch.uint8
        return torch.int16 if len(self) <= torch.iinfo(torch.int16).max else torch.int32

    def encode(self, text: str) -> Tensor:
        """Encode a text of N characters as ids, (N,) of type `dtype`, on the CPU.

        Raises:
            UserError: The vocabulary lacks characters of the text; the message lists some.
        """
        ids = torch.empty(len(text), dtype=self.dtype)
        view = ids.numpy()
        for start, codes in chunks(text):
            chunk = self._ids[codes]
            if (chunk == len(self)).any():
                raise UserError(
                    f"characters that the vocabulary of {len(self)} does not have: "
                    f"{self.list_unknown(text)}; leave them out, or train on a text that has them"
                )
            view[start : start + codes.size] = chunk
        return ids

    def knows(self, text: str) -> NDArray[np.bool_]:
        """Mark the characters of a text that the vocabulary has, (N,) booleans."""
        known = np.empty(len(text), np.bool_)
        for start, codes in chunks(text):
            known[start : start + codes.size] = self._ids[codes] != len(self)
        return known

    def list_unknown(self, text: str) -> str:
        """List up to ten unknown characters of a text with their known twins; count the rest."""
        distinct = find_characters(text)
        unknown = decode_codes(code_points(distinct)[~self.knows(distinct)])
        listed = []
        for one in unknown[:LISTED]:
            known = " or ".join(map(repr, find_twins(one, self.characters)))
            # repr: an escape sequence in a prefix must not reach the terminal
            listed.append(f"{one!r} (it has {known})" if known else repr(one))
        more = f" and {len(unknown) - LISTED} more" if len(unknown) > LISTED else ""
        return ", ".join(listed) + more

    def decode(self, ids: Tensor) -> str:
        """Decode ids, (N,) of any integer type and on any device, to a text.

        Raises:
            ValueError: The ids have another shape, or an id is outside 0…V-1.
        """
        if ids.dim() != 1:
            raise ValueError(f"ids must have one dimension, not the shape {tuple(ids.shape)}")
        numbers: NDArray[np.integer] = ids.detach().cpu().numpy()
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise ValueError(f"ids must be 0…{len(self) - 1}")
        return decode_codes(code_points(self.characters)[numbers])

    @cached_property
    def _ids(self) -> NDArray[np.integer]:
        """Id of each code point; V for an unknown character."""
        table = torch.full((CODE_POINTS,), len(self), dtype=self.dtype).numpy()
        if self.rare_id is not None:
            table[code_points(self.rare)] = self.rare_id
        table[code_points(self.characters)] = np.arange(len(self))
        return table
