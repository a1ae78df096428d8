"""A sweep's record: its directory, the jobs that it is to do, and what came of them."""

import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lyricgen.cli.typed_values import quoted
from lyricgen.console import show
from lyricgen.errors import UserError, reason
from lyricgen.files import remove_torn, write_atomically
from lyricgen.runs.directories import (
    MULTIRUN,
    SUMMARY,
    directory_taken,
    make_directory,
    resume_command,
)
from lyricgen.runs.interruption import Interrupted, raise_if_requested
from lyricgen.runs.summary import SweepSummary
from lyricgen.sweeps.plan import DONE, Job, jobs_in

log = logging.getLogger(__name__)

LISTED = 8  # unfinished jobs in one line


class UnfinishedJobsError(Exception):
    """Some jobs of a sweep have not come to their end; the message names them."""


class Sweep:
    """A sweep's directory and its summary.json, which tells the jobs and how the sweep stands.

    Args:
        directory: of the sweep; it is made.
        overrides: that were typed for all of it.
        resume: go on with the jobs that are there.

    Raises:
        UserError: a sweep is there already, and was not to be resumed.
    """

    def __init__(self, directory: Path, overrides: Sequence[str], *, resume: bool) -> None:
        make_directory(directory)
        self.directory = directory.resolve()
        self._start = time.perf_counter()
        self._recorded = False  # whether summary.json tells what this process does
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
        """Say what the sweep is to do.

        Args:
            composed: what Hydra has composed for the whole sweep, as YAML.
            jobs: all of them.
        """
        remove_torn(self.directory)
        write_atomically(self.directory / MULTIRUN, composed)
        self.add(jobs)

    def add(self, jobs: Iterable[Job]) -> None:
        """Note jobs that the sweep is to do."""
        self.summary.jobs |= {str(job.number): job.overrides for job in jobs}
        self._write()

    def arguments(self, job: Job) -> list[str]:
        """A job's overrides for a launcher, its place among them."""
        place = [
            f"hydra.sweep.dir={quoted(str(self.directory))}",
            f"hydra.sweep.subdir={quoted(job.name)}",
        ]
        if job.begun:
            place.append(f"resume={quoted(str(self.directory / job.name))}")
        return [*job.overrides, *place]

    @contextmanager
    def conclusion(self) -> Iterator[None]:
        """Do the jobs; then say in summary.json how the sweep has ended, and report.

        Raises:
            UnfinishedJobsError: not all jobs have come to their end.
            Interrupted: by a signal, at any time from `begin` to the end of the report.
        """
        try:
            yield
            raise_if_requested()
            left = self.unfinished_jobs()
            self._end("failed" if left else "finished")
            # takes a second
            from lyricgen.reporting.sweep_report import report_sweep  # noqa: PLC0415  heavy

            report_sweep(self.directory)
            raise_if_requested()
        except BaseException as error:
            if not self._recorded:
                raise
            stopped = isinstance(error, KeyboardInterrupt | Interrupted)
            if not stopped:
                self.summary.reason = reason(error)
            try:
                self._end("interrupted" if stopped else "failed")
            except UserError as unwritten:  # which must not hide why the sweep has stopped
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

    def unfinished_jobs(self) -> list[str]:
        """The jobs that are not done, each with its status and the reason for it."""
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
