"""Claim the directory of a run, and record the run in summary.json."""

import logging
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lyricgen.errors import UserError, reason
from lyricgen.files import remove_torn, write_atomically
from lyricgen.runs.directories import (
    CHECKPOINTS,
    HYDRA_FOLDER,
    SUMMARY,
    check_there,
    claim_directory,
    read_number,
    refuse_links,
    resume_command,
    unmark,
)
from lyricgen.runs.newest import record_newest
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import DECIDING, Value, complete, flatten

log = logging.getLogger(__name__)


class Run:
    """Directory of a run and its summary.json, which `begin` creates.

    Args:
        directory: existing directory of the run.
        sweep: directory of the sweep that has this run as a job; None for a single run.
        overrides: overrides of the configuration.
        record: contents of the files in .hydra, by name.
        search: options of the search that has this run as a trial; None for any other run.
        log_file: name of the log file.
    """

    def __init__(
        self,
        directory: Path,
        sweep: Path | None = None,
        overrides: Sequence[str] = (),
        record: Mapping[str, str] | None = None,
        search: dict[str, Any] | None = None,
        log_file: str = "train.log",
    ) -> None:
        self.directory = directory
        self.log_file = log_file
        self.sweep = None if sweep is None else sweep.resolve()
        self.overrides = list(overrides)
        self.record = dict(record or {})
        self.checkpoints = directory / CHECKPOINTS
        self.search = search
        self.search_space: dict[str, Any] | None = None
        self.corpus_digest: str | None = None
        self.filled: list[str] = []  # settings that said `auto`
        self.summary = RunSummary(status="unknown")
        self._start = time.perf_counter()
        self.until_end = ExitStack()  # closed when the directory is given up

    @contextmanager
    def claim_directory(self) -> Iterator[None]:
        """Keep other processes out of the directory until the block ends; then close `until_end`.

        Incomplete files of a killed process are removed first.

        Raises:
            UserError: another process trains here, or files of the run are links, pipes or devices.
            OSError: the lock cannot be opened, or an incomplete file cannot be removed.
        """
        refuse_links(self.directory)
        with claim_directory(self.directory):
            for directory in (self.directory, self.checkpoints, self.directory / HYDRA_FOLDER):
                remove_torn(directory)
            with self.until_end:
                yield

    def begin(
        self, options: dict[str, Any], earlier: RunSummary | None = None, seconds: float = 0
    ) -> None:
        """Record that the run has begun, and that the run or its sweep is the newest.

        `options` is the whole configuration, in plain values. For a resumed run, `earlier` is its
        summary, and `seconds` its time until the checkpoint. A resumed run keeps its .hydra.

        Raises:
            OSError: a file cannot be written; a resumed run raises a UserError instead.
        """
        self._start = time.perf_counter() - seconds  # the time of imports does not count
        now: dict[str, Any] = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "git_commit": git_commit(),
            "versions": dict(versions()),
        }
        known = {
            "job": None if self.sweep is None else read_number(self.directory),
            "search_space": self.search_space,
            "corpus_digest": self.corpus_digest,
            "filled": self.filled or (earlier and _still_filled(earlier, options)) or None,
        }
        entries = now | {
            "status": "running",
            "process": os.getpid(),
            "host": socket.gethostname(),
            "seed": options["seed"],
            "command": shlex.join(["python", "-m", "lyricgen.train", *sys.argv[1:]]),
            **{"overrides": self.overrides, "options": options},
            **{name: value for name, value in known.items() if value is not None},
        }
        if earlier is None:
            for name, text in self.record.items():
                (self.directory / HYDRA_FOLDER).mkdir(exist_ok=True)
                write_atomically(self.directory / HYDRA_FOLDER / name, text)
        else:
            before, kept = earlier.entries(), ("started", "command", "job", "search_space")
            entries |= {name: before[name] for name in kept if name in before}
            entries |= {"resumed": [*earlier.resumed, now]}
            if "corpus_digest" in before:
                entries.setdefault("corpus_digest", before["corpus_digest"])
        self.summary = RunSummary.model_validate(entries)
        try:
            self._write()
        except OSError as error:
            if earlier is None:
                raise
            raise self.writing_error(error) from error
        record_newest(self.sweep or self.directory, resumed=earlier is not None)

    @property
    def wall_seconds(self) -> float:
        """Seconds since the start; a resumed run adds the seconds before its checkpoint."""
        return round(time.perf_counter() - self._start, 3)

    @property
    def resume_command(self) -> str:
        """Command that resumes this run, or its sweep."""
        return resume_command(self.sweep or self.directory)

    def check_text(self, options: dict[str, Any], digest: str) -> None:
        """Check that this job reads the same text as other jobs with the same settings of the text.

        Args:
            options: whole configuration, in plain values.
            digest: SHA-256 of the corpus of this job.

        Raises:
            UserError: another job with the same settings has read another text.
        """
        settings = _text_settings(options)
        for other in [] if self.sweep is None else sorted(self.sweep.iterdir()):
            if read_number(other) is None or other.name == self.directory.name:
                continue
            with suppress(UserError):  # it has no readable summary
                summary = RunSummary.read(other)
                same = _text_settings(summary.options or {}) == settings
                if summary.corpus_digest is not None and same:
                    break
        else:
            return
        if summary.corpus_digest != digest:
            raise UserError(
                f"data={settings['data']}: the text is not the one that job {other.name} "
                "has read: bring that one back, or start a new sweep"
            )

    def discard(self) -> None:
        """Remove the log and the lock of a run that never began, and a job's empty directory.

        A run with a summary.json has begun, so nothing is removed. If a killed run has left a
        .hydra in the directory, the lock stays and marks the directory; see `directories.mark`.
        """
        if (self.directory / SUMMARY).exists():
            return
        (self.directory / self.log_file).unlink(missing_ok=True)
        if not (self.directory / HYDRA_FOLDER).exists():
            unmark(self.directory)
        if self.sweep is not None:
            with suppress(OSError):  # it is not empty
                self.directory.rmdir()

    def finish(self, figures: dict[str, Any], given_up: str | None = None) -> None:
        """Record the results of a finished or pruned run.

        Args:
            figures: the results, in plain values.
            given_up: reason why the search pruned the run; None for a finished run.

        Raises:
            OSError: summary.json cannot be written.
            UserError: the run's directory is gone.
        """
        check_there(self.directory)
        pruned = {"status": "pruned", "reason": given_up}
        end = {"status": "finished"} if given_up is None else pruned
        self.summary = RunSummary.model_validate(self.summary.entries() | end | figures)
        self._write()

    def writing_error(self, error: OSError) -> UserError:
        """Error for a run that could not write a file, with the reason and a remedy."""
        try:
            check_there(self.directory)
        except UserError as gone:
            return gone
        why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        return UserError(f"{why}: mend that, then go on by {self.resume_command}")

    def keep(self, earlier: RunSummary) -> None:
        """Use the summary `earlier` for a run that could not be resumed; `fail` adds the reason."""
        self._start = time.perf_counter() - (earlier.wall_seconds or 0)
        self.summary = earlier

    def fail(self, error: BaseException) -> None:
        """Record why a run has failed; only warn if the record cannot be written."""
        self.summary.status, self.summary.reason = "failed", reason(error)
        self.summary.traceback = "".join(traceback.format_exception(error))
        self._close()

    def interrupt(self) -> None:
        """Record that a signal stopped the run; only warn if the record cannot be written."""
        self.summary.status = "interrupted"
        self._close()

    def _close(self) -> None:
        try:
            self._write()
        except OSError as error:  # it must not hide the error that stopped the run
            path = self.directory / SUMMARY
            log.warning("%s cannot be written (%s) and is not up to date", path, error.strerror)

    def _write(self) -> None:
        if self.summary.status != "running":
            self.summary.wall_seconds = self.wall_seconds
        self.summary.write(self.directory)


def _still_filled(earlier: RunSummary, options: dict[str, Any]) -> list[str]:
    """List the filled settings of a summary that have the same values in the present options."""
    before, now = flatten(earlier.options or {}), flatten(options)
    return [name for name in earlier.filled if before.get(name) == now.get(name)]


def _text_settings(options: dict[str, Any]) -> dict[str, Value]:
    flat = flatten(complete(options))
    names = ("data" if name == "kind" else f"data.{name}" for name in DECIDING)
    return {name: flat.get(name) for name in names}


@cache
def git_commit() -> str | None:
    """The commit of lyricgen's source, with "-dirty" if it was changed.

    None if the source is no git checkout, or if git fails.
    """
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None  # installed, maybe inside another repository
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        result = subprocess.run(
            command, cwd=checkout, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):  # git is missing or fails
        return None
    return result.stdout.strip()


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a run's figures."""
    packages = ("lyricgen", "torch", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
