"""How a held-out split is read: every character once, in order, whatever the training sampler.

B rows (batch size), T time steps, N characters in the text.
"""

import logging

import torch
from torch import Tensor

from lyricgen.data.samplers import Sampler, Windows
from lyricgen.data.splits import Split

log = logging.getLogger(__name__)

LONGEST_STREAM = 200_000  # characters of held-out text that are read as one row
ROW = 20_000  # about so many characters a row beyond that
EVALUATION_LOGITS = 2**22  # rows x steps x vocabulary that one evaluation batch aims at
EVALUATION_STEPS = 1024  # characters of a row scored at once, at most
EVALUATION_LINES = 256  # lines scored at once, at most
EVALUATION_CHARACTERS = 2**15  # of lines scored at once, padding included, at most
FOLLOWING = 128  # characters after a window that a model of both sides knows


class StreamSampler:
    """A whole text, every character after the first predicted once: for scoring and counting.

    One row, the state carried from its first to its last character. With several rows, each
    starts from state zero and takes up where the row above ends.

    Args:
        num_characters: N.
        num_rows: B.
        num_steps: T, characters a batch.
        following: characters after each window that are known as well.
    """

    def __init__(
        self, num_characters: int, num_rows: int, num_steps: int, following: int = 0
    ) -> None:
        self.num_steps = num_steps
        self.following = following
        self.row = -(-(num_characters - 1) // num_rows)
        self.starts = torch.arange(num_rows) * self.row
        self.row_targets = (num_characters - 1 - self.starts).clamp(0, self.row)

    def __len__(self) -> int:
        return (self.row + self.num_steps - 1) // self.num_steps

    def windows(self, epoch: int, index: int) -> Windows:
        """The next T columns of every row."""
        del epoch
        first = index * self.num_steps
        steps = min(self.num_steps, self.row - first)
        lengths = (self.row_targets - first).clamp(0, steps)
        characters = int(lengths.sum())
        return Windows(self.starts + first, steps, lengths, index == 0, characters, self.following)


class LineScoringSampler:
    """Lines for scoring, every character of each once, each line from state zero.

    A line of more than T characters is read in pieces of T, the state carried from one to the
    next. Lines of the same number of pieces share batches, in their order.

    Args:
        line_starts: (number of lines,) where the start symbols stand.
        line_lengths: (number of lines,) predicted characters of each line, the stop included.
        vocabulary_size: V, by which batches become smaller.
        num_steps: T.
        following: characters after each piece of a line that are known as well.
    """

    def __init__(
        self,
        line_starts: Tensor,
        line_lengths: Tensor,
        vocabulary_size: int,
        num_steps: int = EVALUATION_STEPS,
        following: int = 0,
    ) -> None:
        self.line_starts = line_starts
        self.line_lengths = line_lengths
        self.num_steps = num_steps
        self.following = following
        self.batches: list[tuple[Tensor, int]] = []  # the lines of each, and which of their pieces
        pieces = (line_lengths + num_steps - 1) // num_steps
        most = min(EVALUATION_CHARACTERS, EVALUATION_LOGITS // vocabulary_size)
        for count in sorted(set(pieces.tolist())):
            lines = torch.nonzero(pieces == count).flatten()
            longest = min(num_steps, int(line_lengths[lines].max()))
            rows = min(EVALUATION_LINES, max(1, most // longest))
            self.batches += [(some, p) for some in torch.split(lines, rows) for p in range(count)]

    def __len__(self) -> int:
        return len(self.batches)

    def windows(self, epoch: int, index: int) -> Windows:
        """The next T characters of some lines."""
        del epoch
        lines, piece = self.batches[index]
        first = piece * self.num_steps
        left = self.line_lengths[lines] - first
        starts = self.line_starts[lines] + first
        lengths = left.clamp(max=self.num_steps)
        steps, characters = int(lengths.max()), int(lengths.sum())
        following = self.following if int(left.max()) > self.num_steps else 0
        ends = starts + left + 1
        return Windows(starts, steps, lengths, piece == 0, characters, following, ends)


def evaluation_sampler(split: Split, vocabulary_size: int, following: int = 0) -> Sampler:
    """Read a whole split in order: one stream, or its lines one by one.

    A stream past 200,000 characters is cut into rows, each from state zero; the log says so.
    """
    if split.line_starts is not None:
        starts, lengths = split.line_starts, split.line_lengths
        return LineScoringSampler(starts, lengths, vocabulary_size, following=following)
    rows = 1
    if len(split.ids) > LONGEST_STREAM:
        rows = len(split.ids) // ROW
        log.info("held-out text of %d characters: read as %d rows", len(split.ids), rows)
    steps = min(EVALUATION_STEPS, max(1, EVALUATION_LOGITS // (rows * vocabulary_size)))
    return StreamSampler(len(split.ids), rows, steps, following)
