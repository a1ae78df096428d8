"""Run directories: where they are, what they say of themselves, and which one is the newest."""

import json
import logging
import math
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lyricgen.errors import UserError
from lyricgen.files import remove_torn, write_atomically

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
LATEST = "latest.txt"
LOCK = ".lock"
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
SUMS = f"{LAST}.sha256"


def outputs_directory() -> Path:
    """Where all runs go: $LYRICGEN_OUTPUTS, else outputs/ under the current directory."""
    return Path(os.environ.get("LYRICGEN_OUTPUTS") or "outputs")


class Run:
    """One run's directory and its summary.json, which always tells how the run stands.

    Args:
        directory: exists already; Hydra has made it.
        sweep: the directory of the sweep whose job this run is, if it is one.
    """

    def __init__(self, directory: Path, sweep: Path | None = None) -> None:
        self.directory = directory
        self.sweep = sweep
        self.checkpoints = directory / "checkpoints"
        self.summary: dict[str, Any] = {}
        self._start = time.perf_counter()
        self._lock = FileLock(directory / LOCK, blocking=False)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep every other process out of the directory, until this one ends at the latest.

        Raises:
            UserError: another process trains here.
        """
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(
                f"{str(self.directory)!r} is in use by another process: wait for it, or stop it"
            ) from error
        try:
            for place in (self.directory, self.checkpoints):
                remove_torn(place)
            yield
        finally:
            self._lock.release()

    def begin(self, seed: int, earlier: dict[str, Any] | None = None, seconds: float = 0) -> None:
        """Say that the run is under way.

        Args:
            seed: of the run.
            earlier: the summary of a run that is resumed.
            seconds: that it had taken up to its checkpoint.
        """
        now = {
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "process": os.getpid(),
            "host": socket.gethostname(),
            "seed": seed,
            "command": shlex.join(["python", "-m", "lyricgen.train", *sys.argv[1:]]),
            "git_commit": _git_commit(),
            "versions": _versions(),
        }
        self._start -= seconds
        self.summary = now
        if earlier:
            resumed = {name: now[name] for name in ("started", "git_commit", "versions")}
            kept = {name: earlier[name] for name in ("started", "command") if name in earlier}
            self.summary |= kept | {"resumed": [*earlier.get("resumed", []), resumed]}
        self._write()

    @property
    def wall_seconds(self) -> float:
        """Since the start, times before a resume included."""
        return round(time.perf_counter() - self._start, 3)

    @property
    def earlier_summary(self) -> dict[str, Any]:
        """What an earlier process has left; nothing where it was killed before it began."""
        return json.loads((self.directory / SUMMARY).read_text("utf-8")) if self.taken else {}

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        return f"python -m lyricgen.train {shlex.quote(f'resume={self.directory}')}"

    @property
    def taken(self) -> bool:
        """Whether a run has left its summary in the directory before."""
        return (self.directory / SUMMARY).exists()

    def discard(self) -> None:
        """Leave nothing behind of a run that never began: Hydra's record and log, empty folders."""
        if self.taken:
            return
        record = self.directory / ".hydra"
        kept = (self.directory / name for name in ("train.log", LOCK))
        for path in (*record.glob("*.yaml"), *kept):
            path.unlink(missing_ok=True)
        outputs = outputs_directory().resolve()
        here = self.directory.resolve()
        above = [folder for folder in here.parents if outputs in folder.parents]
        for folder in (record, here, *above):
            try:
                folder.rmdir()
            except OSError:  # not empty: others' work
                return

    def become_newest(self) -> None:
        """Make this run, or the sweep it is part of, what commands take when none is named."""
        outputs_directory().mkdir(parents=True, exist_ok=True)
        newest = self.sweep or self.directory
        write_atomically(outputs_directory() / LATEST, f"{newest.resolve()}\n")

    def finish(self, figures: dict[str, Any]) -> None:
        """Record the results of a finished run."""
        self.summary |= {"status": "finished", **figures}
        self._close()

    def fail(self, reason: str) -> None:
        """Record why a run stopped short."""
        self.summary |= {"status": "failed", "reason": reason}
        self._close()

    def interrupt(self) -> None:
        """Record that the user stopped the run."""
        self.summary["status"] = "interrupted"
        self._close()

    def _close(self) -> None:
        self.summary["wall_seconds"] = self.wall_seconds
        try:
            self._write()
        except OSError as error:  # a full disk must not hide what went wrong before
            log.warning("%s cannot be written: %s", self.directory / SUMMARY, error.strerror)

    def _write(self) -> None:
        text = json.dumps(_finite(self.summary), ensure_ascii=False, indent=2, allow_nan=False)
        write_atomically(self.directory / SUMMARY, text + "\n")


def read_summary(directory: Path) -> dict[str, Any]:
    """What a run says of itself; one that runs no more without having said so is `killed`.

    Raises:
        UserError: no summary.json there, or not a readable one.
    """
    path = directory / SUMMARY
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        shown = repr(str(path))
        raise UserError(f"{shown} cannot be read ({error}): name a run's directory") from error
    here = summary.get("host") == socket.gethostname()
    if summary.get("status") == "running" and here and not _alive(summary.get("process", 0)):
        summary["status"] = "killed"
    return summary


def newest_run() -> Path:
    """The directory of the newest run or sweep.

    Raises:
        UserError: there is none yet.
    """
    outputs = outputs_directory()
    try:
        return Path((outputs / LATEST).read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise UserError(
            f"no run found in {str(outputs)!r}: train one (python -m lyricgen.train), name one, "
            "or set LYRICGEN_OUTPUTS"
        ) from error


def newest_checkpoint() -> Path:
    """The best checkpoint of the newest run, or its last one where no best was kept.

    Raises:
        UserError: there is no run yet, or it has no checkpoint.
    """
    return checkpoint_in(newest_run())


def checkpoint_in(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the best of a run, or of a sweep's newest job.

    Raises:
        UserError: there is none.
    """
    if path.is_file():
        return path
    for name in (BEST, LAST, PREVIOUS):
        for candidate in (path / "checkpoints" / name, path / name):
            if candidate.is_file():
                return candidate
    jobs = path.glob("*/checkpoints/best.ckpt")
    newest = max(jobs, key=lambda job: job.stat().st_mtime, default=None)
    if newest is not None:
        return newest
    found = "is not there" if not path.exists() else "has no checkpoints/best.ckpt"
    raise UserError(f"{str(path)!r} {found}: name a checkpoint or a run's directory")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process > 0


def _git_commit() -> str | None:
    """The commit of the source that runs, if it is a checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None  # installed; a repository around the environment has nothing to do with it
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _versions() -> dict[str, str]:
    packages = ("lyricgen", "torch", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _finite(value: Any) -> Any:
    """JSON knows no infinity: what is not finite is written as null."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
