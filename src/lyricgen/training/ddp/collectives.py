"""Messages between the processes of a run; trivial for a single process.

Every process must make the same calls in the same order.
"""

import re
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lyricgen.data.batch import world_size

T = TypeVar("T")


def summed(tensor: Tensor) -> Tensor:
    """The sum of every process's tensor, added up in the order of their ranks."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor)  # all_reduce adds in an order that depends on the place
    return sum(parts[1:], start=parts[0])


def gathered(value: T) -> list[T]:
    """Every process's value, in the order of their ranks; tensors in it lie on the CPU."""
    values: list[Any] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


class Broadcast:
    """Numbers of rank 0 that become known everywhere without anybody waiting for them."""

    def __init__(self) -> None:
        self._sent: Tensor | None = None
        self._work: Any = None

    def __call__(self, number: int) -> int:
        """Send this number, and get the one that was sent before; 0 at first."""
        if world_size() == 1:
            return number
        received = 0
        if self._work is not None and self._sent is not None:
            self._work.wait()
            received = int(self._sent)
        self._sent = torch.tensor(number)
        self._work = dist.broadcast(self._sent, src=0, async_op=True)
        return received


def lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    named = isinstance(error, RuntimeError) and re.search("gloo|nccl", str(error), re.IGNORECASE)
    return isinstance(error, dist.DistError) or bool(named)
