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
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from lyricgen.console import rounded, show
from lyricgen.errors import UserError, reason
from lyricgen.runs.directories import SUMMARY, claimed, is_alive, number_of
from lyricgen.runs.interruption import Interruption, listening, terminal_signals_blocked
from lyricgen.runs.summary import RunSummary
from lyricgen.sweeps.job import create_job_process, process_name, stop_file

log = logging.getLogger(__name__)

TICK = 0.5  # seconds between two looks at the jobs
FIGURES = tuple(
    f"{split}/{kind}perplexity" for split in ("val", "train") for kind in ("", "pseudo_")
)
PATIENCE = 5.0  # seconds for jobs that are to stop at once

Batch = list[tuple[int, list[str]]]  # numbers and overrides of the jobs that are begun together


class JobWatch:
    """Jobs in other processes, begun a few at a time, reported as they end, stopped together.

    Args:
        launcher: Hydra's.
        batches: all jobs; several in one batch only for a launcher that is called.
        sweep: the directory of the sweep.
        threads: that each job may use, where each is a process of this machine; None to call the
            launcher, in a thread so that this one can watch and stop the jobs.
    """

    def __init__(
        self, launcher: Any, batches: Sequence[Batch], sweep: Path, threads: int | None = None
    ) -> None:
        self._launcher = launcher
        self._waiting = deque(batches)
        self._sweep = sweep
        self._threads = threads
        self._on_slurm = type(launcher).__name__ == "SlurmLauncher"
        self._stop = stop_file(sweep, process_name())
        self._may_vanish = (sweep / SUMMARY).is_file()
        self._wanted = {number for batch in batches for number, _ in batch}
        self._earlier = {path: path.stat().st_mtime_ns for path in sweep.glob(f"*/{SUMMARY}")}
        self._ended: set[int] = set()
        self._submitted: set[str] = set()
        self._submitted = self._slurm_names()
        self._processes: dict[ForkServerProcess, int] = {}
        self._calls: list[threading.Event] = []  # each is set once its call has returned

    def run(self, at_a_time: int) -> None:
        """Do the jobs, `at_a_time` batches at once, and report how each ends.

        Raises:
            Interrupted: by Ctrl-C or another signal; all jobs have stopped.
        """
        self._stop.unlink(missing_ok=True)  # of an earlier process of this number
        with listening() as interruption:
            interruption.patient = True
            try:
                while self._goes_on(interruption, at_a_time):
                    wait([each.sentinel for each in self._processes if each.is_alive()], TICK)
                    self._report()
                if not self._working:
                    self._record_killed()
                self._report()
            except BaseException:
                self._stop_at_once()
                raise
            finally:
                if not self._on_slurm:  # which may yet begin a job
                    self._stop.unlink(missing_ok=True)
            interruption.raise_if_requested()

    def _goes_on(self, interruption: Interruption, at_a_time: int) -> bool:
        """Begin jobs while there is room; whether any is still under way."""
        if interruption.requested is not None and not self._stop.exists():
            self._waiting.clear()
            self._stop.touch()
            self._cancel_waiting()
        if self._may_vanish and not (self._sweep / SUMMARY).is_file():
            self._waiting.clear()  # the directory is gone, and no job is to make it again
        while self._working < at_a_time and self._waiting:
            self._begin(self._waiting.popleft())
        in_queue = interruption.requested is not None and self._on_slurm
        return self._working > 0 and not (in_queue and not self._running())

    @property
    def _working(self) -> int:
        """How many batches are under way."""
        for process in [*self._processes]:
            # the fork server, which tells of its end, may have been killed itself
            if not process.is_alive() and not is_alive(process.pid or 0):
                number = self._processes.pop(process)
                if (process.exitcode or 0) < 0:
                    self._tell("its process was killed", [number])
        self._calls = [call for call in self._calls if not call.is_set()]
        return len(self._processes) + len(self._calls)

    def _begin(self, batch: Batch) -> None:
        if self._threads is None:
            self._calls.append(threading.Event())
            # a daemon: Slurm's queue may keep jobs waiting after the sweep was stopped
            call = threading.Thread(target=self._call, args=(batch, self._calls[-1]), daemon=True)
            call.start()
            return
        [(number, overrides)] = batch
        try:
            process = create_job_process(self._launcher, overrides, number, self._threads)
            process.start()
            self._processes[process] = number
        except (OSError, EOFError) as error:  # the fork server is gone or full: the others go on
            self._tell(reason(error), [number])

    def _call(self, batch: Batch, over: threading.Event) -> None:
        try:
            with terminal_signals_blocked():
                self._launcher.launch([overrides for _, overrides in batch], batch[0][0])
        except Exception as error:
            if self._on_slurm:
                self._wait_for_slurm()
            self._tell(reason(error), [number for number, _ in batch])
        finally:
            over.set()

    def _tell(self, why: str, numbers: Sequence[int]) -> None:
        """Say which jobs did not begin: what became of the others stands in their summary.json."""
        if self._stop.exists():
            return  # the user knows
        begun = self._ended | self._summaries().keys()
        for number in [number for number in numbers if number not in begun]:
            written = self._sweep / ".submitit"
            where = f"; what its process has written is in {written}" if written.is_dir() else ""
            log.warning("job %d did not begin: %s%s", number, why[:200], where)

    def _cancel_waiting(self) -> None:
        names = self._slurm_names() if self._on_slurm else None
        if names:  # without a name, scancel would take all jobs of the user
            subprocess.run(["scancel", "--state=PENDING", *sorted(names)], check=False)

    def _wait_for_slurm(self) -> None:
        """Wait for all jobs; the launcher has given up at the first one that was killed."""
        from submitit import SlurmJob  # noqa: PLC0415  an extra

        folder = self._sweep / ".submitit"
        jobs: list[Any] = [SlurmJob(folder / "%j", name) for name in self._slurm_names()]
        while not all(job.done() for job in jobs):
            time.sleep(TICK)

    def _slurm_names(self) -> set[str]:
        """Slurm's names of the jobs that were submitted since the launch."""
        submitted = (self._sweep / ".submitit").glob("*/*_submitted.pkl")
        return {path.parent.name for path in submitted} - self._submitted

    def _summaries(self) -> dict[int, tuple[Path, RunSummary]]:
        """Summaries of the jobs that have begun since the launch and not ended."""
        found = {}
        looked_for = self._wanted - self._ended
        for path in self._sweep.glob(f"*/{SUMMARY}"):
            number = number_of(path.parent)
            if number in looked_for:
                with suppress(OSError, UserError):  # it is gone, or damaged and has no end
                    if path.stat().st_mtime_ns != self._earlier.get(path):
                        found[number] = (path.parent, RunSummary.read(path.parent))
        return found

    def _running(self) -> list[int]:
        """The processes of jobs that run on this machine; 0 for one elsewhere."""
        here = socket.gethostname()
        running = [each for _, each in self._summaries().values() if each.status == "running"]
        return [each.process if each.host == here else 0 for each in running]

    def _record_killed(self) -> None:
        """Record that jobs on other machines were killed, if no process works on them any more."""
        for directory, _ in self._summaries().values():
            # gone, damaged, or still at work
            with suppress(OSError, UserError), claimed(directory):
                summary = RunSummary.read(directory)
                if summary.status == "running":
                    summary.status = "killed"
                    summary.write(directory)

    def _report(self) -> None:
        """Show which jobs have ended since the last look, and how."""
        for number, (directory, summary) in sorted(self._summaries().items()):
            if summary.status == "running":
                continue
            self._ended.add(number)
            figures = [(name, summary.metrics.get(name)) for name in FIGURES]
            shown = next((f", {name} {rounded(value)}" for name, value in figures if value), "")
            why = f": {summary.reason}" if summary.reason else ""
            done = f"{len(self._ended)} of {len(self._wanted)}"
            show(f"job {directory.name} {summary.status}{shown}{why} ({done})")

    def _stop_at_once(self) -> None:
        try:
            self._signal(signal.SIGTERM)
        finally:  # also where one more signal has come
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Send a signal to all jobs of this machine, and wait a while for their end."""
        for process in {*self._running(), *(each.pid for each in self._processes)} - {0, None}:
            with suppress(OSError):  # it has just ended
                os.kill(process or 0, number)
        end = time.monotonic() + PATIENCE
        while self._working and time.monotonic() < end:
            wait([each.sentinel for each in self._processes if each.is_alive()], TICK)
