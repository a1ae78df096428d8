"""A trained network together with the characters it speaks."""

import unicodedata
from dataclasses import dataclass, field
from typing import Any

import torch

from lyricgen.data.parts import Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.decoding.strategy import Strategy
from lyricgen.errors import UserError
from lyricgen.filling import fill_gaps
from lyricgen.generation import check_number, check_texts, check_whole, generate_texts
from lyricgen.model.fill_model import FillModel
from lyricgen.model.models import Model
from lyricgen.options import validate
from lyricgen.writing import text_seed

GAPS = "_□◌"  # what may mark a gap
SWEEPS = 20


@dataclass(frozen=True)
class TrainedModel:
    """A network and the characters it speaks.

    Attributes:
        network: in evaluation mode where it comes from a file.
        vocabulary: its characters.
        layout: of the texts it has learnt from, lines or running text.
        lowercase: whether these were lower-cased.
        options: plain values, the whole configuration it was trained with; empty if not known.
    """

    network: Model
    vocabulary: Vocabulary
    layout: Layout
    lowercase: bool
    options: dict[str, Any] = field(default_factory=dict)

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
        """One text that begins with the prefix; see `generation.continue_prefixes`.

        >>> model.generate("分开", length=50, seed=1, temperature=0.8, top_p=0.9)
        >>> model.generate(lines=4, line_length=7, acrostic="桥头有雨", rhyme=True)
        """
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
        """Continue prefixes in one batch; see `generation.continue_prefixes`.

        `generation.generate` says how probable each text is as well.

        Args:
            prefixes: what the texts begin with; "" for nothing.
            count: texts for each prefix; None for one, or for all that a beam search keeps.
            length: new characters at most; None for 50, or for what the options need.
            seed: text number i of a prefix depends on (seed, prefix, i) only, not on the others.
            options: how characters are chosen and what texts must be like: what
                `strategy.Strategy` and `control.Control` have.

        Returns:
            len(prefixes) · count texts, the prefixes included, normalised as the corpus was.

        Raises:
            UserError: a prefix has a character that the model does not know, a number is out of
                range, or no text can be as it should.
        """
        return generate_texts(self, prefixes, count=count, length=length, seed=seed, **options)

    def fill_many(
        self,
        texts: list[str],
        *,
        count: int = 1,
        temperature: float = 0.8,
        seed: int = 1,
        sweeps: int = SWEEPS,
        gap: str | None = None,
    ) -> list[str]:
        """Fill the gaps of texts, all gaps of a text jointly; see `filling.fill_gaps`.

        Args:
            texts: with gaps.
            count: ways to fill each, side by side in the result.
            temperature: of the softmax; 0 takes the most probable character each time.
            seed: filling number i of a text depends on (seed, text, i) only.
            sweeps: how often each gap is drawn anew.
            gap: the character that marks one; None for `self.gap`.

        Returns:
            len(texts) · count texts, normalised as the corpus was.

        Raises:
            UserError: the model fills no gaps, a text has none or a character that the model does
                not know, or a number is out of range.
        """
        check_texts("texts", texts)
        check_whole("seed", seed)
        check_number("count", count)
        check_number("sweeps", sweeps)
        validate(Strategy, {"temperature": temperature})
        if not isinstance(self.network, FillModel):
            raise UserError(
                "this model continues texts and fills no gaps: train one with objective=fill"
            )
        each = [self.normalised(text) for text in texts for _ in range(count)]
        if not each:
            return []
        ids, gaps = zip(*(self.encode_gaps(text, gap) for text in each), strict=True)
        filled = fill_gaps(
            self.network,
            list(ids),
            list(gaps),
            seeds=[text_seed(seed, text, row % count) for row, text in enumerate(each)],
            temperature=temperature,
            sweeps=sweeps,
            forbidden=[i for i, one in enumerate(self.vocabulary.characters) if one == "\n"],
        )
        return [
            self.vocabulary.decode(row[1 : len(text) + 1])
            for row, text in zip(filled, each, strict=True)
        ]

    @property
    def gap(self) -> str:
        """What marks a gap: "_", where the vocabulary does not have it."""
        return next((one for one in GAPS if one not in self.vocabulary.characters), GAPS[0])

    def encode_gaps(self, text: str, gap: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network reads of a text with gaps, (1 + N,) ids, and where its gaps are, (G,).

        Before the text stands what `encode_prefix` gives for none; after it, in a model of lines,
        the end of the line.

        Raises:
            UserError: it has no gap, or a character that the model does not know.
        """
        text, gap = self.normalised(text), self.gap if gap is None else gap
        if len(gap) != 1 or gap in self.vocabulary.characters:
            raise UserError(
                f"gap={gap!r}: a gap is marked by one character that the model's texts do not have"
            )
        if gap not in text:
            raise UserError(f"{text!r} has no gap to fill: mark each missing character by {gap!r}")
        places = torch.tensor([i for i, character in enumerate(text, start=1) if character == gap])
        start = self.encode_prefix("")
        if self.layout == "lines" and "\n" in text:
            raise UserError("this model writes single lines: leave the newline out")
        known = text.replace(gap, self.vocabulary.characters[0])
        known += "\n" if self.layout == "lines" else ""
        return torch.cat([start, self.vocabulary.encode(known).long()]), places

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
