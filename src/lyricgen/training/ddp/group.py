"""Process group of a run, and messages between its processes.

Every process must make the same calls in the same order. A single process sends nothing.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from lyricgen.data.batch import world_size

T = TypeVar("T")

HOST = "127.0.0.1"
# limit of time for rank 0 to count n-grams, draw samples or write a checkpoint
WAIT = timedelta(minutes=30)


def server() -> TCPStore:
    """Open the store through which the processes connect, on a free port."""
    return TCPStore(HOST, 0, is_master=True, wait_for_workers=False, timeout=WAIT)


def client(port: int) -> TCPStore:
    """Connect to the store of rank 0."""
    return TCPStore(HOST, port, is_master=False, timeout=WAIT)


@contextmanager
def process_group(store: Store, rank: int, processes: int, device: str) -> Iterator[None]:
    """Join the process group until the block ends; `device` is "cpu" or "cuda"."""
    # tensors on the CPU travel by gloo, so that no process waits for a GPU
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    hook = sys.excepthook  # torch replaces it by one that names the rank
    dist.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()
        sys.excepthook = hook


def check_processes(asked: int, known: int, settings: str) -> None:
    """Check that all processes train together, with the same settings.

    `asked` is the number of processes in the options, `known` the number that the Trainer knows.

    Raises:
        RuntimeError: the numbers or the settings differ.
    """
    if not asked == known == world_size():
        raise RuntimeError(
            f"{asked} processes were to train, Lightning knows {known}, the process group "
            f"{world_size()}"
        )
    if len(set(gather_from_processes(settings))) > 1:
        raise RuntimeError("the processes differ in their options or in their text")


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum the tensors of all processes, in the order of their ranks."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor)  # all_reduce adds different places in different orders
    return sum(parts[1:], start=parts[0])


def gather_from_processes(value: T) -> list[T]:
    """List the values of all processes by rank; tensors in a value must be on the CPU."""
    values: list[Any] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


class Broadcast:
    """Sends numbers from rank 0 to all processes; a number arrives one call later."""

    def __init__(self) -> None:
        self._sent: Tensor | None = None
        self._work: Any = None

    def __call__(self, number: int) -> int:
        """Send a number, and return rank 0's number of the previous call; 0 at the first call.

        A single process gets its own number back at once.
        """
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
    """Whether an error comes from the connection between processes."""
    named = isinstance(error, RuntimeError) and re.search("gloo|nccl", str(error), re.IGNORECASE)
    return isinstance(error, dist.DistError) or bool(named)
