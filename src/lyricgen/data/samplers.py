"""Which characters make up a batch: pure functions of (seed, epoch, position).

B rows (batch size), T time steps, N characters in the text.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from lyricgen.errors import UserError
from lyricgen.options import Options


class RandomOptions(Options):
    """Options of `sampler=random`."""

    kind: Literal["random"]
    random_offset: bool


class ConsecutiveOptions(Options):
    """Options of `sampler=consecutive`."""

    kind: Literal["consecutive"]
    drop_last: bool


class LinesOptions(Options):
    """Options of `sampler=lines`."""

    kind: Literal["lines"]


SamplerOptions = Annotated[
    RandomOptions | ConsecutiveOptions | LinesOptions, Field(discriminator="kind")
]


@dataclass(frozen=True)
class Windows:
    """Where the rows of one batch lie in the text.

    Row b reads the characters starts[b] … starts[b] + num_steps - 1 and predicts the ones after
    each; of these only the first lengths[b] count where lengths is given.
    """

    starts: Tensor  # (B,) int64
    num_steps: int  # T
    lengths: Tensor | None  # (B,) int64
    starts_stream: bool  # the rows do not go on where those of the batch before ended
    num_characters: int  # predicted characters in the batch, padding left out


class Sampler(Protocol):
    """The batches of an epoch, each a pure function of its epoch and position."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def windows(self, epoch: int, index: int) -> Windows:
        """Batch number `index` of epoch number `epoch`, both from 0."""
        ...


class RandomSampler:
    """Windows that do not overlap, in a new order each epoch; every batch starts from state zero.

    The (N-1)//T windows at multiples of T are shuffled and cut into batches of B; the last,
    incomplete batch is left out. With `random_offset` each epoch begins at another character
    below T, so that the windows are not always cut at the same places; there are then (N-T)//T.

    Raises:
        UserError: the text is too short for one batch.
    """

    def __init__(
        self,
        num_characters: int,
        batch_size: int,
        num_steps: int,
        *,
        seed: int,
        random_offset: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self.random_offset = random_offset
        usable = num_characters - (num_steps if random_offset else 1)
        self.num_windows = max(0, usable // num_steps)
        if self.num_windows < batch_size:
            needed = num_characters - usable + batch_size * num_steps
            raise _too_short(num_characters, needed, self.num_windows, batch_size, num_steps)

    def __len__(self) -> int:
        return self.num_windows // self.batch_size

    def windows(self, epoch: int, index: int) -> Windows:
        """B windows from places all over the text."""
        first, order = _shuffled(
            self.num_windows, self.seed, epoch, self.num_steps if self.random_offset else 1
        )
        chosen = order[index * self.batch_size : (index + 1) * self.batch_size].long()
        characters = self.batch_size * self.num_steps
        return Windows(first + chosen * self.num_steps, self.num_steps, None, True, characters)


class ConsecutiveSampler:
    """The text as B long rows, read from left to right, so that the state can be carried.

    The first B·(N//B) characters make B rows; batch i is their columns i·T … (i+1)·T. What is
    left after the last full window is a shorter batch, or left out with `drop_last`.

    Raises:
        UserError: the text is too short for one batch.
    """

    def __init__(
        self, num_characters: int, batch_size: int, num_steps: int, *, drop_last: bool = True
    ) -> None:
        self.num_steps = num_steps
        self.batch_size = batch_size
        row = num_characters // batch_size
        self.num_targets = row - 1  # in a row: its last character has no successor there
        needed_row = (num_steps if drop_last else 1) + 1
        if row < needed_row:
            largest = num_characters // needed_row
            needed = batch_size * needed_row
            raise _too_short(num_characters, needed, largest, batch_size, num_steps)
        if drop_last:
            self.num_targets -= self.num_targets % num_steps
        self.row_starts = torch.arange(batch_size) * row

    def __len__(self) -> int:
        return (self.num_targets + self.num_steps - 1) // self.num_steps

    def windows(self, epoch: int, index: int) -> Windows:
        """The next T columns of every row."""
        del epoch  # every epoch reads the same rows
        first = index * self.num_steps
        steps = min(self.num_steps, self.num_targets - first)
        return Windows(self.row_starts + first, steps, None, index == 0, self.batch_size * steps)


class LineSampler:
    """Whole lines, each from its start symbol to its stop character, in a new order each epoch.

    Rows are padded to the longest line of the batch; padding is masked by `lengths`. The last
    batch may have fewer rows. With seed None the lines keep the order of the text.

    Args:
        line_starts: (number of lines,) where the start symbols stand.
        line_lengths: (number of lines,) predicted characters of each line, the stop included.
        batch_size: B.
        seed: of the shuffle.

    Raises:
        UserError: fewer lines than one batch, when they are shuffled for training.
    """

    def __init__(
        self, line_starts: Tensor, line_lengths: Tensor, batch_size: int, *, seed: int | None
    ) -> None:
        if seed is not None and len(line_starts) < batch_size:
            raise UserError(
                f"the training part has {len(line_starts)} lines, one batch needs {batch_size}: "
                f"the largest that fits is data.batch_size={len(line_starts)}"
            )
        self.line_starts = line_starts
        self.line_lengths = line_lengths
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        return (len(self.line_starts) + self.batch_size - 1) // self.batch_size

    def windows(self, epoch: int, index: int) -> Windows:
        """B lines, padded to the longest of them."""
        chosen: Tensor | slice = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if self.seed is not None:
            chosen = _shuffled(len(self.line_starts), self.seed, epoch, 1)[1][chosen].long()
        lengths = self.line_lengths[chosen]
        steps = int(lengths.max())
        return Windows(self.line_starts[chosen], steps, lengths, True, int(lengths.sum()))


class StreamSampler:
    """A whole text, every character after the first predicted once: for evaluation.

    One row, the state carried from its first to its last character. With several rows, each
    starts from state zero and takes up where the row above ends.

    Args:
        num_characters: N.
        num_rows: B.
        num_steps: T, characters a batch.
    """

    def __init__(self, num_characters: int, num_rows: int, num_steps: int) -> None:
        self.num_steps = num_steps
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
        return Windows(self.starts + first, steps, lengths, index == 0, int(lengths.sum()))


@lru_cache(maxsize=1)  # of a long text it is the largest thing in memory
def _shuffled(count: int, seed: int, epoch: int, offsets: int) -> tuple[int, Tensor]:
    """The epoch's first offset, below `offsets`, and its order of 0 … count - 1."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    first = int(torch.randint(offsets, (1,), generator=generator))
    dtype = torch.int32 if count < 2**31 else torch.int64  # the same order in half the room
    return first, torch.randperm(count, generator=generator, dtype=dtype)


def _too_short(has: int, needs: int, largest: int, batch_size: int, num_steps: int) -> UserError:
    mend = (
        f"the largest that fits is data.batch_size={largest}"
        if largest > 0
        else f"even data.batch_size=1 does not fit: lower data.num_steps={num_steps}"
    )
    return UserError(
        f"the training part has {has} characters, one batch of data.batch_size={batch_size} and "
        f"data.num_steps={num_steps} needs {needs}: {mend}"
    )
