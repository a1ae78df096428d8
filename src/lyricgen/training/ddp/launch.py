"""Start, watch and end the other processes of a run, from rank 0."""

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
from lyricgen.errors import UserError, escape_line
from lyricgen.training.ddp import PEER_LOST
from lyricgen.training.ddp.group import lost_connection, process_group, server

log = logging.getLogger(__name__)

GRACE = 30.0  # seconds for the other processes to end once rank 0 has ended
NOTICE = 10.0  # seconds to wait for the end of a process after its connection is lost
BLOCKED = 60.0  # seconds that rank 0 has to notice a lost process by itself


class WorkerProcesses:
    """The processes of ranks 1 and above.

    Each reads its task from a pipe, and ends when rank 0 closes the pipe or is gone. Each has its
    own session, so that only rank 0 receives the signals of a terminal.

    Args:
        task: argument of `worker.work`, without `rank` but with `threads`, the number of threads.
        count: number of these processes.
        give_up: called with the reason if a process has failed and rank 0 is blocked; rank 0 then
            ends with status 2.
    """

    def __init__(self, task: dict[str, Any], count: int, give_up: Callable[[str], None]) -> None:
        self._give_up = give_up
        self._over = threading.Event()  # rank 0 has ended its training
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
            if process.stdin is not None:
                with suppress(BrokenPipeError):  # `failure` finds out why it has ended
                    process.stdin.write(json.dumps(task | {"rank": rank}).encode() + b"\n")
                    process.stdin.flush()
        threading.Thread(target=self._watch, daemon=True).start()

    def wait_until(self, ready: Callable[[int], bool]) -> None:
        """Wait until `ready(rank)` is true for each rank above 0.

        Raises:
            UserError: a process has failed.
        """
        count = len(self._processes)
        with progress(f"starting {count} more processes", count) as moved:
            while not all(states := [ready(rank) for rank in range(1, count + 1)]):
                if (reason := self.failure()) is not None:
                    raise UserError(reason)
                moved(sum(states))
                time.sleep(0.02)

    def failure(self, within: float = 0.0) -> str | None:
        """Wait at most `within` seconds for a process to fail; return the reason, or None."""
        deadline = time.monotonic() + within
        while True:
            ended = [
                (process.returncode == PEER_LOST, rank)  # sorts PEER_LOST last
                for rank, process in enumerate(self._processes, start=1)
                if process.poll()
            ]
            if ended:
                return self._failure_message(min(ended)[1])
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.02)

    def _failure_message(self, rank: int) -> str:
        process, errors = self._processes[rank - 1], self._errors[rank - 1]
        errors.seek(0)
        lines = errors.read().decode(errors="replace").split("\n")
        log.debug("rank %d: %s", rank, "\n".join(lines))
        said = next((line for line in reversed(lines) if line.strip()), "no reason known")
        if process.returncode < 0:
            said = f"it was killed by {signal.Signals(-process.returncode).name}"
        return escape_line(f"process {rank + 1} of {len(self._processes) + 1} has ended: {said}")

    def _watch(self) -> None:
        """End rank 0 if it stays blocked after a process has failed."""
        while not self._over.wait(0.5):
            found = self.failure()
            if found is not None and not self._over.wait(BLOCKED):
                self._give_up(found)
                tell_now(f"error: {found}")
                os._exit(2)

    def end(self, grace: float) -> None:
        """Wait at most `grace` seconds for the processes to end, then kill the rest."""
        self._over.set()
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
    """Run `WorkerProcesses` while rank 0 trains in the block.

    `task` and `give_up` are for `WorkerProcesses`; this function adds entries to `task`. `device`
    is "cpu" or "cuda".

    Raises:
        UserError: another process has failed.
    """
    store, threads = server(), torch.get_num_threads()
    share = max(1, threads // world_size)
    task |= {"world_size": world_size, "port": store.port, "threads": share, "device": device}
    workers = WorkerProcesses(task, world_size - 1, give_up)
    try:
        workers.wait_until(lambda rank: store.check([f"ready {rank}"]))
        torch.set_num_threads(share)
        with process_group(store, 0, world_size, device):
            try:
                yield
                workers.end(GRACE)
            except Exception as error:
                reason = workers.failure(NOTICE) if lost_connection(error) else None
                if reason is None:
                    raise
                raise UserError(reason) from error
            finally:
                workers.end(0)  # before the group, whose end may wait for them
    finally:
        workers.end(0)
        torch.set_num_threads(threads)
