"""A sweep's directory: the jobs that it is to do, and what came of them."""

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
from typing import Any

from lyricgen.console import show
from lyricgen.errors import UserError, reason
from lyricgen.files import remove_torn, to_json, write_atomically
from lyricgen.interruption import Interrupted
from lyricgen.resume import all_of, identity
from lyricgen.resume_arguments import MULTIRUN, quoted
from lyricgen.runs import SUMMARY, earlier_summary, job_directory, number_of, resume_command
from lyricgen.settings import key

log = logging.getLogger(__name__)

TOLD = 8  # unfinished jobs in one line
DONE = ("finished", "pruned")  # statuses of jobs that need no more work


class UnfinishedJobsError(Exception):
    """Some jobs of a sweep have not come to their end; the message names them."""


@dataclass(frozen=True)
class Wanted:
    """What is known of a job before it has a number.

    Attributes:
        overrides: of its own; those that all jobs share among them.
        name: the part of its directory's name that tells what is its own.
        values: its whole configuration, plain and not yet checked, by which it is recognised.
    """

    overrides: list[str]
    name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A run that a sweep is to do.

    Attributes:
        number: its own for ever, also where the sweep is resumed with other jobs.
        overrides: as of `Wanted`.
        name: of its directory.
        begun: it is there already.
        done: and is finished.
    """

    number: int
    overrides: list[str]
    name: str
    begun: bool = False
    done: bool = False


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
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self._start = time.perf_counter()
        earlier = earlier_summary(self.directory)
        if earlier is not None and not resume:
            raise UserError(
                f"{str(directory)!r} holds a sweep already: leave hydra.sweep.dir out, name "
                f"another directory, or go on with it by resume={shlex.quote(str(directory))}"
            )
        self.summary: dict[str, Any] = {
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "process": os.getpid(),
            "host": socket.gethostname(),
            "command": shlex.join(["python", "-m", "lyricgen.train", *sys.argv[1:]]),
            "overrides": list(overrides),
            "jobs": {},
        }
        if earlier:
            self.summary |= {
                name: earlier[name] for name in ("started", "command") if name in earlier
            }
            self.summary["wall_seconds"] = earlier.get("wall_seconds", 0.0)

    def plan(self, wanted: Sequence[Wanted]) -> list[Job]:
        """Give every job its number and directory: those of before, where it was there before.

        Raises:
            UserError: a finished job is asked for fewer epochs than it has.
        """
        there = self._there()
        values = [_settled(one.values) if there else one.values for one in wanted]
        found = _paired(values, [summary.get("options") or {} for _, summary in there])
        following = 1 + max((number_of(path) or 0 for path, _ in there), default=-1)
        jobs = []
        for index, one in enumerate(wanted):
            if index in found:
                directory, summary = there[found[index]]
                same = all_of(summary.get("options") or {}) == all_of(values[index])
                done = summary.get("status") in DONE and same
                _refuse_fewer_epochs(directory, summary, values[index])
                number = number_of(directory) or 0
                jobs.append(Job(number, one.overrides, directory.name, begun=True, done=done))
            else:
                name = job_directory(following, one.name)
                jobs.append(Job(following, one.overrides, name))
                following += 1
        return sorted(jobs, key=lambda job: job.number)

    def _there(self) -> list[tuple[Path, dict[str, Any]]]:
        """The jobs that have begun, in the order of their numbers, each with its summary."""
        found = [path.parent for path in self.directory.glob(f"*/{SUMMARY}")]
        numbered = [(number, path) for path in found if (number := number_of(path)) is not None]
        return [(path, earlier_summary(path) or {}) for _, path in sorted(numbered)]

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
        self.summary["jobs"] |= {str(job.number): job.overrides for job in jobs}
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
    def concluded(self) -> Iterator[None]:
        """Do the jobs; then say in summary.json how the sweep has ended, and report.

        Raises:
            UnfinishedJobsError: not all jobs have come to their end.
        """
        try:
            yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | Interrupted):
                self._end("interrupted")
            else:
                self.summary["reason"] = reason(error)
                self._end("failed")
            show(f"to go on with the sweep: {resume_command(self.directory)}")
            raise
        left = self.left()
        self._end("failed" if left else "finished")
        from lyricgen.reporting.sweep_report import report_sweep  # noqa: PLC0415  takes a second

        report_sweep(self.directory)
        if left:
            number = len(self.summary["jobs"])
            more = f"; and {len(left) - TOLD} more" if len(left) > TOLD else ""
            raise UnfinishedJobsError(
                f"{len(left)} of {number} jobs did not finish: {'; '.join(left[:TOLD])}{more}; to "
                f"try these again: {resume_command(self.directory)}"
            )

    def left(self) -> list[str]:
        """The jobs that are not done, each with its status and the reason for it."""
        there = {number_of(path): (path, summary) for path, summary in self._there()}
        left = []
        for number, overrides in self.summary["jobs"].items():
            if int(number) not in there:
                left.append(f"{number} {' '.join(overrides)} (not begun)")
                continue
            directory, summary = there[int(number)]
            if summary.get("status") not in DONE:
                why = f": {summary['reason']}" if summary.get("reason") else ""
                left.append(f"{directory.name} ({summary.get('status')}{why})")
        return left

    def _end(self, status: str) -> None:
        seconds = time.perf_counter() - self._start + self.summary.get("wall_seconds", 0.0)
        self.summary |= {"status": status, "wall_seconds": round(seconds, 3)}
        self._write()

    def _write(self) -> None:
        write_atomically(self.directory / SUMMARY, to_json(self.summary))


def _settled(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a run's summary.json has it; one that is refused as it was typed."""
    from lyricgen.config import parse  # noqa: PLC0415  takes seconds, for a sweep that goes on

    try:
        return parse(values).model_dump(mode="json")
    except UserError:
        return values


def _paired(wanted: Sequence[dict[str, Any]], there: Sequence[dict[str, Any]]) -> dict[int, int]:
    """Which configurations are those of which runs, by their indices.

    First those that are the same in all; then those that a run may go on with, so that of jobs
    which differ in nothing but their epochs, say, each finds its own.
    """
    found: dict[int, int] = {}
    for told in (all_of, identity):
        left: dict[str, list[int]] = {}
        for index, options in enumerate(there):
            if index not in found.values():
                left.setdefault("\n".join(told(options)), []).append(index)
        for index, values in enumerate(wanted):
            same = left.get("\n".join(told(values))) if index not in found else None
            if same:
                found[index] = same.pop(0)
    return found


def _refuse_fewer_epochs(directory: Path, summary: dict[str, Any], values: dict[str, Any]) -> None:
    """See to it before any job has begun: those of the sweep would fail, one after the other."""
    epochs = summary.get("epochs", 0) if summary.get("status") in DONE else 0
    wanted = values["trainer"].get("max_epochs")
    if isinstance(wanted, int) and wanted < epochs:
        raise UserError(
            f"trainer.max_epochs={wanted}: job {directory.name} has trained for {epochs} epochs: "
            f"choose {epochs} or more"
        )


def named_by(combinations: Sequence[Sequence[str]], left_out: Sequence[str]) -> list[str]:
    """What tells jobs apart: the overrides that differ; all of them where none does.

    Args:
        combinations: each job's overrides, of the same keys in the same order.
        left_out: keys that are never told.
    """
    told = [
        each
        for each in zip(*combinations, strict=True)
        if key(each[0]) not in left_out and len(set(each)) > 1
    ] or [each for each in zip(*combinations, strict=True) if key(each[0]) not in left_out]
    return [",".join(each[job] for each in told) for job in range(len(combinations))]
