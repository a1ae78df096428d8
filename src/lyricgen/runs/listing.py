"""Run directories: where they are, how they are called, and which one is the newest."""

import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from lyricgen.errors import UserError
from lyricgen.files import expand_home, write_atomically
from lyricgen.runs.record_files import RecordError, read_record, read_yaml

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
MULTIRUN = "multirun.yaml"  # what a sweep was composed from, as Hydra's own sweeper writes it
STUDY = "study.log"  # Optuna's journal of a search, in the directory of its sweep
LATEST = "latest.txt"
RECORD = ".hydra"
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"

_LONGEST = 10_000  # bytes of a latest.txt
_DATE, _TIME = r"\d{4}-\d\d-\d\d", r"\d\d-\d\d-\d\d\.\d{6}"  # in names of directories


def outputs_directory() -> Path:
    """Where all runs go: $LYRICGEN_OUTPUTS, else outputs/ under the current directory."""
    return expand_home(os.environ.get("LYRICGEN_OUTPUTS") or "outputs")


def job_directory(number: int, overrides: str) -> str:
    """The name of a sweep's job: its number and overrides, in at most 150 bytes of UTF-8."""
    name = re.sub(r"\\*\$\{", "{", f"{number}_{overrides}".replace("/", "-"))
    return name.encode()[:150].decode(errors="ignore")


def number_of(directory: Path) -> int | None:
    """The number of the job of a sweep whose directory it is; None where it is none's."""
    number = directory.name.partition("_")[0]
    return int(number) if number.isdecimal() else None


def resume_command(directory: Path) -> str:
    """Command that resumes a run or a sweep."""
    return f"python -m lyricgen.train {shlex.quote(f'resume={directory}')}"


def check_there(directory: Path) -> None:
    """Check that the directory of a running run or sweep is still there.

    Raises:
        UserError: it was removed or renamed meanwhile.
    """
    if not (directory / SUMMARY).is_file():
        raise UserError(
            f"{str(directory)!r} is gone: it was removed or renamed while it was worked in: bring "
            f"it back and go on by {resume_command(directory)}, or start anew"
        )


def directory_taken(directory: Path, kind: Literal["run", "sweep"]) -> UserError:
    """Error for a new run or sweep in the directory of another one."""
    return UserError(
        f"{str(directory)!r} holds a {kind} already: leave hydra.{kind}.dir out, name another "
        f"directory, or go on with it by resume={shlex.quote(str(directory))}"
    )


def newest_run() -> Path:
    """The directory of the newest run or sweep.

    Raises:
        UserError: there is none yet.
    """
    newest = next(newest_runs(), None)
    if newest is None:
        raise UserError(
            f"no run found in {str(outputs_directory())!r}: train one (python -m lyricgen.train), "
            "name one, or set LYRICGEN_OUTPUTS"
        )
    return newest


def newest_runs() -> Iterator[Path]:
    """The runs and sweeps of the outputs directory, newest first.

    The first is the run that latest.txt names; a resumed run may be older than others.
    """
    outputs = outputs_directory()
    named = _named_newest(outputs)
    if named is not None:
        yield named
    levels = [outputs.glob(f"{level}/{SUMMARY}") for level in ("*", "*/*", "*/*/*")]
    found = {summary.parent for level in levels for summary in level}
    runs = [run for run in found if run.parent not in found]  # the others are jobs of sweeps
    yield from sorted((run for run in runs if run != named), key=_begun, reverse=True)


def record_newest(directory: Path, *, resumed: bool) -> None:
    """Name a run or sweep in the latest.txt of the outputs directory that holds it, if one does.

    Args:
        directory: of the run or sweep.
        resumed: a resumed one may lie below other outputs than those of the current directory; a
            new one is named in these alone.
    """
    directory, outputs = directory.resolve(), outputs_directory().resolve()
    if resumed:
        dated = (p for p in directory.parents if re.fullmatch(_DATE, p.name))
        holders = (p.parents[1] for p in dated if p.parent.name in ("runs", "sweeps"))
        outputs = next((p for p in holders if os.path.lexists(p / LATEST)), outputs)
    for kind in ("runs", "sweeps"):  # each may be a link to another disk
        linked = outputs.joinpath(kind, *directory.parts[-2:])
        if linked.is_dir() and linked.samefile(directory):
            directory = linked
    if outputs not in directory.parents:
        log.info(
            "%s lies outside of %s: name it to commands that take the newest run",
            directory,
            outputs,
        )
        return
    try:
        write_atomically(outputs / LATEST, f"{directory.relative_to(outputs).as_posix()}\n")
    except OSError as error:  # a directory of that name, say; the run itself can be written
        log.warning(
            "%s cannot be written (%s): name %s to commands that take the newest run",
            outputs / LATEST,
            error.strerror,
            directory,
        )


def _named_newest(outputs: Path) -> Path | None:
    """The directory that latest.txt names; None where there is none, or latest.txt is damaged."""
    latest = outputs / LATEST
    if not os.path.lexists(latest):
        return None
    try:
        if latest.is_symlink():
            raise ValueError
        text = read_record(latest, _LONGEST).removesuffix("\n")
        named = Path(text)
        if named.is_absolute():  # as earlier versions wrote it
            named = named.relative_to(outputs.resolve())
        if ".." in named.parts or named == Path() or any(c < " " for c in text):
            raise ValueError
        return outputs / named if (outputs / named).is_dir() else None
    except (OSError, ValueError):  # OSError: no file has a name of that length
        log.warning("%s names no run below %s: it is ignored", latest, outputs)
        return None


def _begun(directory: Path) -> float:
    """When a run or sweep began, in seconds: by its directory's name, else by its summary.json."""
    name = f"{directory.parent.name} {directory.name}"
    began = re.match(f"{_DATE} {_TIME}", name)
    if began is not None:
        with suppress(ValueError, OverflowError):  # no such day or hour
            return datetime.strptime(began[0], "%Y-%m-%d %H-%M-%S.%f").timestamp()
    return _modified(directory / SUMMARY)


def _modified(path: Path) -> float:
    """When a file was written, in seconds; 0 if it is gone by now."""
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it
        return 0.0


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
    newest = max(jobs, key=_modified, default=None)
    if newest is not None:
        return newest
    found = "has no checkpoints/best.ckpt" if path.is_dir() else "is not there"
    if path.exists() and not path.is_dir():
        found = "is no ordinary file"  # but a pipe or a device, which may never end
    raise UserError(f"{str(path)!r} {found}: name a checkpoint or a run's directory")


def places_of(checkpoint: Path) -> list[Path]:
    """Directories from which a relative path of a run may count, the likeliest first.

    These are the one where the run was started, and those around it, since both may have moved.
    """
    around = list(checkpoint.absolute().parents)
    started = next((place for run in around[:3] if (place := _started_in(run))), None)
    return around if started is None else [started, *around]


def _started_in(directory: Path) -> Path | None:
    """The directory from which a run was started; None where its record does not say."""
    try:
        return Path(read_yaml(directory / RECORD / "hydra.yaml")["hydra"]["runtime"]["cwd"])
    except (RecordError, TypeError, KeyError):
        return None


def is_alive(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:  # the answer
        return False
    except PermissionError:  # another user's
        return True
    return process > 0
