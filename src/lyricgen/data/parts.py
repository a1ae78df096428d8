"""A corpus cut into its training and held-out parts, as character ids."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lyricgen.data.checked_mapping import CheckedMapping
from lyricgen.data.encoding import EncodedCorpus, count_ids
from lyricgen.data.split import split_lines, split_text
from lyricgen.data.vocabulary import Vocabulary

Layout = Literal["stream", "lines"]
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Part:
    """One part of the corpus.

    In the layout "stream" the ids are the text itself. In the layout "lines" every line is a
    start symbol (id V), its characters and the newline that stops it; line_starts says where.
    """

    ids: Tensor  # (N,) the smallest integer type that holds V
    line_starts: Tensor | None  # (number of lines,) int64
    counts: Tensor | None = None  # what character_counts gives, where it is known already
    mapping: CheckedMapping | None = None  # of the file in which the ids lie, if they do

    @property
    def sound_ids(self) -> Tensor:
        """The ids, once all of them have been compared with the checksums of their file.

        `ids` are for those who ask the mapping themselves, and for their number.
        """
        if self.mapping is not None:
            self.mapping.check(self.ids)
        return self.ids

    def character_counts(self, vocabulary_size: int) -> Tensor:
        """How often each character occurs, (V,) int64; start symbols are left out."""
        return count_ids(self.sound_ids, vocabulary_size) if self.counts is None else self.counts

    def text(self, vocabulary: Vocabulary) -> str:
        """The characters, start symbols left out."""
        return vocabulary.decode(self.sound_ids[self.ids < len(vocabulary)])

    def last(self, max_chars: int) -> Tensor:
        """The ids of the last characters; of lines, the last whole ones that fit, at least one."""
        if self.line_starts is None:
            return replace(self, ids=self.ids[-max_chars:]).sound_ids
        fit = int((self.line_lengths.flip(0).cumsum(0) <= max_chars).sum())
        return self.ids[int(self.line_starts[-max(1, fit)]) :]

    @property
    def line_lengths(self) -> Tensor:
        """Predicted characters of each line, the stop included; layout "lines" only."""
        if self.line_starts is None:
            raise ValueError("running text has no lines to count")
        ends = torch.cat([self.line_starts[1:], torch.tensor([len(self.ids)])])
        return ends - self.line_starts - 1


def make_parts(
    corpus: EncodedCorpus,
    *,
    layout: Layout,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    max_held_out: int | None = None,
) -> dict[str, Part]:
    """Cut a corpus into parts; parts without a fraction are left out.

    Running text is cut into contiguous parts, lists of lines by distinct line.

    Returns:
        "train", and "val" and "test" where their fractions are positive.

    Raises:
        UserError: the fractions leave a part without text.
    """
    vocabulary = corpus.vocabulary
    if corpus.unit == "text":
        ranges = split_text(len(corpus), val_fraction, test_fraction, max_held_out)
        train, *held_out = (
            Part(corpus.ids[start:stop], None, mapping=corpus.mapping) for start, stop in ranges
        )
    else:
        lines = corpus.lines
        chosen = split_lines(lines, val_fraction, test_fraction, split_seed, max_held_out)
        texts = ("".join(lines[i] + "\n" for i in part) for part in chosen)
        train, *held_out = (line_part(vocabulary.encode(one), vocabulary, layout) for one in texts)
    # The training part may be too long to be counted at every start: it is what the others leave.
    counts = corpus.counts - sum(part.character_counts(len(vocabulary)) for part in held_out)
    parts = [replace(train, counts=counts), *held_out]
    return {name: part for name, part in zip(PARTS, parts, strict=True) if len(part.ids)}


def line_part(ids: Tensor, vocabulary: Vocabulary, layout: Layout) -> Part:
    """Lay lines out, (N,) ids in which each ends with a newline."""
    if layout == "stream":
        return Part(ids, None)
    newline = vocabulary.encode("\n")
    stops = torch.nonzero(ids == newline).flatten()  # (lines,)
    count = torch.arange(len(stops))
    line_starts = torch.cat([torch.zeros(1, dtype=torch.int64), stops + 1])[: len(stops)] + count
    with_starts = torch.full((len(ids) + len(stops),), len(vocabulary), dtype=ids.dtype)
    inside = torch.ones(len(with_starts), dtype=torch.bool)
    inside[line_starts] = False
    with_starts[inside] = ids
    return Part(with_starts, line_starts)
