"""A trained network together with the characters it speaks."""

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lyricgen.data.parts import Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.fill_model import FillModel
from lyricgen.models.kinds import Model

GAPS = "_□◌"  # what may mark a gap
LENGTH = 50  # new characters of a text, unless another number is wanted
LONGEST_LINE = 2000  # characters that a line gets without --length, however long training's are
UNKNOWN_LINE = 500  # the same for a model that does not say how long training's are


@dataclass(frozen=True)
class TrainedModel:
    """A network and the characters it speaks.

    Attributes:
        network: in evaluation mode where it comes from a file.
        vocabulary: its characters.
        layout: of the texts it has learnt from, lines or running text.
        lowercase: whether these were lower-cased.
        options: plain values, the whole configuration it was trained with; empty if not known.
        text: digest of the corpus it was trained on; None if not known.
        longest_line: characters of the longest training line; None if not known, or for running
            text.
        file: that it was read from; None for none.
    """

    network: Model
    vocabulary: Vocabulary
    layout: Layout
    lowercase: bool
    options: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    longest_line: int | None = None
    file: Path | None = None

    @property
    def default_length(self) -> int:
        """New characters of a text at most, unless asked otherwise; a line's end is one, too."""
        if self.layout == "stream":
            return LENGTH
        if self.longest_line is None:
            return UNKNOWN_LINE
        return min(max(LENGTH, self.longest_line + 1), LONGEST_LINE)

    @property
    def fills_gaps(self) -> bool:
        """Whether it fills gaps instead of continuing texts."""
        return isinstance(self.network, FillModel)

    def generate(
        self,
        prefix: str = "",
        *,
        length: int | None = None,
        seed: int = 1,
        **options: Any,
    ) -> str:
        """One text that begins with the prefix; see `generation.texts.continue_prefixes`.

        >>> model.generate("分开", length=50, seed=1, temperature=0.8, top_p=0.9)
        >>> model.generate(lines=4, line_length=7, acrostic="桥头有雨", rhyme=True)
        """
        if not isinstance(prefix, str):
            raise UserError(f"prefix={prefix!r}: give one text; generate_many takes a list of them")
        return self.generate_many([prefix], count=1, length=length, seed=seed, **options)[0]

    def generate_many(
        self,
        prefixes: list[str],
        *,
        count: int | None = None,
        length: int | None = None,
        seed: int = 1,
        **options: Any,
    ) -> list[str]:
        """Continue prefixes in one batch: arguments and errors of `generation.continue_prefixes`.

        `generation.generate` says how probable each text is as well.

        Returns:
            len(prefixes) · count texts, the prefixes included, normalised as the corpus was.
        """
        # here, since the modules that write texts with a model import this one
        from lyricgen.generation.texts import generate_texts

        return generate_texts(self, prefixes, count=count, length=length, seed=seed, **options)

    def fill_many(self, texts: list[str], **options: Any) -> list[str]:
        """Fill the gaps of texts; see `filling.fill_texts`.

        >>> model.fill_many(["分__天"], count=3, temperature=0.8, seed=1)
        """
        from lyricgen.generation.filling import fill_texts  # here, likewise

        return fill_texts(self, texts, **options)

    @property
    def gap(self) -> str:
        """What marks a gap: "_", where the vocabulary does not have it."""
        return next((one for one in GAPS if one not in self.vocabulary.characters), GAPS[0])

    def normalised(self, prefix: str) -> str:
        """A prefix as the corpus would have it: composed, and lower-cased if that was."""
        return unicodedata.normalize("NFC", prefix.lower() if self.lowercase else prefix)

    def encode_prefix(self, prefix: str) -> torch.Tensor:
        """What the network reads first, (P,) ids.

        That is the prefix, after the start symbol in a model of lines; and for a running text
        that is to begin with nothing, a line break.

        Raises:
            UserError: a character that the model does not know, or a newline for a model of lines.
        """
        prefix = self.normalised(prefix)
        if self.layout == "lines":
            if "\n" in prefix:
                raise UserError("this model writes single lines: leave the newline out")
            start = torch.tensor([len(self.vocabulary)])
            return torch.cat([start, self.vocabulary.encode(prefix).long()])
        if prefix:
            return self.vocabulary.encode(prefix).long()
        known = [mark for mark in "\n " if mark in self.vocabulary.characters]
        return self.vocabulary.encode(known[0] if known else self.vocabulary.characters[0]).long()
