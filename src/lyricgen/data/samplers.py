"""Samplers, which choose the positions of each batch from (seed, epoch, index) alone.

Shapes: B rows (batch size), T time steps, N characters in the text.
"""

import logging
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lyricgen.data.batch import Sampler, TrainingSampler, Windows, combine_seed, make_windows
from lyricgen.data.options import Shuffle
from lyricgen.data.splits import Split
from lyricgen.errors import UserError

log = logging.getLogger(__name__)

LONGEST_STREAM = 200_000  # most characters of held-out text that are read as one row
ROW = 20_000  # characters of a row of a longer text, about
EVALUATION_LOGITS = 2**22  # most logits of an evaluation batch, about
EVALUATION_STEPS = 1024  # most characters of a row in an evaluation batch
EVALUATION_LINES = 256  # most lines in an evaluation batch
EVALUATION_CHARACTERS = 2**15  # most characters of these lines, padding included
FOLLOWING = 128  # characters after a window, which a model that fills gaps reads


def first_offset(offsets: int, seed: int, epoch: int) -> int:
    """Draw the offset of an epoch, from 0 to `offsets` - 1."""
    return int(torch.randint(offsets, (1,), generator=_generator(seed, epoch)))


def order(count: int, seed: int, epoch: int, shuffle: Shuffle) -> Tensor:
    """Order the numbers 0 … count - 1 for an epoch, (count,) int32 or int64.

    `shuffle` is "each_epoch" for a new order in each epoch, "once" for the same order in all
    epochs, or "none" for rising numbers. "once" gives the order of `numpy.random.shuffle` after
    `numpy.random.seed(seed)`, as in course code. Do not change the result, which is cached.
    """
    return _order(count, seed, epoch if shuffle == "each_epoch" else 0, shuffle)


@lru_cache(maxsize=1)  # a long text's order is the largest object in memory
def _order(count: int, seed: int, epoch: int, shuffle: Shuffle) -> Tensor:
    dtype = torch.int32 if count < 2**31 else torch.int64  # the same order in half the room
    if shuffle == "none":
        return torch.arange(count, dtype=dtype)
    if shuffle == "each_epoch":
        generator = _generator(seed, epoch)
        torch.randint(1, (1,), generator=generator)  # skips the draw of first_offset
        return torch.randperm(count, generator=generator, dtype=dtype)
    numbers = torch.arange(count, dtype=dtype)
    np.random.RandomState(seed).shuffle(numbers.numpy())  # in place
    return numbers


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(combine_seed(seed, epoch))


def _without_equal_lengths(windows: Windows) -> Windows:
    full = windows.num_characters == windows.num_steps * len(windows.starts)
    return replace(windows, lengths=None) if full else windows


class RandomSampler(TrainingSampler):
    """Sampler of windows that do not overlap; every batch starts from state zero.

    The text is cut into windows of T characters. A batch has B windows, or fewer if the text is
    small. With `random_offset` each epoch draws where its first cut is. All epochs have the same
    number of windows. `order` explains `shuffle` and its `seed`.

    With `drop_last`, as in textbooks, shorter windows and smaller batches are left out. Without it
    an epoch predicts every character but the first; the windows at both ends of the text may be
    shorter, and the last batch smaller.

    Raises:
        UserError: the text is too short for a window.
    """

    def __init__(
        self,
        num_characters: int,
        batch_size: int,
        num_steps: int,
        *,
        seed: int,
        shuffle: Shuffle = "each_epoch",
        random_offset: bool = False,
        drop_last: bool,
    ) -> None:
        self.num_steps, self.seed = num_steps, seed
        self.shuffle: Shuffle = shuffle
        self.num_targets = num_characters - 1
        self.drop_last = drop_last
        if drop_last:
            self.offsets = range(num_steps if random_offset else 1)
            self.num_windows = (num_characters - len(self.offsets)) // num_steps
        else:
            self.num_windows = -(-self.num_targets // num_steps)
            spare = self.num_windows * num_steps - self.num_targets
            # how far the first window may begin before the text
            self.offsets = range(spare + 1) if random_offset else range(1)
            if random_offset and num_steps - 1 - spare > spare + 1:
                self.offsets = range(spare + 1, num_steps)
                self.num_windows += 1
        if self.num_windows < 1:
            raise _short_split_error(num_characters, len(self.offsets) + num_steps, num_steps)
        self.batch_size = min(batch_size, self.num_windows)
        in_windows = len(self) * self.batch_size * num_steps
        self.num_read = in_windows if drop_last else self.num_targets

    def __len__(self) -> int:
        full, rest = divmod(self.num_windows, self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def windows(self, epoch: int, index: int) -> Windows:
        """Choose the windows of one batch."""
        offset = self.offsets[first_offset(len(self.offsets), self.seed, epoch)]
        shuffled = order(self.num_windows, self.seed, epoch, self.shuffle)
        chosen = shuffled[index * self.batch_size : (index + 1) * self.batch_size].long()
        if self.drop_last:
            characters = self.batch_size * self.num_steps
            return Windows(offset + chosen * self.num_steps, self.num_steps, None, True, characters)
        begins = chosen * self.num_steps - offset
        ends = (begins + self.num_steps).clamp(max=self.num_targets)
        starts = begins.clamp(min=0)
        return _without_equal_lengths(make_windows(starts, ends - starts, True))


class ConsecutiveSampler(TrainingSampler):
    """Sampler that reads the text as B long rows, from left to right.

    A batch is the next T columns of all rows; a small text has fewer rows. The state is carried
    from batch to batch. Without `carry_state` every batch starts from state zero.

    With `drop_last`, as in textbooks, characters after the last whole row or batch are left out.
    Without it an epoch predicts every character but the first. Rows then differ in length by at
    most one character, and so do windows.

    Raises:
        UserError: with `drop_last`, the text is too short for a window.
    """

    def __init__(
        self,
        num_characters: int,
        batch_size: int,
        num_steps: int,
        *,
        drop_last: bool,
        carry_state: bool = True,
    ) -> None:
        self.num_steps, self.carry_state = num_steps, carry_state
        num_targets = num_characters - 1
        if drop_last:
            most = num_characters // (num_steps + 1)
            if most < 1:
                raise _short_split_error(num_characters, num_steps + 1, num_steps)
            self.batch_size = min(batch_size, most)
            row = num_characters // self.batch_size
            self.row_starts = torch.arange(self.batch_size) * row
            self.columns = (row - 1) // num_steps * num_steps  # the last has no target
            self.row_lengths = torch.full((self.batch_size,), self.columns)
        else:
            self.batch_size = min(batch_size, -(-num_targets // num_steps))
            cuts = torch.arange(self.batch_size + 1) * num_targets // self.batch_size
            self.row_starts = cuts[:-1]
            self.row_lengths = cuts.diff()
            self.columns = int(self.row_lengths.max())
        self.num_read = int(self.row_lengths.sum())

    def __len__(self) -> int:
        return (self.columns + self.num_steps - 1) // self.num_steps

    def windows(self, epoch: int, index: int) -> Windows:
        """Choose the next columns of every row."""
        del epoch  # every epoch reads the same rows
        first, end = (at * self.columns // len(self) for at in (index, index + 1))
        starts_stream = index == 0 or not self.carry_state
        lengths = (self.row_lengths - first).clamp(max=end - first)
        return _without_equal_lengths(make_windows(self.row_starts + first, lengths, starts_stream))


class LineSampler(TrainingSampler):
    """Sampler of whole lines, each from its start symbol to its newline.

    Rows are padded to the longest row of the batch. The last batch may have fewer rows. Every row
    starts from state zero; with `carry_state` it starts from the last state of the row before, also
    across epochs.

    Args:
        line_starts: (number of lines,) places of the start symbols.
        line_lengths: (number of lines,) characters of each line, its newline included.
        batch_size: B, at most; a small text has fewer rows.
        seed: seed of the shuffle.
        shuffle: see `order`.
        carry_state: whether to carry the state from row to row.
        longest: most characters of a row, to limit memory; a longer line is cut into rows of about
            equal length. None sets no limit.

    Raises:
        ValueError: `carry_state` is true, and `batch_size` is not 1.
    """

    def __init__(
        self,
        line_starts: Tensor,
        line_lengths: Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: Shuffle = "each_epoch",
        carry_state: bool = False,
        longest: int | None = None,
    ) -> None:
        if carry_state and batch_size != 1:
            raise ValueError(f"a state cannot be carried between batches of {batch_size} lines")
        self.pieces = torch.ones_like(line_lengths)  # number of pieces of each line
        if longest is not None:
            self.pieces = (line_lengths + longest - 1) // longest
        self.row_starts, self.row_lengths = _cut_lines(line_starts, line_lengths, self.pieces)
        self.batch_size = min(batch_size, len(self.row_starts))
        self.num_read = int(line_lengths.sum())
        self.seed = seed
        self.shuffle: Shuffle = shuffle
        self.carry_state = carry_state

    def __len__(self) -> int:
        return (len(self.row_starts) + self.batch_size - 1) // self.batch_size

    def windows(self, epoch: int, index: int) -> Windows:
        """Choose the rows of one batch."""
        chosen = self._rows(epoch, slice(index * self.batch_size, (index + 1) * self.batch_size))
        starts_stream = not self.carry_state or epoch == index == 0
        return make_windows(self.row_starts[chosen], self.row_lengths[chosen], starts_stream)

    def _rows(self, epoch: int, window: slice) -> Tensor | slice:
        """Find the rows at some places of the epoch's order."""
        if self.shuffle == "none":
            return window
        rows = len(self.row_starts)
        if not self.carry_state or rows == len(self.pieces):
            return order(rows, self.seed, epoch, self.shuffle)[window].long()
        lines = order(len(self.pieces), self.seed, epoch, self.shuffle).long()
        ends = self.pieces[lines].cumsum(0)  # of each line, in the epoch's order
        line = int(torch.searchsorted(ends, window.start, right=True))
        last_of_line = int(self.pieces.cumsum(0)[lines[line]]) - 1
        return torch.tensor([last_of_line - int(ends[line]) + 1 + window.start])


def _cut_lines(starts: Tensor, lengths: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Cut each line into its number of `pieces`; return the starts and lengths of all pieces."""
    lines = torch.arange(len(pieces)).repeat_interleave(pieces)
    number = torch.arange(len(lines)) - (pieces.cumsum(0) - pieces)[lines]  # of a piece in its line
    first, end = (at * lengths[lines] // pieces[lines] for at in (number, number + 1))
    return starts[lines] + first, end - first


def _short_split_error(has: int, needs: int, num_steps: int) -> UserError:
    return UserError(
        f"the training split has {has} characters, one window of data.num_steps={num_steps} needs "
        f"{needs}: lower data.num_steps, or set sampler.drop_last=false"
    )


class StreamSampler:
    """Sampler that reads a whole text; every character but the first is predicted once.

    The text is cut into `num_rows` rows. Each starts from state zero and carries the state from
    batch to batch. A model that fills gaps also reads the `following` characters after each batch.
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
        """Choose the next T columns of every row."""
        del epoch
        first = index * self.num_steps
        lengths = (self.row_targets - first).clamp(0, self.num_steps)
        return make_windows(self.starts + first, lengths, index == 0, self.following)


class LineScoringSampler:
    """Sampler that reads every line once, from state zero, for scoring.

    A line of more than T = `EVALUATION_STEPS` characters is read in pieces of T, and the state is
    carried from piece to piece. A batch holds lines with the same number of pieces. A larger
    vocabulary makes smaller batches. `LineSampler` and `StreamSampler` explain the arguments.
    """

    def __init__(
        self, line_starts: Tensor, line_lengths: Tensor, vocabulary_size: int, following: int = 0
    ) -> None:
        self.line_starts, self.line_lengths = line_starts, line_lengths
        self.num_steps, self.following = EVALUATION_STEPS, following
        self.batches: list[tuple[Tensor, int]] = []  # lines, and the number of their piece
        pieces = (line_lengths + self.num_steps - 1) // self.num_steps
        most = min(EVALUATION_CHARACTERS, EVALUATION_LOGITS // vocabulary_size)
        for count in sorted(set(pieces.tolist())):
            lines = torch.nonzero(pieces == count).flatten()
            longest = min(self.num_steps, int(line_lengths[lines].max()))
            rows = min(EVALUATION_LINES, max(1, most // longest))
            self.batches += [(some, p) for some in torch.split(lines, rows) for p in range(count)]

    def __len__(self) -> int:
        return len(self.batches)

    def windows(self, epoch: int, index: int) -> Windows:
        """Choose the next T characters of some lines."""
        del epoch
        lines, piece = self.batches[index]
        first = piece * self.num_steps
        left = self.line_lengths[lines] - first
        starts = self.line_starts[lines] + first
        lengths = left.clamp(max=self.num_steps)
        following = self.following if int(left.max()) > self.num_steps else 0
        return make_windows(starts, lengths, piece == 0, following, ends=starts + left + 1)


def evaluation_sampler(split: Split, vocabulary_size: int, following: int = 0) -> Sampler:
    """Make a sampler that reads a whole split: running text as one stream, lines one by one.

    A stream of more than 200,000 characters is cut into rows, each from state zero; the log says
    so. `StreamSampler` explains `following`.
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
