"""Samplers that read a held-out split: every character once, in order.

B rows (batch size), T time steps, N characters in the text.
"""

import logging

import torch
from torch import Tensor

from lyricgen.data.samplers import Sampler, Windows, windows_of
from lyricgen.data.splits import Split

log = logging.getLogger(__name__)

LONGEST_STREAM = 200_000  # characters of held-out text that are read as one row
ROW = 20_000  # characters, on average, of a row of a longer text
EVALUATION_LOGITS = 2**22  # rows x steps x vocabulary that one evaluation batch aims at
EVALUATION_STEPS = 1024  # characters of a row scored at once, at most
EVALUATION_LINES = 256  # lines scored at once, at most
EVALUATION_CHARACTERS = 2**15  # of lines scored at once, padding included, at most
FOLLOWING = 128  # characters after a window that a model of both sides reads


class StreamSampler:
    """A whole text, every character after the first predicted once: for scoring and counting.

    The state is carried along each of B rows, which starts from state zero where the row above
    ends. A batch has T characters a row; a model of both sides reads the `following` ones, too.
    """

    def __init__(
        self, num_characters: int, num_rows: int, num_steps: int, following: int = 0
    ) -> None:
        self.num_steps, self.following = num_steps, following
        self.row = -(-(num_characters - 1) // num_rows)
        self.starts = torch.arange(num_rows) * self.row
        self.row_targets = (num_characters - 1 - self.starts).clamp(0, self.row)

    def __len__(self) -> int:
        return (self.row + self.num_steps - 1) // self.num_steps

    def windows(self, epoch: int, index: int) -> Windows:
        """The next T columns of every row."""
        del epoch
        first = index * self.num_steps
        lengths = (self.row_targets - first).clamp(0, self.num_steps)
        return windows_of(self.starts + first, lengths, index == 0, self.following)


class LineScoringSampler:
    """Lines for scoring, every character of each once, each line from state zero.

    A line of more than T characters is read in pieces of T, the state carried from one to the
    next. Lines of the same number of pieces share batches, in their order. Batches are smaller for
    a larger vocabulary. Other arguments as for `LineSampler` and `StreamSampler`.
    """

    def __init__(
        self,
        line_starts: Tensor,
        line_lengths: Tensor,
        vocabulary_size: int,
        num_steps: int = EVALUATION_STEPS,
        following: int = 0,
    ) -> None:
        self.line_starts, self.line_lengths = line_starts, line_lengths
        self.num_steps, self.following = num_steps, following
        self.batches: list[tuple[Tensor, int]] = []  # lines, and the number of their piece
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
        following = self.following if int(left.max()) > self.num_steps else 0
        return windows_of(starts, lengths, piece == 0, following, ends=starts + left + 1)


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
