"""Rank 0's part: it starts the other processes of a run, watches them, and ends them."""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

import torch

from lyricgen.console import progress, tell_now
from lyricgen.errors import UserError, printable
from lyricgen.training.ddp import PEER_LOST
from lyricgen.training.ddp.group import lost_connection, process_group, server

log = logging.getLogger(__name__)

GRACE = 30.0  # seconds that the others may take to end once rank 0 has
NOTICE = 3.0  # and to be known as dead once a connection is lost
BLOCKED = 60.0  # after which rank 0 will not come to know of a lost process by itself


class WorkerProcesses:
    """The processes of ranks 1 and above.

    Each reads its task from a pipe whose end tells it that rank 0 is gone, however that has come
    about. They stand in sessions of their own: what a terminal sends, rank 0 alone receives, and
    it decides for all.

    Args:
        task: plain values, what `worker.work` is to do.
        count: how many.
        give_up: records why the run has failed, where rank 0 itself can no longer do it.
    """

    def __init__(self, task: dict[str, Any], count: int, give_up: Callable[[str], None]) -> None:
        self._give_up = give_up
        self._left = threading.Event()  # rank 0 has left training
        self._errors: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        for rank in range(1, count + 1):
            errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
            process = subprocess.Popen(
                [sys.executable, "-m", "lyricgen.training.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": str(task["threads"])},
            )
            self._errors.append(errors)
            self._processes.append(process)
            self._tell(process, task | {"rank": rank})
        threading.Thread(target=self._watch, daemon=True).start()

    @staticmethod
    def _tell(process: subprocess.Popen[bytes], task: dict[str, Any]) -> None:
        if process.stdin is None:
            raise RuntimeError("the process has no pipe")
        with suppress(BrokenPipeError):  # `lost` knows why it has ended
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()

    def wait_until(self, ready: Callable[[int], bool]) -> None:
        """Wait for each rank to be ready.

        Raises:
            UserError: one has ended instead.
        """
        count = len(self._processes)
        with progress(f"starting {count} more processes", count) as moved:
            while not all(states := [ready(rank) for rank in range(1, count + 1)]):
                if (reason := self.lost()) is not None:
                    raise UserError(reason)
                moved(sum(states))
                time.sleep(0.02)

    def lost(self) -> str | None:
        """Reason why a process failed; None if none has."""
        ended = [
            (process.returncode == PEER_LOST, rank)  # only the first knows the reason
            for rank, process in enumerate(self._processes, start=1)
            if process.poll()
        ]
        return self._failure_message(min(ended)[1]) if ended else None

    def _failure_message(self, rank: int) -> str:
        process, errors = self._processes[rank - 1], self._errors[rank - 1]
        errors.seek(0)
        lines = errors.read().decode(errors="replace").split("\n")
        log.debug("rank %d: %s", rank, "\n".join(lines))
        said = next((line for line in reversed(lines) if line.strip()), "no reason known")
        if process.returncode < 0:
            said = f"it was killed by {signal.Signals(-process.returncode).name}"
        which = f"process {rank + 1} of {len(self._processes) + 1} has ended"
        return printable(f"{which}: {said}")

    def lost_soon(self) -> str | None:
        """As `lost`, for a process that may be just about to end."""
        deadline = time.monotonic() + NOTICE
        while (found := self.lost()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return found

    def _watch(self) -> None:
        """End this process if it waits, in vain and unable to know, for one that is gone."""
        while not self._left.wait(0.5):
            found = self.lost()
            if found is not None and not self._left.wait(BLOCKED):
                self._give_up(found)
                tell_now(f"error: {found}")
                os._exit(2)

    def end(self, grace: float) -> None:
        """See that all end, by themselves if they do it soon."""
        self._left.set()
        deadline = time.monotonic() + grace
        for process, errors in zip(self._processes, self._errors, strict=True):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
            errors.close()


@contextmanager
def worker_processes(
    task: dict[str, Any], world_size: int, device: str, give_up: Callable[[str], None]
) -> Iterator[None]:
    """Train together with other processes, which are gone afterwards.

    Args:
        task: plain values, for `worker.work`.
        world_size: processes in all, this one included.
        device: "cuda" or "cpu".
        give_up: records why the run has failed.

    Raises:
        UserError: one of them has failed.
    """
    store, threads = server(), torch.get_num_threads()
    share = max(1, threads // world_size)
    task |= {"world_size": world_size, "port": store.port, "threads": share, "device": device}
    started = WorkerProcesses(task, world_size - 1, give_up)
    try:
        started.wait_until(lambda rank: store.check([f"ready {rank}"]))
        torch.set_num_threads(share)
        with process_group(store, 0, world_size, device):
            try:
                yield
                started.end(GRACE)
            except Exception as error:
                reason = started.lost_soon() if lost_connection(error) else None
                if reason is None:
                    raise
                raise UserError(reason) from error
            finally:
                started.end(0)  # before the group, which may wait for them
    finally:
        started.end(0)
        torch.set_num_threads(threads)
