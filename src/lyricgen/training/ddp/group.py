"""The process group of a run, for as long as it trains."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from lyricgen.data.batch import world_size
from lyricgen.training.ddp.collectives import gathered

HOST = "127.0.0.1"
# For one of them alone: counting n-grams, drawing texts, writing a checkpoint.
WAIT = timedelta(minutes=30)


def server() -> TCPStore:
    """Where the processes meet: a port of its own, which rank 0 listens on."""
    return TCPStore(HOST, 0, is_master=True, wait_for_workers=False, timeout=WAIT)


def client(port: int) -> TCPStore:
    """Where rank 0 listens."""
    return TCPStore(HOST, port, is_master=False, timeout=WAIT)


def check(processes: int, lightnings: int, digest: str) -> None:
    """See that all processes are there, and are about to do the same.

    Args:
        processes: that were asked for.
        lightnings: that the Trainer knows of.
        digest: of all that decides what is trained.

    Raises:
        RuntimeError: they are not.
    """
    if not processes == lightnings == world_size():
        raise RuntimeError(
            f"{processes} processes were to train, Lightning knows {lightnings}, the process group "
            f"{world_size()}"
        )
    if len(set(gathered(digest))) > 1:
        raise RuntimeError("the processes differ in their options or in their text")


@contextmanager
def process_group(store: Store, rank: int, processes: int, device: str) -> Iterator[None]:
    """Be one of the processes.

    Args:
        store: where they meet.
        rank: of this one.
        processes: in all.
        device: "cuda" to let GPUs talk to each other directly.
    """
    # what lies on the CPU goes the CPU's way, so that nobody waits for a GPU
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    hook = sys.excepthook  # torch puts one before it that names the rank
    dist.init_process_group(backend, store=store, rank=rank, world_size=processes, timeout=WAIT)
    try:
        yield
    finally:
        dist.destroy_process_group()
        sys.excepthook = hook
