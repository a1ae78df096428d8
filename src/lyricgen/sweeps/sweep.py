"""Record of a sweep: its directory, its jobs and their ends."""

import gc
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from lyricgen.cli.typed_arguments import drop_resume
from lyricgen.cli.typed_values import quote_texts, quote_value
from lyricgen.console import show
from lyricgen.errors import UserError, reason
from lyricgen.files import remove_torn, write_atomically
from lyricgen.runs.directories import (
    BEST,
    MULTIRUN,
    SUMMARY,
    check_there,
    directory_taken,
    has_checkpoint,
    make_directory,
    read_number,
    resume_command,
)
from lyricgen.runs.interruption import Interrupted, raise_if_requested
from lyricgen.runs.summary import RunSummary, SweepSummary
from lyricgen.settings import flatten, is_plumbing

log = logging.getLogger(__name__)

EPOCHS = "trainer.max_epochs"
DONE = ("finished", "pruned")  # statuses of jobs that need no more work
FAILED = ("failed", "killed")  # statuses of jobs that stop a sweep with fail_fast
LISTED = 8  # largest number of unfinished jobs in one line


@dataclass(frozen=True)
class Job:
    """A run of a sweep.

    Attributes:
        number: number of the job, which stays the same when the sweep is resumed with other jobs.
        overrides: overrides of the job, including overrides that all jobs share.
        name: name of the job's directory.
        begun: whether the job has a summary.json.
        done: whether the job needs no more work.
    """

    number: int
    overrides: list[str]
    name: str
    begun: bool = False
    done: bool = False


def jobs_in(directory: Path) -> dict[int, tuple[Path, RunSummary]]:
    """Read the jobs of a sweep that have begun.

    Returns:
        The directory and the summary of each job, by its number, in the order of the numbers. A
        damaged summary has the status `unknown`.

    Raises:
        OSError: the directory cannot be read.
    """
    numbered = [(read_number(path), path) for path in directory.iterdir() if path.is_dir()]
    found = {}
    for number, path in sorted((number, path) for number, path in numbered if number is not None):
        summary = RunSummary.read_earlier(path)
        if summary is not None:
            found[number] = path, summary
    return found


def describe_end(directory: Path, summary: RunSummary, figure: str = "") -> str:
    """Describe the end of a job by its name, status, figure and reason."""
    why = f": {summary.reason}" if summary.reason else ""
    return f"job {directory.name} {summary.status}{figure}{why}"


def find_failure(sweep: Path, number: int) -> str | None:
    """Describe the end of a job that has failed; None for another end."""
    for directory in sweep.glob(f"{number}_*"):
        summary = RunSummary.read_earlier(directory)
        if summary is not None and summary.status in FAILED:
            return describe_end(directory, summary)
    return None


class Arguments(NamedTuple):
    """Arguments of a sweep, without `resume=`.

    Attributes:
        typed: overrides of the command line.
        overrides: overrides for the sweeper's parameters, then the typed overrides.
        resume: whether the command line contained `resume=`.
    """

    typed: list[str]
    overrides: list[str]
    resume: bool


def read_arguments(arguments: list[str], params: dict[str, Any]) -> Arguments:
    """Read the arguments of a sweep.

    Args:
        arguments: overrides of the command line.
        params: values of the sweeper's parameters, by key.

    Raises:
        UserError: the value of a parameter is ambiguous or cannot be read.
    """
    typed = drop_resume(arguments)
    own = quote_texts([f"{name}={value}" for name, value in params.items()], multirun=True)
    return Arguments(typed, [*own, *typed], typed != arguments)


def refuse_fewer_epochs(epochs: int, earlier: Any, earlier_jobs: str, advice: str) -> None:
    """Refuse fewer epochs than earlier jobs had, if the earlier number is known.

    Args:
        epochs: number of epochs of the next jobs.
        earlier: number of epochs of the earlier jobs; a value that is not an int counts as unknown.
        earlier_jobs: subject and verb for the message, such as "job 3 has trained for".
        advice: end of the message.

    Raises:
        UserError: `epochs` is smaller than `earlier`.
    """
    if isinstance(earlier, int) and epochs < earlier:
        raise UserError(f"{EPOCHS}={epochs}: {earlier_jobs} {earlier} epochs: {advice}")


class UnfinishedJobsError(Exception):
    """Error whose message names the unfinished jobs of a sweep, or the job that has stopped it."""


def stopped_by(failure: str) -> UnfinishedJobsError:
    """Make the error of a sweep that stops at its first failure, which `failure` describes."""
    return UnfinishedJobsError(f"{failure} (hydra.sweeper.fail_fast=true stops the sweep)")


class Sweep:
    """Directory of a sweep with its summary.json, which holds the jobs and the sweep's status.

    A missing directory is created.

    Args:
        directory: directory of the sweep.
        overrides: overrides that the user typed.
        resume: whether an earlier sweep in the directory may be continued.

    Raises:
        UserError: the directory holds a sweep, and `resume` is false.
        OSError: the directory cannot be made.
    """

    def __init__(self, directory: Path, overrides: Sequence[str], *, resume: bool) -> None:
        make_directory(directory)
        self.directory = directory.resolve()
        self._start = time.perf_counter()
        self._recorded = False  # whether this process has written summary.json
        earlier = SweepSummary.read_earlier(self.directory)
        if earlier is not None and not resume:
            raise directory_taken(directory, "sweep")
        self.summary = SweepSummary(
            status="running",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            process=os.getpid(),
            host=socket.gethostname(),
            command=shlex.join(["python", "-m", "lyricgen.train", *sys.argv[1:]]),
            overrides=list(overrides),
            jobs={},
        )
        if earlier is not None:
            self.summary.started = earlier.started or self.summary.started
            self.summary.command = earlier.command or self.summary.command
            self.summary.wall_seconds = earlier.wall_seconds or 0.0
            self._start -= self.summary.wall_seconds

    def begin(self, composed: str, jobs: Iterable[Job]) -> None:
        """Record the sweep's composed configuration, as YAML, and its jobs.

        Raises:
            OSError: the record cannot be written.
        """
        remove_torn(self.directory)
        write_atomically(self.directory / MULTIRUN, composed)
        self.add(jobs)

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs to summary.json.

        Raises:
            OSError: the file cannot be written.
        """
        self.summary.jobs |= {str(job.number): job.overrides for job in jobs}
        self._write()

    def arguments(self, job: Job) -> list[str]:
        """Return all overrides that a launcher needs for a job, including its directory."""
        directory = str(self.directory)
        settings = {"hydra.sweep.dir": directory, "hydra.sweep.subdir": job.name}
        if job.begun:
            settings["resume"] = f"{directory}/{job.name}"
        return [
            *job.overrides,
            *(f"{name}={quote_value(value)}" for name, value in settings.items()),
        ]

    @contextmanager
    def conclusion(self) -> Iterator[None]:
        """Record the end of the sweep and write its report after the block, which runs the jobs.

        An error of the block is raised again; if the sweep has begun, the error is also recorded.

        Raises:
            UnfinishedJobsError: some jobs are unfinished.
            UserError: the end cannot be recorded.
            Interrupted: a signal came in the block or during the report.
        """
        try:
            yield
            raise_if_requested()
            check_there(self.directory)
            left = self.unfinished_jobs()
            self._end("failed" if left else "finished")
            gc.disable()  # imports leave no garbage; looking for it takes time
            try:
                from lyricgen.reporting.sweep_report import report_sweep  # noqa: PLC0415  heavy
            finally:
                gc.enable()
            try:
                self._join_seeds()
            finally:  # Ctrl-C ends the fit of the ensemble, and the jobs are done
                report_sweep(self.directory)
            raise_if_requested()
        except BaseException as error:
            if not self._recorded:
                raise
            stopped = isinstance(error, KeyboardInterrupt | Interrupted)
            if not stopped:
                by_job = isinstance(error, UnfinishedJobsError)
                self.summary.reason = str(error) if by_job else reason(error)
            try:
                self._end("interrupted" if stopped else "failed")
            except UserError as unwritten:  # must not hide the error that stopped the sweep
                log.warning("%s", unwritten)
            show(f"to go on with the sweep: {resume_command(self.directory)}")
            raise
        if left:
            number = len(self.summary.jobs)
            more = f"; and {len(left) - LISTED} more" if len(left) > LISTED else ""
            raise UnfinishedJobsError(
                f"{len(left)} of {number} jobs did not finish: {'; '.join(left[:LISTED])}{more}; "
                f"to try these again: {resume_command(self.directory)}"
            )

    def _join_seeds(self) -> None:
        """Score all jobs as one model, if they have finished and differ only in their seeds.

        An error becomes a warning.
        """
        there = jobs_in(self.directory).values()
        learnt = [
            {
                name: value
                for name, value in flatten(one.options or {}).items()
                if name != "seed" and not is_plumbing(name)
            }
            for _, one in there
        ]
        if not (
            1 < len(there) == len(self.summary.jobs)
            and all(one.status == "finished" for _, one in there)
            and all(has_checkpoint(path, (BEST,)) for path, _ in there)
            and all(each == learnt[0] for each in learnt)
            and learnt[0]["objective"] == "next"
            and learnt[0].get("memory", "none") == "none"
        ):
            return
        try:
            from lyricgen.evaluation.ensembles import score_together  # noqa: PLC0415  heavy

            found = score_together(dict(there))
            if found.metrics:
                self.summary.ensemble = found
                self._write()
        except Exception as error:  # the sweep itself is done
            log.warning("no ensemble of the jobs: %s", reason(error))
            log.debug("no ensemble", exc_info=True)

    def unfinished_jobs(self) -> list[str]:
        """Describe the jobs that are not done, with their statuses and reasons."""
        there = jobs_in(self.directory)
        left = []
        for number, overrides in self.summary.jobs.items():
            if int(number) not in there:
                left.append(f"{number} {' '.join(overrides)} (not begun)")
                continue
            directory, summary = there[int(number)]
            if summary.status not in DONE:
                why = f": {summary.reason}" if summary.reason else ""
                left.append(f"{directory.name} ({summary.status}{why})")
        return left

    def _end(self, status: str) -> None:
        self.summary.status = status
        self.summary.wall_seconds = round(time.perf_counter() - self._start, 3)
        try:
            self._write()
        except OSError as error:
            raise UserError(
                f"{str(self.directory / SUMMARY)!r} cannot be written ({error.strerror}): mend "
                f"that, then go on by {resume_command(self.directory)}"
            ) from error

    def _write(self) -> None:
        self.summary.write(self.directory)
        self._recorded = True
