"""How the rows of a batch are shared among the processes that train on it.

B rows (batch size), of one process b.
"""

from dataclasses import replace

import torch
import torch.distributed as dist

from lyricgen.data.samplers import Windows


def block(rows: int, rank: int, world_size: int) -> slice:
    """The rows of one process: all in order, none twice, at most one more than another's."""
    return slice(rows * rank // world_size, rows * (rank + 1) // world_size)


def share(windows: Windows, rank: int, world_size: int) -> Windows:
    """The part of a batch that one process works on.

    `num_characters` stays that of the whole batch, by which every process divides. A process
    without a row of its own gets the first one with nothing in it that counts, since it has to
    take part in every step.

    Args:
        windows: the whole batch.
        rank: of the process.
        world_size: processes in all.
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
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0
