"""Watching jobs in other processes: what became of each, and how all are stopped."""

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher

from lyricgen.console import rounded, show
from lyricgen.errors import UserError, reason
from lyricgen.runs.interruption import (
    Interrupted,
    Interruption,
    listening,
    terminal_signals_blocked,
)
from lyricgen.runs.listing import SUMMARY, number_of
from lyricgen.runs.lock import claimed
from lyricgen.runs.summary import RunSummary
from lyricgen.sweeps.job_process import stop_file, this_process

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at the jobs
FIGURES = tuple(f"{part}/{kind}perplexity" for part in ("val", "train") for kind in ("", "pseudo_"))
PATIENCE = 5.0  # seconds for jobs that are to stop at once


class JobWatch:
    """Jobs in other processes: launched from threads, so that this one can watch and stop them.

    Args:
        launcher: Hydra's.
        batches: what it is given at a time.
        sweep: the directory of the sweep.
    """

    def __init__(
        self, launcher: Launcher, batches: Sequence[list[tuple[int, list[str]]]], sweep: Path
    ) -> None:
        self._launcher = launcher
        self._batches = deque(batches)
        self._sweep = sweep
        self._stop = stop_file(sweep, this_process())
        self._wanted = {number for batch in batches for number, _ in batch}
        self._begun = {path: path.stat().st_mtime_ns for path in sweep.glob(f"*/{SUMMARY}")}
        self._ended: set[int] = set()
        self._submitted: set[str] = set()
        self._submitted = self._tasks()

    def carry_out(self, at_a_time: int) -> None:
        """Launch the jobs, `at_a_time` batches at once, and report how each ended."""
        self._stop.unlink(missing_ok=True)  # of an earlier process of this number
        # daemons: Slurm's queue may keep them waiting after the sweep was stopped
        over = [threading.Event() for _ in range(at_a_time)]
        threads = [threading.Thread(target=self._work, args=(each,), daemon=True) for each in over]
        with listening() as interruption:
            interruption.patient = True
            try:
                for thread in threads:
                    thread.start()
                while self._goes_on(over, interruption):
                    self._look()
                    self._wait(over, TICK)
                if all(each.is_set() for each in over):
                    self._record_killed()
                self._look()
            except Interrupted:
                self._stop_at_once(over)
                raise
            finally:
                if not self._on_slurm:  # which may yet begin a job
                    self._stop.unlink(missing_ok=True)
            interruption.raise_if_requested()

    def _work(self, over: threading.Event) -> None:
        try:
            with terminal_signals_blocked():
                self._do_batches()
        finally:
            over.set()

    def _do_batches(self) -> None:
        while batch := self._next_batch():
            try:
                self._launcher.launch([overrides for _, overrides in batch], batch[0][0])
            except Exception as error:
                if self._on_slurm:
                    self._wait_for_slurm()
                self._tell(error, [number for number, _ in batch])

    def _next_batch(self) -> list[tuple[int, list[str]]]:
        if not (self._sweep / SUMMARY).is_file():
            return []  # the directory is gone, and no job is to make it again
        try:
            return self._batches.popleft()
        except IndexError:
            return []

    def _tell(self, error: Exception, batch: list[int]) -> None:
        """Say what only the engine knows: the rest stands in the jobs' own summary.json."""
        if self._stop.exists():
            return  # the user knows
        if type(error).__name__ == "TerminatedWorkerError":
            log.warning(
                "a job was killed from outside (for want of memory?), and hydra/launcher=cpus has "
                "lost all its processes with it; hydra/launcher=processes would only lose the one"
            )
            return
        begun = self._ended | self._summaries().keys()
        for number in [number for number in batch if number not in begun]:
            written = self._sweep / ".submitit"
            where = f"; what its process has written is in {written}" if written.is_dir() else ""
            log.warning("job %d did not begin: %s%s", number, reason(error)[:200], where)

    def _goes_on(self, over: list[threading.Event], interruption: Interruption) -> bool:
        if interruption.requested is not None and not self._stop.exists():
            self._batches.clear()
            self._stop.touch()
            self._cancel_waiting()
        alive = not all(each.is_set() for each in over)
        in_queue = interruption.requested is not None and self._on_slurm
        return alive and not (in_queue and not self._running())

    @property
    def _on_slurm(self) -> bool:
        return type(self._launcher).__name__ == "SlurmLauncher"

    def _cancel_waiting(self) -> None:
        tasks = self._tasks() if self._on_slurm else None
        if tasks:  # without a name, scancel would take all jobs of the user
            subprocess.run(["scancel", "--state=PENDING", *sorted(tasks)], check=False)

    def _wait_for_slurm(self) -> None:
        """The launcher has given up at the first job that was killed; the others go on."""
        from submitit import SlurmJob  # noqa: PLC0415  an extra

        folder = self._sweep / ".submitit"
        jobs: list[Any] = [SlurmJob(folder / "%j", name) for name in self._tasks()]
        while not all(job.done() for job in jobs):
            time.sleep(TICK)

    def _tasks(self) -> set[str]:
        """Slurm's names of the jobs that were submitted since the launch."""
        submitted = (self._sweep / ".submitit").glob("*/*_submitted.pkl")
        return {path.parent.name for path in submitted} - self._submitted

    @staticmethod
    def _wait(over: list[threading.Event], seconds: float) -> None:
        # not by join: a signal that raises in it makes Python take the thread for ended
        end = time.monotonic() + seconds
        for each in over:
            each.wait(max(0.0, end - time.monotonic()))

    def _summaries(self) -> dict[int, tuple[Path, RunSummary]]:
        """Summaries of the jobs that have begun since the launch."""
        found = {}
        looked_for = self._wanted - self._ended
        for path in self._sweep.glob(f"*/{SUMMARY}"):
            number = number_of(path.parent)
            if number in looked_for:
                with suppress(OSError, UserError):  # it is gone, or damaged and has no end
                    if path.stat().st_mtime_ns != self._begun.get(path):
                        found[number] = (path.parent, RunSummary.read(path.parent))
        return found

    def _running(self) -> list[int]:
        """The processes of jobs that run on this machine; 0 for one elsewhere."""
        here = socket.gethostname()
        running = [each for _, each in self._summaries().values() if each.status == "running"]
        return [each.process if each.host == here else 0 for each in running]

    def _record_killed(self) -> None:
        """Say it for jobs on other machines that no process works on any more."""
        for directory, _ in self._summaries().values():
            # gone, damaged, or still at work
            with suppress(OSError, UserError), claimed(directory):
                summary = RunSummary.read(directory)
                if summary.status == "running":
                    summary.status = "killed"
                    summary.write(directory)

    def _look(self) -> None:
        """Say which jobs have ended since the last look, and how."""
        for number, (directory, summary) in sorted(self._summaries().items()):
            if summary.status == "running":
                continue
            self._ended.add(number)
            figures = [(name, summary.metrics.get(name)) for name in FIGURES]
            told = next((f", {name} {rounded(value)}" for name, value in figures if value), "")
            why = f": {summary.reason}" if summary.reason else ""
            done = f"{len(self._ended)} of {len(self._wanted)}"
            show(f"job {directory.name} {summary.status}{told}{why} ({done})")

    def _stop_at_once(self, over: list[threading.Event]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in filter(None, self._running()):
                with suppress(OSError):  # it has just ended
                    os.kill(process, number)
            self._wait(over, PATIENCE)
