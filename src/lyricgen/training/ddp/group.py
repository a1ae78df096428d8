"""The process group of a run, and messages between its processes; trivial for a single process.

Every process must make the same calls in the same order.
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
# longest time that rank 0 takes to count n-grams, draw samples or write a checkpoint
WAIT = timedelta(minutes=30)


def server() -> TCPStore:
    """Open the store in which the processes meet, on a free port of rank 0."""
    return TCPStore(HOST, 0, is_master=True, wait_for_workers=False, timeout=WAIT)


def client(port: int) -> TCPStore:
    """Connect to the store of rank 0."""
    return TCPStore(HOST, port, is_master=False, timeout=WAIT)


@contextmanager
def process_group(store: Store, rank: int, processes: int, device: str) -> Iterator[None]:
    """Join the process group, on the device "cpu" or "cuda", and leave it at the end."""
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
    """Check that the `asked` processes train together, and have the same settings.

    `known` is the number of processes that the Trainer knows.

    Raises:
        RuntimeError: the numbers or the settings differ.
    """
    if not asked == known == world_size():
        raise RuntimeError(
            f"{asked} processes were to train, Lightning knows {known}, the process group "
            f"{world_size()}"
        )
    if len(set(gathered(settings))) > 1:
        raise RuntimeError("the processes differ in their options or in their text")


def summed(tensor: Tensor) -> Tensor:
    """Sum the tensors of all processes, in the order of their ranks."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    dist.all_gather(parts, tensor)  # the order in which all_reduce adds depends on the place
    return sum(parts[1:], start=parts[0])


def gathered(value: T) -> list[T]:
    """Gather a value of every process, in the order of ranks; its tensors must be on the CPU."""
    values: list[Any] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


class Broadcast:
    """Sends numbers from rank 0 to all processes; none waits for the number of the current call."""

    def __init__(self) -> None:
        self._sent: Tensor | None = None
        self._work: Any = None

    def __call__(self, number: int) -> int:
        """Send a number, and return rank 0's number of the call before, or 0 at the first call.

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
    """Whether an error is one of the connection between processes; another may be gone."""
    named = isinstance(error, RuntimeError) and re.search("gloo|nccl", str(error), re.IGNORECASE)
    return isinstance(error, dist.DistError) or bool(named)
