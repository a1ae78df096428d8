"""Batches of character ids, and their positions in a split.

Shapes: B rows, T time steps, N characters in a split of the corpus.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from lyricgen.data.corpus import CheckedMapping
from lyricgen.data.recall import Recollection

IGNORED = -100  # the target of padding, as in torch.nn.functional.cross_entropy
# Rows read from a mapped text before its pages are given back: Linux maps up to 2 MB around a row.
FORGET_EVERY = 128
_PIECE = 1 << 24  # ids copied to a device at a time


def combine_seed(seed: int, number: int) -> int:
    """Combine a seed and a number, such as that of an epoch or a step, into a new seed.

    Different arguments give different seeds if each `number` is from 0 to 1,000,002.
    """
    return seed * 1_000_003 + number


@dataclass(frozen=True)
class Windows:
    """Positions of a batch's rows in a text.

    Row b reads the characters from starts[b] to starts[b] + num_steps - 1, and predicts the next
    character after each. If `lengths` are given, only its first lengths[b] predictions count.
    """

    starts: Tensor  # (B,) int64
    num_steps: int  # T
    lengths: Tensor | None  # (B,) int64
    starts_stream: bool  # whether the rows start from state zero, not from the previous state
    num_characters: int  # predicted characters in the whole batch, without padding
    following: int = 0  # number of characters after the targets that a model for gaps also reads
    # (B,) int64, positions before which the following characters end; None: at the text's end
    ends: Tensor | None = None


def make_windows(
    starts: Tensor,
    lengths: Tensor,
    starts_stream: bool,
    following: int = 0,
    ends: Tensor | None = None,
) -> Windows:
    """Make the `Windows` of rows; the longest row decides the number of steps."""
    steps, characters = int(lengths.max()), int(lengths.sum())
    return Windows(starts, steps, lengths, starts_stream, characters, following, ends)


class Sampler(Protocol):
    """Interface of samplers, which choose the positions of each batch.

    A batch depends only on its epoch and its index.
    """

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def windows(self, epoch: int, index: int) -> Windows:
        """Choose the positions of a batch; `epoch` and `index` count from 0."""
        ...


class TrainingSampler(Sampler):
    """Interface of samplers of the training split.

    Attributes:
        batch_size: rows of a full batch; fewer than `data.batch_size` if the text is small.
        num_read: characters that an epoch predicts.
    """

    batch_size: int
    num_read: int


def block(rows: int, rank: int, world_size: int) -> slice:
    """Divide rows evenly among processes; return the rows of the process `rank`."""
    return slice(rows * rank // world_size, rows * (rank + 1) // world_size)


def share(windows: Windows, rank: int, world_size: int) -> Windows:
    """Take the rows of one process from a batch.

    Every process divides its loss by `num_characters`, which still counts the whole batch. A
    process without rows gets a row of padding, since it has to take part in every step.
    """
    if world_size == 1:
        return windows
    mine = block(len(windows.starts), rank, world_size)
    if mine.start == mine.stop:
        nothing = torch.zeros(1, dtype=torch.int64)
        windows = replace(windows, num_steps=1, lengths=nothing.expand(len(windows.starts)))
        mine = slice(0, 1)
    return replace(
        windows,
        starts=windows.starts[mine],  # (b,)
        lengths=None if windows.lengths is None else windows.lengths[mine],
        ends=None if windows.ends is None else windows.ends[mine],
    )


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


@dataclass  # not frozen: Lightning copies its fields for some precisions
class Batch:
    """Inputs and targets of one step."""

    inputs: Tensor  # (B, T) int64, id V is the start of a line
    targets: Tensor  # (B, T) int64, IGNORED for padding
    starts: Tensor  # (B,) int64: inputs[b, t] stands at starts[b] + t in its split
    starts_stream: bool  # whether the state is zeroed first
    num_characters: int  # targets without padding, in all processes
    following: Tensor | None = None  # (B, K) int64 ids after the targets; IGNORED past the end
    recalled: Tensor | None = None  # (B, T, 3, K) uint8 counts of recalled characters, see `recall`


def cut(ids: Tensor, windows: Windows, recollection: Recollection | None = None) -> Batch:
    """Gather the batch at the positions `windows` of a text, on the device of the text.

    Args:
        ids: (N,) the text.
        windows: positions of the rows.
        recollection: what a reader of the text recalls, on its device; None for no memory.
    """
    starts = windows.starts.to(ids.device, non_blocking=True)
    steps = torch.arange(windows.num_steps + 1, device=ids.device)  # (T+1,)
    positions = starts[:, None] + steps  # (B, T+1)
    if windows.lengths is None:
        characters = ids[positions].long()
        inputs, targets = characters[:, :-1], characters[:, 1:]
    else:
        characters = ids[positions.clamp_(max=len(ids) - 1)].long()
        padding = steps[:-1] >= windows.lengths.to(ids.device, non_blocking=True)[:, None]
        # padded inputs are an ordinary character, valid whatever the layout
        inputs = characters[:, :-1].masked_fill(padding, 0)
        targets = characters[:, 1:].masked_fill(padding, IGNORED)
    following = None
    if windows.following:
        positions = starts[:, None] + torch.arange(windows.following, device=ids.device)
        positions += windows.num_steps + 1  # (B, K)
        following = ids[positions.clamp(max=len(ids) - 1)].long()
        ends = len(ids) if windows.ends is None else windows.ends.to(ids.device)[:, None]
        following = following.masked_fill(positions >= ends, IGNORED)
    recalled = None if recollection is None else recollection.look_up(starts[:, None] + steps[1:])
    return Batch(
        *(inputs, targets, starts, windows.starts_stream, windows.num_characters),
        following=following,
        recalled=recalled,
    )


class BatchLoader:
    """Loader of the batches of one split; each iteration reads one epoch.

    Args:
        ids: (N,) the characters of the split. They are copied to the device at once if they fit
            there; otherwise each batch is copied.
        sampler: chooses the positions of each batch.
        device: device of the batches.
        position: returns the current epoch, and the index of the first batch to read in it.
        mapping: the mapped file of the ids, which checks them before they are read; None for ids in
            memory.
        process: rank and world size; each process reads its own rows of every batch.
        recollection: what a reader of the split recalls; None for no memory.

    Raises:
        UserError: the mapped ids are damaged and cannot be restored; also during an iteration.
    """

    def __init__(
        self,
        ids: Tensor,
        sampler: Sampler,
        device: torch.device,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
        mapping: CheckedMapping | None = None,
        process: tuple[int, int] = (0, 1),
        recollection: Recollection | None = None,
    ) -> None:
        more = 0 if recollection is None else recollection.counts.nbytes
        fits = _fits(ids.nbytes + more, device)
        self.ids = _copy_ids(ids, device, mapping) if fits else ids
        self._recollection = None if recollection is None else recollection.to(self.ids.device)
        self._mapping = mapping
        self._sampler = sampler  # Lightning looks into an attribute `sampler`
        self.device = device
        self.position = position
        self._process = process

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.position()
        rows = 0
        for index in range(first, len(self._sampler)):
            windows = share(self._sampler.windows(epoch, index), *self._process)
            if self._mapping is not None:
                rows += len(windows.starts)
                if rows > FORGET_EVERY:
                    self._mapping.forget()
                    rows = len(windows.starts)
                steps = windows.num_steps + 1 + windows.following
                self._mapping.check(self.ids, windows.starts, steps)
            yield _move_batch(cut(self.ids, windows, self._recollection), self.device)


def _fits(size: int, device: torch.device) -> bool:
    """Whether to hold a text, of `size` bytes with its counts, on a device.

    A CPU holds any text. A CUDA GPU holds a text that takes at most a quarter of its free memory.
    Other devices hold none.
    """
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return size <= free // 4


def _copy_ids(ids: Tensor, device: torch.device, mapping: CheckedMapping | None) -> Tensor:
    if ids.device == device:
        return ids
    copy = torch.empty(len(ids), dtype=ids.dtype, device=device)
    for start in range(0, len(ids), _PIECE):  # a mapped text never lies in memory as a whole
        piece = ids[start : start + _PIECE]
        if mapping is not None:
            mapping.check(piece)
        copy[start : start + _PIECE] = piece.to(device)
        if mapping is not None:
            mapping.forget()
    return copy


def _move_batch(batch: Batch, device: torch.device) -> Batch:
    if batch.inputs.device == device:
        return batch
    names = ("inputs", "targets", "starts", "following", "recalled")
    tensors = {name: part for name in names if (part := getattr(batch, name)) is not None}
    moved = {name: part.to(device, non_blocking=True) for name, part in tensors.items()}
    return replace(batch, **moved)
