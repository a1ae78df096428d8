"""Jobs in other processes: begun, watched, reported and stopped."""

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

POLL_SECONDS = 0.5  # between two looks at the jobs
STOP_SECONDS = 5.0  # for jobs that must stop at once
# the first of these that a job has is shown at its end
SHOWN_FIGURES = tuple(
    f"{split}/{kind}perplexity" for split in ("val", "train") for kind in ("", "pseudo_")
)

Batch = list[tuple[int, list[str]]]  # numbers and overrides of jobs that begin together


class JobWatch:
    """Jobs in other processes, begun a few at a time, reported as they end, stopped together.

    Args:
        launcher: Hydra's.
        batches: all jobs; several in one batch only if the launcher is called.
        sweep: the directory of the sweep.
        threads: of each job, a process of this machine; None to call the launcher in a thread,
            while this thread watches the jobs.
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
        self._numbers = {number for batch in batches for number, _ in batch}
        self._earlier = {path: path.stat().st_mtime_ns for path in sweep.glob(f"*/{SUMMARY}")}
        self._ended: set[int] = set()
        self._submitted: set[str] = set()
        self._submitted = self._slurm_names()
        self._processes: dict[ForkServerProcess, int] = {}
        self._calls: list[threading.Event] = []  # set when the call returns

    def run(self, at_a_time: int) -> None:
        """Do the jobs, `at_a_time` batches at once, and report how each ends.

        Raises:
            Interrupted: by Ctrl-C or another signal; all jobs have stopped.
        """
        self._stop.unlink(missing_ok=True)  # left by an earlier process of this number
        with listening() as interruption:
            interruption.patient = True
            try:
                while self._begin_waiting(interruption, at_a_time):
                    self._wait()
                    self._report()
                if not self._drop_ended():
                    self._record_killed()
                self._report()
            except BaseException:
                self._stop_at_once()
                raise
            finally:
                if not self._on_slurm:  # its queue may begin a job later
                    self._stop.unlink(missing_ok=True)
            interruption.raise_if_requested()

    def _begin_waiting(self, interruption: Interruption, at_a_time: int) -> bool:
        """Begin waiting jobs while there is room; return whether any job is working."""
        if interruption.requested is not None and not self._stop.exists():
            self._waiting.clear()
            self._stop.touch()
            names = self._slurm_names() if self._on_slurm else None
            if names:  # without a name, scancel would cancel all jobs of the user
                subprocess.run(["scancel", "--state=PENDING", *sorted(names)], check=False)
        if self._may_vanish and not (self._sweep / SUMMARY).is_file():
            self._waiting.clear()  # the directory is gone, and no job may make it again
        while self._drop_ended() < at_a_time and self._waiting:
            self._begin(self._waiting.popleft())
        in_queue = interruption.requested is not None and self._on_slurm
        return self._drop_ended() > 0 and not (in_queue and not self._running())

    def _drop_ended(self) -> int:
        """Forget ended batches, warn of killed jobs, and return the number of working batches."""
        for process in [*self._processes]:
            # the fork server, which reports the end of a process, may have been killed
            if not process.is_alive() and not is_alive(process.pid or 0):
                number = self._processes.pop(process)
                if (process.exitcode or 0) < 0:
                    self._tell("its process was killed", [number])
        self._calls = [call for call in self._calls if not call.is_set()]
        return len(self._processes) + len(self._calls)

    def _begin(self, batch: Batch) -> None:
        if self._threads is None:
            self._calls.append(threading.Event())
            # a daemon: Slurm's queue may keep jobs waiting after the sweep stops
            call = threading.Thread(target=self._call, args=(batch, self._calls[-1]), daemon=True)
            call.start()
            return
        [(number, overrides)] = batch
        try:
            process = create_job_process(self._launcher, overrides, number, self._threads)
            process.start()
            self._processes[process] = number
        except (OSError, EOFError) as error:  # the fork server is gone or full
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
        """Warn of the jobs that did not begin; a job that began has its reason in summary.json."""
        if self._stop.exists():
            return  # the user knows
        begun = self._ended | self._summaries().keys()
        for number in [number for number in numbers if number not in begun]:
            written = self._sweep / ".submitit"
            where = f"; what its process has written is in {written}" if written.is_dir() else ""
            log.warning("job %d did not begin: %s%s", number, why[:200], where)

    def _wait_for_slurm(self) -> None:
        """Wait for all jobs: the launcher gives up at the first killed job."""
        from submitit import SlurmJob  # noqa: PLC0415  an extra

        folder = self._sweep / ".submitit"
        jobs: list[Any] = [SlurmJob(folder / "%j", name) for name in self._slurm_names()]
        while not all(job.done() for job in jobs):
            time.sleep(POLL_SECONDS)

    def _slurm_names(self) -> set[str]:
        """Slurm's names of the jobs submitted since the launch."""
        submitted = (self._sweep / ".submitit").glob("*/*_submitted.pkl")
        return {path.parent.name for path in submitted} - self._submitted

    def _summaries(self) -> dict[int, tuple[Path, RunSummary]]:
        """Directories and summaries of the jobs that began since the launch, without ended jobs."""
        found = {}
        looked_for = self._numbers - self._ended
        for path in self._sweep.glob(f"*/{SUMMARY}"):
            number = number_of(path.parent)
            if number in looked_for:
                with suppress(OSError, UserError):  # it is gone or damaged
                    if path.stat().st_mtime_ns != self._earlier.get(path):
                        found[number] = (path.parent, RunSummary.read(path.parent))
        return found

    def _running(self) -> list[int]:
        """Process numbers of the running jobs; 0 for a job on another machine."""
        here = socket.gethostname()
        running = [each for _, each in self._summaries().values() if each.status == "running"]
        return [each.process if each.host == here else 0 for each in running]

    def _record_killed(self) -> None:
        """Record jobs on other machines as killed if no process works on them."""
        for directory, _ in self._summaries().values():
            # the job is gone, damaged or still works
            with suppress(OSError, UserError), claimed(directory):
                summary = RunSummary.read(directory)
                if summary.status == "running":
                    summary.status = "killed"
                    summary.write(directory)

    def _report(self) -> None:
        """Show the jobs that ended since the last look."""
        for number, (directory, summary) in sorted(self._summaries().items()):
            if summary.status == "running":
                continue
            self._ended.add(number)
            figures = [(name, summary.metrics.get(name)) for name in SHOWN_FIGURES]
            shown = next((f", {name} {rounded(value)}" for name, value in figures if value), "")
            why = f": {summary.reason}" if summary.reason else ""
            done = f"{len(self._ended)} of {len(self._numbers)}"
            show(f"job {directory.name} {summary.status}{shown}{why} ({done})")

    def _stop_at_once(self) -> None:
        try:
            self._signal(signal.SIGTERM)
        finally:  # also after another signal
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Send a signal to all jobs of this machine, and wait for their end."""
        for process in {*self._running(), *(each.pid for each in self._processes)} - {0, None}:
            with suppress(OSError):  # it has just ended
                os.kill(process or 0, number)
        end = time.monotonic() + STOP_SECONDS
        while self._drop_ended() and time.monotonic() < end:
            self._wait()

    def _wait(self) -> None:
        wait([each.sentinel for each in self._processes if each.is_alive()], POLL_SECONDS)
