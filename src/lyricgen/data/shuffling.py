"""The orders in which samplers go through a text: pure functions of the seed and the epoch."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lyricgen.data.options import Shuffle


def first_offset(offsets: int, seed: int, epoch: int) -> int:
    """A number below `offsets`, another one each epoch."""
    return int(torch.randint(offsets, (1,), generator=_generator(seed, epoch)))


def order(count: int, seed: int, epoch: int, shuffle: Shuffle) -> Tensor:
    """The epoch's order of 0 … count - 1, (count,) int32 or int64.

    Shuffled once, it is the one that `numpy.random.seed(seed)` and `numpy.random.shuffle` give,
    as in much published code; shuffled each epoch, it is drawn by torch.
    """
    return _order(count, seed, epoch if shuffle == "each_epoch" else 0, shuffle)


@lru_cache(maxsize=1)  # of a long text it is the largest thing in memory
def _order(count: int, seed: int, epoch: int, shuffle: Shuffle) -> Tensor:
    dtype = torch.int32 if count < 2**31 else torch.int64  # the same order in half the room
    if shuffle == "none":
        return torch.arange(count, dtype=dtype)
    if shuffle == "each_epoch":
        generator = _generator(seed, epoch)
        torch.randint(1, (1,), generator=generator)  # first_offset's, so that they are independent
        return torch.randperm(count, generator=generator, dtype=dtype)
    numbers = torch.arange(count, dtype=dtype)
    np.random.RandomState(seed).shuffle(numbers.numpy())  # in place
    return numbers


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
