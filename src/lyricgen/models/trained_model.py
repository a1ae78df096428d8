"""A trained network together with the characters it speaks."""

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lyricgen.data.splits import Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.model import Model, NextModel
from lyricgen.models.network import FillModel

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
        """Whether the model fills gaps instead of continuing texts."""
        return self.network.fills_gaps

    @property
    def next_model(self) -> NextModel:
        """The network that continues texts.

        Raises:
            UserError: the model fills gaps.
        """
        if isinstance(self.network, NextModel):
            return self.network
        raise UserError(
            "this model fills gaps and continues no text: give it a text with gaps, as in "
            "--fill '分__天'"
        )

    @property
    def fill_model(self) -> FillModel:
        """The network that fills gaps.

        Raises:
            UserError: the model continues texts.
        """
        if isinstance(self.network, FillModel):
            return self.network
        raise UserError(
            "this model continues texts and fills no gaps: train one with objective=fill"
        )

    @property
    def gap(self) -> str:
        """Mark of a gap: "_", unless the vocabulary has that character."""
        return next((one for one in GAPS if one not in self.vocabulary.characters), GAPS[0])

    def normalised(self, prefix: str) -> str:
        """A prefix as the corpus would have it: composed, and lower-cased if that was."""
        return unicodedata.normalize("NFC", prefix.lower() if self.lowercase else prefix)

    def encode_prefix(self, prefix: str) -> torch.Tensor:
        """Ids that the network reads first, (P,).

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
