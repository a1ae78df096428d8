"""Which characters make up a batch: pure functions of (seed, epoch, position).

B rows (batch size), T time steps, N characters in the text.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from lyricgen.data.shuffling import Seed, Shuffle, first_offset, order
from lyricgen.errors import UserError
from lyricgen.options import Options


class RandomOptions(Options):
    """Options of `sampler=random`."""

    kind: Literal["random"]
    shuffle: Shuffle
    seed: Seed | None
    random_offset: bool


class ConsecutiveOptions(Options):
    """Options of `sampler=consecutive`."""

    kind: Literal["consecutive"]
    drop_last: bool
    carry_state: bool


class LinesOptions(Options):
    """Options of `sampler=lines`."""

    kind: Literal["lines"]
    shuffle: Shuffle
    seed: Seed | None
    carry_state: bool


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
    following: int = 0  # characters after each row to be known as well, for who looks ahead


class Sampler(Protocol):
    """The batches of an epoch, each a pure function of its epoch and position."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def windows(self, epoch: int, index: int) -> Windows:
        """Batch number `index` of epoch number `epoch`, both from 0."""
        ...


class RandomSampler:
    """Windows that do not overlap, every batch starts from state zero.

    The (N-1)//T windows at multiples of T are shuffled and cut into batches of B; the last,
    incomplete batch is left out. With `random_offset` each epoch begins at another character
    below T, so that the windows are not always cut at the same places; there are then (N-T)//T.

    Args:
        num_characters: N.
        batch_size: B.
        num_steps: T.
        seed: of the shuffle.
        shuffle: each epoch anew, once, or none: as they follow each other in the text.
        random_offset: see above.

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
        shuffle: Shuffle = "each_epoch",
        random_offset: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self.shuffle: Shuffle = shuffle
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
        first = first_offset(self.num_steps, self.seed, epoch) if self.random_offset else 0
        shuffled = order(self.num_windows, self.seed, epoch, self.shuffle)
        chosen = shuffled[index * self.batch_size : (index + 1) * self.batch_size].long()
        characters = self.batch_size * self.num_steps
        return Windows(first + chosen * self.num_steps, self.num_steps, None, True, characters)


class ConsecutiveSampler:
    """The text as B long rows, read from left to right, so that the state can be carried.

    The first B·(N//B) characters make B rows; batch i is their columns i·T … (i+1)·T. What is
    left after the last full window is a shorter batch, or left out with `drop_last`. Without
    `carry_state` every batch starts from state zero, which shows what carrying it is worth.

    Raises:
        UserError: the text is too short for one batch.
    """

    def __init__(
        self,
        num_characters: int,
        batch_size: int,
        num_steps: int,
        *,
        drop_last: bool = True,
        carry_state: bool = True,
    ) -> None:
        self.num_steps = num_steps
        self.batch_size = batch_size
        self.carry_state = carry_state
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
        starts_stream = index == 0 or not self.carry_state
        return Windows(self.row_starts + first, steps, None, starts_stream, self.batch_size * steps)


class LineSampler:
    """Whole lines, each from its start symbol to its stop character.

    Rows are padded to the longest line of the batch; padding is masked by `lengths`. The last
    batch may have fewer rows. Every line starts from state zero; with `carry_state`, for batches
    of one line, from the state that the line before has left, also from one epoch to the next.

    Args:
        line_starts: (number of lines,) where the start symbols stand.
        line_lengths: (number of lines,) predicted characters of each line, the stop included.
        batch_size: B.
        seed: of the shuffle.
        shuffle: each epoch anew, once, or none: in the order of the text.
        carry_state: see above.

    Raises:
        UserError: fewer lines than one batch, when they are shuffled for training.
        ValueError: a state is to be carried between batches of several lines, whose rows end at
            different characters.
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
    ) -> None:
        if shuffle != "none" and len(line_starts) < batch_size:
            raise UserError(
                f"the training part has {len(line_starts)} lines, one batch needs {batch_size}: "
                f"the largest that fits is data.batch_size={len(line_starts)}"
            )
        if carry_state and batch_size != 1:
            raise ValueError(f"a state cannot be carried between batches of {batch_size} lines")
        self.line_starts = line_starts
        self.line_lengths = line_lengths
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle: Shuffle = shuffle
        self.carry_state = carry_state

    def __len__(self) -> int:
        return (len(self.line_starts) + self.batch_size - 1) // self.batch_size

    def windows(self, epoch: int, index: int) -> Windows:
        """B lines, padded to the longest of them."""
        chosen: Tensor | slice = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if self.shuffle != "none":
            shuffled = order(len(self.line_starts), self.seed, epoch, self.shuffle)
            chosen = shuffled[chosen].long()
        lengths = self.line_lengths[chosen]
        steps = int(lengths.max())
        starts_stream = not self.carry_state or epoch == index == 0
        return Windows(self.line_starts[chosen], steps, lengths, starts_stream, int(lengths.sum()))


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
