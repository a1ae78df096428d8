"""Run directories: where they are, what they say of themselves, and which one is the newest."""

import json
import logging
import os
import shlex
import socket
from pathlib import Path
from typing import Any

from lyricgen.errors import UserError

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
MULTIRUN = "multirun.yaml"  # what a sweep was composed from, as Hydra's own sweeper writes it
LATEST = "latest.txt"
RECORD = ".hydra"
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


def outputs_directory() -> Path:
    """Where all runs go: $LYRICGEN_OUTPUTS, else outputs/ under the current directory."""
    return Path(os.environ.get("LYRICGEN_OUTPUTS") or "outputs")


def new_directory(wanted: Path) -> Path:
    """Make a directory that nobody else has: the one wanted, or one with _2, _3, … after it."""
    number = 1
    while True:
        directory = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            if directory.parent.is_dir():  # and not the parent is in the way
                number += 1
                continue
        except OSError:
            pass  # whoever writes there first says what is wrong
        return directory


def job_directory(number: int, overrides: str) -> str:
    """The name of a sweep's job: its number and overrides, in at most 150 bytes of UTF-8."""
    name = f"{number}_{overrides}".replace("/", "-")
    return name.encode()[:150].decode(errors="ignore")


def number_of(directory: Path) -> int | None:
    """The number of the job of a sweep whose directory it is; None where it is none's."""
    number = directory.name.partition("_")[0]
    return int(number) if number.isdecimal() else None


def resume_command(directory: Path) -> str:
    """What to type to go on with a run or a sweep."""
    return f"python -m lyricgen.train {shlex.quote(f'resume={directory}')}"


def read_summary(directory: Path) -> dict[str, Any]:
    """What a run says of itself; one that runs no more without having said so is `killed`.

    Raises:
        UserError: no summary.json there, or not a readable one.
    """
    path = directory / SUMMARY
    try:
        summary: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(summary, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        shown = repr(str(path))
        raise UserError(f"{shown} cannot be read ({error}): name a run's directory") from error
    # of one on another machine its sweep says it, see job_watch
    here = summary.get("host") == socket.gethostname()
    if summary.get("status") == "running" and here and not is_alive(summary.get("process", 0)):
        summary["status"] = "killed"
    found: dict[str, Any] = summary
    return found


def earlier_summary(directory: Path) -> dict[str, Any] | None:
    """What a run has left behind; None where none has begun, nothing where it is damaged."""
    if not (directory / SUMMARY).exists():
        return None
    try:
        return read_summary(directory)
    except UserError:
        log.warning("%s is damaged: what it said of the run is lost", directory / SUMMARY)
        return {}


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
    found = "has no checkpoints/best.ckpt" if path.is_dir() else "is not there"
    if path.exists() and not path.is_dir():
        found = "is no ordinary file"  # but a pipe or a device, which may never end
    raise UserError(f"{str(path)!r} {found}: name a checkpoint or a run's directory")


def is_alive(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process > 0
