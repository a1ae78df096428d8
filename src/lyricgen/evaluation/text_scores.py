"""Nats of texts that are read one by one, such as the lines of a file.

Shapes: S texts, N characters of all texts with their ends, C characters that the model knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lyricgen.data.batch import Windows
from lyricgen.data.samplers import FOLLOWING, LineScoringSampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import code_points, decode_codes
from lyricgen.errors import UserError
from lyricgen.evaluation.intervals import Floats, Integers
from lyricgen.evaluation.own_text import prepare_characters
from lyricgen.models.scoring import charge_characters, position_nats
from lyricgen.models.trained_model import TrainedModel


@dataclass(frozen=True)
class TextScores:
    """Nats of texts by one model."""

    nats: Floats  # (N,) of one text after another; nan where the model predicts nothing
    lengths: Integers  # (S,) characters of each text, with its end if the model predicts it
    unknown: Integers  # (S,) characters of each text that the model does not know
    left_out: str  # these characters, in their order

    @property
    def by_text(self) -> list[Floats]:
        """Nats of each text, S arrays."""
        ends = np.cumsum(self.lengths)
        return [self.nats[start:end] for start, end in zip(ends - self.lengths, ends, strict=True)]

    @property
    def totals(self) -> Floats:
        """Nats of each text in all, (S,)."""
        found = np.bincount(self._texts, np.nan_to_num(self.nats), len(self.lengths))
        return found.astype(np.float64)  # without characters they are whole numbers

    @property
    def characters(self) -> Integers:
        """Number of characters that the model predicts in each text, (S,)."""
        return np.bincount(self._texts[~np.isnan(self.nats)], minlength=len(self.lengths))

    @property
    def _texts(self) -> Integers:
        """Number of each character's text, (N,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


class LikeLengthsSampler:
    """Sampler that reads each line once, beside lines of like length.

    `LineScoringSampler` explains the arguments. Lines are sorted by length. Within a batch of short
    lines, the longest has less than twice the characters of the shortest.
    """

    def __init__(
        self, line_starts: Tensor, line_lengths: Tensor, vocabulary_size: int, following: int
    ) -> None:
        order = line_lengths.argsort(stable=True)
        sizes = torch.frexp(line_lengths[order].double()).exponent
        counts = torch.unique_consecutive(sizes, return_counts=True)[1].tolist()
        samplers = [
            LineScoringSampler(line_starts[some], line_lengths[some], vocabulary_size, following)
            for some in torch.split(order, counts)
        ]
        self._batches = [(each, index) for each in samplers for index in range(len(each))]

    def __len__(self) -> int:
        return len(self._batches)

    def windows(self, epoch: int, index: int) -> Windows:
        """Choose the next characters of some lines."""
        sampler, own = self._batches[index]
        return sampler.windows(epoch, own)


def score_texts(model: TrainedModel, texts: Sequence[str], name: str = "text") -> TextScores:
    """Score texts, each by itself from state zero.

    The characters are prepared as those of the training text were. A model of lines or documents
    reads texts without white space at their ends, and also predicts the end of each; other models
    predict all characters but the first. Characters that the model does not know are left out
    before it reads. A memory of the scope "split" reads on from text to text; other memories begin
    anew at each.

    Args:
        model: in evaluation mode.
        texts: S texts.
        name: name of a text in messages.

    Raises:
        UserError: a text has the character that ends a text of the model; or as for
            `scoring.split_nats`.
    """
    read = [_prepare(text, f"{name} {number}", model) for number, text in enumerate(texts, 1)]
    lengths = np.array([len(text) for text in read], np.int64)  # (S,)
    owners = np.repeat(np.arange(len(read)), lengths)  # (N,)
    joined = "".join(read)
    known = model.vocabulary.knows(joined)
    unknown = np.bincount(owners[~known], minlength=len(read))
    codes = code_points(joined)
    left_out = decode_codes(codes[~known])
    counts = np.bincount(owners[known], minlength=len(read))
    ends = 0 if model.end is None else 1  # no end is predicted where nothing else is read
    known &= (counts > ends)[owners]
    found = np.full(len(joined), np.nan)
    if known.any():
        what = f"scoring {len(read):,} {name}s"
        found[known] = _score_known(model, decode_codes(codes[known]), owners[known], what)
    return TextScores(found, lengths, unknown, left_out)


def _prepare(text: str, name: str, model: TrainedModel) -> str:
    """Prepare a text as in training, and add its end if the model predicts it."""
    text = prepare_characters(text, name, model)
    if model.end is None:
        return text
    text = text.strip()
    if model.end in text:
        raise UserError(
            f"{name} has the character {model.end!r}, which ends a text of this model: give each "
            "text by itself"
        )
    return text + model.end


def _score_known(model: TrainedModel, text: str, owners: Integers, what: str) -> Floats:
    """Score the known characters of all texts, (C,); `owners`, (C,), has the number of each text.

    The progress bar shows `what`.
    """
    size = len(model.vocabulary)
    counts = np.unique(owners, return_counts=True)[1]
    begins = np.cumsum(counts) - counts
    ids = torch.from_numpy(np.insert(model.vocabulary.encode(text).numpy(), begins, size))
    starts = torch.from_numpy(begins + np.arange(len(begins)))
    # the start symbols separate the texts for a memory; running text is read without them
    passed = 1 if model.end is None else 0
    lengths = torch.from_numpy(counts) - passed
    read = lengths > 0
    sampler = LikeLengthsSampler(
        *(starts[read] + passed, lengths[read], size), FOLLOWING if model.fills_gaps else 0
    )
    split = Split(ids, starts)
    return charge_characters(position_nats(model, split, what, sampler), split, model.vocabulary)
