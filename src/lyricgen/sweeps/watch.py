"""Start, supervision and stop of jobs in other processes."""

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from typing_extensions import override

from lyricgen.console import format_figure, show
from lyricgen.errors import UserError, reason
from lyricgen.runs.directories import SUBMITTED, SUMMARY, claim_directory, is_alive, read_number
from lyricgen.runs.interruption import handle_signals, terminal_signals_blocked
from lyricgen.runs.summary import PREFIXES, RunSummary
from lyricgen.sweeps.job import create_job_process, process_name, stop_file
from lyricgen.sweeps.sweep import FAILED, describe_end, stopped_by

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # between two looks at the jobs
STOP_SECONDS = 5.0  # time for jobs to end after SIGTERM, and again after SIGKILL
# the end of a job is shown with the first of these figures that the job has
SHOWN_FIGURES = tuple(
    f"{split}/{kind}perplexity" for split in ("val", "train") for kind in ("", *PREFIXES)
)

Jobs = list[tuple[int, list[str]]]  # number and overrides of each job


class JobWatch(ABC):
    """Runs jobs in other processes: begins them, reports their ends and stops them.

    Args:
        launcher: launcher of Hydra.
        batches: all jobs; the jobs of a batch begin together.
        sweep: directory of the sweep.
    """

    def __init__(self, launcher: Any, batches: Iterable[Jobs], sweep: Path) -> None:
        self._launcher = launcher
        self._waiting = deque(batches)
        self._sweep = sweep
        self._stop = stop_file(sweep, process_name())
        self._had_summary = (sweep / SUMMARY).is_file()
        self._numbers = {number for batch in self._waiting for number, _ in batch}
        self._earlier = {path: path.stat().st_mtime_ns for path in sweep.glob(f"*/{SUMMARY}")}
        self._ended: set[int] = set()
        self._fail_fast = False
        self._failures: list[str] = []  # descriptions of failed jobs

    def run(self, at_a_time: int, *, fail_fast: bool = False) -> None:
        """Run the jobs, `at_a_time` batches at once, and report the end of each job.

        Raises:
            Interrupted: Ctrl-C or another signal came; all jobs have stopped.
            UnfinishedJobsError: a job failed, and `fail_fast` is true; all jobs have stopped.
        """
        self._fail_fast = fail_fast
        self._stop.unlink(missing_ok=True)  # left by an earlier process of this name
        with handle_signals() as interruption:
            interruption.patient = True
            try:
                while True:
                    stopping = interruption.requested is not None or self._fails()
                    if stopping and not self._stop.exists():
                        self._ask_to_stop()
                    self._forget_waiting_if_vanished()
                    self._begin_waiting(at_a_time)
                    if not self._is_working(stopping=stopping):
                        break
                    self._wait()
                    self._report()
                if not self._drop_ended():
                    self._record_killed()
                self._report()
            except BaseException:
                self._stop_at_once()
                raise
            finally:
                self._remove_stop_file()
            interruption.raise_if_requested()
        if self._fails():
            raise stopped_by(self._failures[0])

    @abstractmethod
    def _begin(self, batch: Jobs) -> None:
        """Begin the jobs of a batch."""

    @abstractmethod
    def _drop_ended(self) -> int:
        """Forget the ended batches, and return the number of batches that still work."""

    def _fails(self) -> bool:
        """Whether a failed job stops the others."""
        return self._fail_fast and bool(self._failures)

    def _ask_to_stop(self) -> None:
        """Forget the waiting jobs, and ask the running jobs to stop."""
        self._waiting.clear()
        self._stop.touch()

    def _forget_waiting_if_vanished(self) -> None:
        """Forget the waiting jobs if the sweep's directory is gone; no job may create it again."""
        if self._had_summary and not (self._sweep / SUMMARY).is_file():
            self._waiting.clear()

    def _begin_waiting(self, at_a_time: int) -> None:
        """Begin further batches, so that `at_a_time` batches are at work."""
        while self._drop_ended() < at_a_time and self._waiting:
            if self._fail_fast:
                self._report()  # the batch that has just ended may have failed
            if self._fails():
                break
            self._begin(self._waiting.popleft())

    def _is_working(self, *, stopping: bool) -> bool:
        """Whether a batch still works; `stopping` is true if the jobs were asked to stop."""
        del stopping
        return self._drop_ended() > 0

    def _wait(self) -> None:
        """Wait until it is time for another look at the jobs."""
        time.sleep(POLL_SECONDS)

    def _remove_stop_file(self) -> None:
        """Remove the file that asks the jobs to stop."""
        self._stop.unlink(missing_ok=True)

    def _warn(self, why: str, numbers: Sequence[int]) -> None:
        """Warn of the jobs in `numbers` that did not begin, unless the sweep is stopping.

        `why` is the reason.
        """
        if self._stop.exists():
            return  # the user knows
        begun = self._ended | self._summaries().keys()
        for number in [number for number in numbers if number not in begun]:
            written = self._sweep / SUBMITTED
            where = f"; what its process has written is in {written}" if written.is_dir() else ""
            self._failures.append(f"job {number} did not begin: {why[:200]}")
            log.warning("%s%s", self._failures[-1], where)

    def _summaries(self) -> dict[int, tuple[Path, RunSummary]]:
        """Read the new summaries of the jobs whose ends were not reported yet.

        Returns:
            The directory and the summary of each job, by its number, without damaged summaries.
        """
        found = {}
        looked_for = self._numbers - self._ended
        for path in self._sweep.glob(f"*/{SUMMARY}"):
            number = read_number(path.parent)
            if number in looked_for:
                with suppress(OSError, UserError):  # the file is gone or damaged
                    if path.stat().st_mtime_ns != self._earlier.get(path):
                        found[number] = (path.parent, RunSummary.read(path.parent))
        return found

    def _running(self) -> list[RunSummary]:
        """Read the summaries of the running jobs."""
        return [each for _, each in self._summaries().values() if each.status == "running"]

    def _pids(self) -> set[int]:
        """Find the processes of the running jobs on this machine."""
        here = socket.gethostname()
        return {each.process for each in self._running() if each.host == here and each.process}

    def _record_killed(self) -> None:
        """Mark running jobs as killed if no process works on them."""
        for directory, _ in self._summaries().values():
            # the summary is gone or damaged, or the job still works
            with suppress(OSError, UserError), claim_directory(directory):
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
            shown = next(
                (f", {name} {format_figure(value)}" for name, value in figures if value), ""
            )
            done = f"{len(self._ended)} of {len(self._numbers)}"
            show(f"{describe_end(directory, summary, shown)} ({done})")
            if summary.status in FAILED:
                self._failures.append(describe_end(directory, summary))

    def _stop_at_once(self) -> None:
        """End the jobs on this machine by SIGTERM, and by SIGKILL if they go on."""
        try:
            self._signal(signal.SIGTERM)
        finally:  # also after another signal
            self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        """Send a signal to all jobs on this machine; wait up to `STOP_SECONDS` for their ends."""
        for pid in self._pids():
            with suppress(OSError):  # the job has just ended
                os.kill(pid, signum)
        end = time.monotonic() + STOP_SECONDS
        while self._drop_ended() and time.monotonic() < end:
            self._wait()


class ProcessWatch(JobWatch):
    """Runs each job in a process that this machine's fork server starts.

    Args:
        launcher: launcher of Hydra.
        jobs: number and overrides of each job.
        sweep: directory of the sweep.
        threads: number of threads of each job.
    """

    def __init__(self, launcher: Any, jobs: Jobs, sweep: Path, threads: int) -> None:
        super().__init__(launcher, [[job] for job in jobs], sweep)
        self._threads = threads
        self._processes: dict[ForkServerProcess, int] = {}  # with the numbers of their jobs

    @override
    def _begin(self, batch: Jobs) -> None:
        [(number, overrides)] = batch
        try:
            process = create_job_process(self._launcher, overrides, number, self._threads)
            process.start()
            self._processes[process] = number
        except (OSError, EOFError) as error:  # the fork server is gone or full
            self._warn(reason(error), [number])

    @override
    def _drop_ended(self) -> int:
        for process in [*self._processes]:
            # the fork server, which reports the end of a process, may have been killed
            if not process.is_alive() and not is_alive(process.pid or 0):
                number = self._processes.pop(process)
                if (process.exitcode or 0) < 0:
                    self._warn("its process was killed", [number])
                elif process.exitcode:  # the process has said why
                    self._failures.append(f"job {number} did not begin")
        return len(self._processes)

    @override
    def _wait(self) -> None:
        wait([each.sentinel for each in self._processes if each.is_alive()], POLL_SECONDS)

    @override
    def _pids(self) -> set[int]:
        return super()._pids() | {each.pid for each in self._processes if each.pid}


class LauncherWatch(JobWatch):
    """Runs jobs by a launcher, which is called in a thread for each batch."""

    def __init__(self, launcher: Any, batches: Iterable[Jobs], sweep: Path) -> None:
        super().__init__(launcher, batches, sweep)
        self._calls: list[threading.Event] = []  # each is set when its call returns

    @override
    def _begin(self, batch: Jobs) -> None:
        over = threading.Event()
        self._calls.append(over)
        # a daemon, since jobs may wait in Slurm's queue after the sweep stops
        threading.Thread(target=self._call_and_warn, args=(batch, over), daemon=True).start()

    @override
    def _drop_ended(self) -> int:
        self._calls = [call for call in self._calls if not call.is_set()]
        return len(self._calls)

    def _call_and_warn(self, batch: Jobs, over: threading.Event) -> None:
        """Call the launcher, warn of its error, and set `over` at the end."""
        try:
            self._call(batch)
        except Exception as error:
            self._warn(reason(error), [number for number, _ in batch])
        finally:
            over.set()

    def _call(self, batch: Jobs) -> None:
        """Let the launcher run the jobs of a batch."""
        with terminal_signals_blocked():
            self._launcher.launch([overrides for _, overrides in batch], batch[0][0])


class SlurmWatch(LauncherWatch):
    """Runs jobs that submitit puts into Slurm's queue, which may begin a job late."""

    def __init__(self, launcher: Any, batches: Iterable[Jobs], sweep: Path) -> None:
        super().__init__(launcher, batches, sweep)
        self._earlier_ids = self._all_ids()

    @override
    def _ask_to_stop(self) -> None:
        super()._ask_to_stop()
        ids = self._ids()
        if ids:  # without an id, scancel would cancel all jobs of the user
            subprocess.run(["scancel", "--state=PENDING", *sorted(ids)], check=False)

    @override
    def _is_working(self, *, stopping: bool) -> bool:
        # the launcher's call does not return while jobs wait in the queue
        return super()._is_working(stopping=stopping) and not (stopping and not self._running())

    @override
    def _remove_stop_file(self) -> None:
        """Keep the file, since the queue may begin a job later."""

    @override
    def _call(self, batch: Jobs) -> None:
        try:
            super()._call(batch)
        except Exception:
            self._wait_for_jobs()  # the launcher gives up at the first killed job
            raise

    def _wait_for_jobs(self) -> None:
        """Wait until all jobs have ended."""
        from submitit import SlurmJob  # noqa: PLC0415  an extra

        folder = self._sweep / SUBMITTED
        jobs: list[Any] = [SlurmJob(folder / "%j", each) for each in self._ids()]
        while not all(job.done() for job in jobs):
            time.sleep(POLL_SECONDS)

    def _ids(self) -> set[str]:
        """Find the Slurm ids of the jobs that were submitted since this watch was created."""
        return self._all_ids() - self._earlier_ids

    def _all_ids(self) -> set[str]:
        """Find the Slurm ids of all jobs that were ever submitted for the sweep."""
        submitted = (self._sweep / SUBMITTED).glob("*/*_submitted.pkl")
        return {path.parent.name for path in submitted}
