"""The training, validation and test splits of a corpus, as character ids."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lyricgen.data.corpus import CheckedMapping, EncodedCorpus, count_ids
from lyricgen.data.options import ENDS
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError

log = logging.getLogger(__name__)

Range = tuple[int, int]  # the first position, and the position after the last
Layout = Literal["stream", "lines", "documents"]
LAYOUT_ENDS: dict[Layout, str] = {"lines": ENDS["line"], "documents": ENDS["document"]}
SPLITS = ("train", "val", "test")


def split_text(
    length: int, val_fraction: float, test_fraction: float, max_held_out: int | None = None
) -> tuple[Range, Range, Range]:
    """Split a running text into a training, a validation and a test range, in this order.

    Each range is contiguous. Songs repeat lines, so many lines drawn at random would stand in the
    training split, too.

    Args:
        length: Characters in the text.
        val_fraction: Share of the characters to validate on. If it is not zero, the split has at
            least two characters: one to read and one to predict.
        test_fraction: Share of the characters to test on, with the same minimum.
        max_held_out: Most characters of the validation split and of the test split, at least 2. The
            rest goes to the training split. None sets no limit.

    Returns:
        Three ranges that together cover the text; a fraction of zero gives an empty range.

    Raises:
        UserError: A fraction is negative, the sum of both is not below 1, or fewer than two
            characters are left to train on.
    """
    val, test = _held_out_sizes(length, val_fraction, test_fraction, least=2, unit="characters")
    if max_held_out is not None and max(val, test) > max_held_out:
        _report_limit(max_held_out, max(val, test), "validate or test")
        val, test = min(val, max_held_out), min(test, max_held_out)
    train = length - val - test
    return (0, train), (train, train + val), (train + val, length)


def split_lines(
    lines: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    seed: int,
    max_held_out: int | None = None,
    unit: str = "line",
) -> tuple[list[int], list[int], list[int]]:
    """Split lines or documents at random into three splits.

    All repeats of a line go into the same split.

    Args:
        lines: The lines, or the documents, of the corpus, repeats included.
        val_fraction: Share of the distinct lines to validate on; at least one line unless it is
            zero.
        test_fraction: The same for the test split.
        seed: Seed of the draw; the same seed and lines give the same splits on any machine.
        max_held_out: Largest number of characters of the validation split, and of the test split.
            A repeated line counts once. Each of the two keeps at least one line, and the rest goes
            to the training split. None sets no limit.
        unit: "line" or "document", for errors.

    Returns:
        Three lists of indices into `lines`, each in rising order.

    Raises:
        UserError: A fraction is negative, the sum of both is not below 1, or no line is left to
            train on.
    """
    number = {line: index for index, line in enumerate(dict.fromkeys(lines))}
    where = "; data.separator and data.verse say where documents end"
    val, test = _held_out_sizes(
        *(len(number), val_fraction, test_fraction),
        least=1,
        unit=f"distinct {unit}s",
        advice=where if unit == "document" else "",
    )
    drawn = np.random.default_rng(seed).permutation(len(number))
    if max_held_out is not None:
        lengths = np.fromiter((len(line) + 1 for line in number), np.intp, len(number))[drawn]
        val = _at_most(lengths[:val], max_held_out, "validate")
        test = _at_most(lengths[val : val + test], max_held_out, "test")
    split_of = np.zeros(len(number), np.uint8)
    split_of[drawn[:val]] = 1
    split_of[drawn[val : val + test]] = 2
    splits = split_of[np.fromiter((number[line] for line in lines), np.intp, len(lines))]
    train, held_out, tested = (np.flatnonzero(splits == split).tolist() for split in (0, 1, 2))
    return train, held_out, tested


def _held_out_sizes(
    total: int,
    val_fraction: float,
    test_fraction: float,
    *,
    least: int,
    unit: str,
    advice: str = "",
) -> tuple[int, int]:
    settings = f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}"
    # "not": so that NaN is refused, too
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise UserError(f"{settings}: neither may be negative, and their sum must be below 1")
    val, test = (
        max(least, round(total * fraction)) if fraction else 0
        for fraction in (val_fraction, test_fraction)
    )
    if total - val - test < least:
        raise UserError(
            f"{settings} leave {max(0, total - val - test)} of {total} {unit} to train on, "
            f"where at least {least} must be left; lower them, or give a longer text{advice}"
        )
    return val, test


def _at_most(lengths: NDArray[np.intp], characters: int, purpose: str) -> int:
    """Count the first lines that fit into a number of characters; count at least one line, if any.

    `purpose` is "validate" or "test", for the log.
    """
    total = int(lengths.sum())
    if total <= characters:
        return len(lengths)
    _report_limit(characters, total, purpose)
    return max(1, int(np.searchsorted(np.cumsum(lengths), characters, side="right")))


def _report_limit(most: int, found: int, purpose: str) -> None:
    log.info(
        "data.max_held_out=%d is less than the %d characters to %s on; "
        "the rest goes to the training split",
        *(most, found, purpose),
    )


@dataclass(frozen=True)
class Split:
    """One split of the corpus.

    In the layout "stream" the ids are the text itself. In the layout "lines" every line is a start
    symbol (id V), its characters and a newline. In the layout "documents" every document is a start
    symbol, its characters and U+0003. What is said of lines holds for documents, too.
    """

    ids: Tensor  # (N,) the smallest integer type that holds V
    line_starts: Tensor | None  # (number of lines,) int64 places of the start symbols; None: stream
    counts: Tensor | None = None  # result of `character_counts`, if known
    mapping: CheckedMapping | None = None  # the mapped file of the ids; None: in memory

    @property
    def sound_ids(self) -> Tensor:
        """The ids; ids mapped from a file are first checked against its checksums.

        Raises:
            UserError: the ids are damaged and cannot be restored.
        """
        if self.mapping is not None:
            self.mapping.check(self.ids)
        return self.ids

    def character_counts(self, vocabulary_size: int) -> Tensor:
        """Count how often each character occurs, (V,) int64; `sound_ids` explains the errors."""
        return count_ids(self.sound_ids, vocabulary_size) if self.counts is None else self.counts

    def text(self, vocabulary: Vocabulary) -> str:
        """Decode the text of the split, without start symbols; `sound_ids` explains the errors.

        Each document still ends with U+0003.
        """
        return vocabulary.decode(self.sound_ids[self.ids < len(vocabulary)])

    def last(self, max_chars: int) -> Tensor:
        """Return the ids of the last `max_chars` characters, where `max_chars` is at least 1.

        In the layout "lines", return the last whole lines that fit, at least one.
        `sound_ids` explains the errors.
        """
        if self.line_starts is None:
            return replace(self, ids=self.ids[-max_chars:]).sound_ids
        fit = int((self.line_lengths.flip(0).cumsum(0) <= max_chars).sum())
        return self.ids[int(self.line_starts[-max(1, fit)]) :]

    @property
    def line_lengths(self) -> Tensor:
        """Characters of each line, its end included, (number of lines,) int64.

        Raises:
            ValueError: the layout is "stream".
        """
        if self.line_starts is None:
            raise ValueError("running text has no lines to count")
        ends = torch.cat([self.line_starts[1:], torch.tensor([len(self.ids)])])
        return ends - self.line_starts - 1


def make_splits(
    corpus: EncodedCorpus,
    *,
    layout: Layout,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    max_held_out: int | None = None,
) -> dict[str, Split]:
    """Split a corpus by `split_text` or `split_lines`, which explain the arguments.

    Running text always gets the layout "stream". A list of lines or documents gets `layout`, which
    `Split` explains.

    Returns:
        The splits "train", "val" and "test", without empty splits.

    Raises:
        UserError: the fractions are impossible or leave too little to train on, or mapped ids are
            damaged and cannot be restored.
    """
    vocabulary = corpus.vocabulary
    if corpus.unit == "text":
        ranges = split_text(len(corpus), val_fraction, test_fraction, max_held_out)
        train, *held_out = (
            Split(corpus.ids[start:stop], None, mapping=corpus.mapping) for start, stop in ranges
        )
    else:
        lines = corpus.lines
        chosen = split_lines(
            *(lines, val_fraction, test_fraction, split_seed, max_held_out), unit=corpus.unit
        )
        end = ENDS[corpus.unit]
        texts = ("".join(lines[i] + end for i in split) for split in chosen)
        train, *held_out = (line_split(vocabulary.encode(one), vocabulary, layout) for one in texts)
    # Subtracted, since a training split may be too long to be counted at every start.
    counts = corpus.counts - sum(split.character_counts(len(vocabulary)) for split in held_out)
    splits = [replace(train, counts=counts), *held_out]
    return {name: split for name, split in zip(SPLITS, splits, strict=True) if len(split.ids)}


def line_split(ids: Tensor, vocabulary: Vocabulary, layout: Layout) -> Split:
    """Make a split of lines or documents, `ids` (N,), in which each has its end.

    Raises:
        UserError: the vocabulary lacks the character that ends the lines or documents.
    """
    if layout == "stream":
        return Split(ids, None)
    stops = torch.nonzero(ids == vocabulary.encode(LAYOUT_ENDS[layout])).flatten()  # (lines,)
    count = torch.arange(len(stops))
    line_starts = torch.cat([torch.zeros(1, dtype=torch.int64), stops + 1])[: len(stops)] + count
    with_starts = torch.full((len(ids) + len(stops),), len(vocabulary), dtype=ids.dtype)
    inside = torch.ones(len(with_starts), dtype=torch.bool)
    inside[line_starts] = False
    with_starts[inside] = ids
    return Split(with_starts, line_starts)
