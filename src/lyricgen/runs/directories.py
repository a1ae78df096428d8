"""Name, make, lock and remove the directories of runs and sweeps."""

import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from filelock import FileLock, Timeout

from lyricgen.errors import UserError
from lyricgen.files import expand_home, open_ordinary

SUMMARY = "summary.json"
MULTIRUN = "multirun.yaml"  # configuration of a sweep, under the name that Hydra's sweeper gives it
NOTES = "notes.json"  # note and tags of a run or sweep
TRASH = ".trash"  # folder of the outputs directory with the runs that `lyricgen runs rm` removed
STUDY = "study.log"  # Optuna's journal of a search, in the directory of its sweep
HYDRA_FOLDER = ".hydra"
LOCK = ".lock"
MARK = b"lyricgen\n"  # in the lock of a run whose directory was empty before
CHECKPOINTS = "checkpoints"  # directory of the files below
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
EVENTS = "events.out.tfevents.*"
METRICS, STEPS, SAMPLES = "metrics.csv", "steps.csv", "samples.jsonl"
RANGE_TEST = "find_lr"  # name of the files of find_lr=true
HPARAMS = "hparams.yaml"  # options of the run, as Lightning's own loggers write them
REMOTE_ID = "remote_id.txt"  # name of the run at MLflow and W&B
SUBMITTED = ".submitit"  # directory of the jobs that were sent to Slurm
GROWING = (SAMPLES, STEPS, EVENTS)  # files to which a run appends; metrics.csv is replaced whole
# Patterns of the names of files in the directories of runs and sweeps.
OF_RUN = (
    *(SUMMARY, HYDRA_FOLDER, CHECKPOINTS, METRICS, HPARAMS, REMOTE_ID, "*profile*"),
    *(f"{RANGE_TEST}.*", *GROWING),
)
BEGUN = (SUMMARY, HYDRA_FOLDER, CHECKPOINTS, MULTIRUN)  # any shows that a run or sweep is there
OF_SWEEP = (SUMMARY, MULTIRUN, SUBMITTED, "report", "[0-9]*_*")

_made: list[Path] = []  # directories that `make_directory` has made, parents first


def outputs_directory() -> Path:
    """The directory of all runs: $LYRICGEN_OUTPUTS, else outputs/ under the current directory."""
    return expand_home(os.environ.get("LYRICGEN_OUTPUTS") or "outputs")


def job_directory(number: int, overrides: str) -> str:
    """Name the directory of a job by its number and overrides, cut to 150 bytes of UTF-8.

    The name has "-" in place of "/", and "{" in place of "${" and the backslashes before it.
    """
    name = re.sub(r"\\*\$\{", "{", f"{number}_{overrides}".replace("/", "-"))
    return name.encode()[:150].decode(errors="ignore")


def read_number(directory: Path) -> int | None:
    """Read the number of a job, which begins the name of its directory; None for another name."""
    number = directory.name.partition("_")[0]
    return int(number) if number.isdecimal() else None


def resume_command(directory: Path) -> str:
    """Command that resumes a run or a sweep."""
    return f"python -m lyricgen.train {shlex.quote(f'resume={directory}')}"


def check_there(directory: Path) -> None:
    """Check that the directory of a run or sweep still exists.

    Raises:
        UserError: the directory or its summary.json is gone.
    """
    if not (directory / SUMMARY).is_file():
        raise UserError(
            f"{str(directory)!r} is gone: it was removed or renamed during the work: bring "
            f"it back and go on by {resume_command(directory)}, or start anew"
        )


def directory_taken(directory: Path, kind: Literal["run", "sweep"]) -> UserError:
    """Error for a directory that already holds a run or sweep."""
    return UserError(
        f"{str(directory)!r} holds a {kind} already: leave hydra.{kind}.dir out, name another "
        f"directory, or go on with it by resume={shlex.quote(str(directory))}"
    )


def make_directory(directory: Path, *, exist_ok: bool = True) -> None:
    """Make a directory and its missing parents; remember them for `remove_unused`.

    Raises:
        OSError: it cannot be made, or exists although `exist_ok` is false.
    """
    directory = directory.absolute()
    missing = list(takewhile(lambda path: not path.exists(), (directory, *directory.parents)))
    directory.mkdir(parents=True, exist_ok=exist_ok)
    _made.extend(reversed(missing))


def new_directory(preferred: Path) -> Path:
    """Make a new directory with the name `preferred`, or the first free name with _2, _3, … added.

    Raises:
        OSError: it cannot be made.
    """
    directory, number = preferred, 1
    while True:
        try:
            make_directory(directory, exist_ok=False)
            return directory
        except FileExistsError:
            if not directory.parent.is_dir():  # a file has the parent's name
                raise
            number += 1
            directory = preferred.with_name(f"{preferred.name}_{number}")


def remove_unused() -> None:
    """Remove the directories that `make_directory` has made, if they hold nothing but a lock."""
    while _made:
        directory = _made.pop()
        with suppress(OSError):  # it is not empty, or gone already
            if [path.name for path in directory.iterdir()] == [LOCK]:
                (directory / LOCK).unlink()
            directory.rmdir()


@contextmanager
def hide_trash(directory: Path) -> Iterator[Path]:
    """Yield a directory for TensorBoard, which would show removed runs as well.

    If runs were removed, it is a temporary directory with links to everything else.
    """
    if not (directory / TRASH).is_dir():
        yield directory
        return
    with TemporaryDirectory(prefix="lyricgen-") as linked:
        names = {path.name for path in directory.iterdir()} - {TRASH}
        for name in names | {"runs", "sweeps"}:  # which may come later
            (Path(linked) / name).symlink_to(directory.resolve() / name)
        yield Path(linked)


def refuse_links(directory: Path, patterns: Sequence[str] = OF_RUN) -> None:
    """Refuse a directory in which a run's files are links, pipes or devices.

    Writing to a link could change a file elsewhere, and writing to a pipe could block forever.
    `patterns` match the names of the run's files.

    Raises:
        UserError: a file of the run is a link, pipe or device.
    """
    for name in list_matching(directory, patterns):
        path = directory / name
        mode = path.lstat().st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise UserError(
                f"{str(path)!r} is a link, pipe or device, but the run writes a file of this "
                "name: restore the file, or move the link, pipe or device away"
            )


def has_checkpoint(directory: Path, names: Sequence[str] = (BEST, LAST, PREVIOUS)) -> bool:
    """Whether the directory of a run has one of the named checkpoints."""
    return any((directory / CHECKPOINTS / name).is_file() for name in names)


def list_matching(directory: Path, patterns: Sequence[str]) -> list[str]:
    """List the names in a directory that match one of the patterns, sorted.

    The list is empty for a missing directory. Broken links are listed, too.
    """
    names = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    return [name for name in names if any(fnmatchcase(name, each) for each in patterns)]


def mark(directory: Path) -> None:
    """Mark a directory as the directory of a run; the mark stays if the run is killed.

    The mark is the lock file with `MARK` as its content. An existing file of this name is kept, and
    its content decides whether the directory is marked.

    Raises:
        OSError: the lock is a link, or cannot be written.
    """
    path = directory / LOCK
    try:
        with path.open("xb") as stream:  # follows no link
            stream.write(MARK)
    except FileExistsError:
        if path.is_symlink():
            raise


def unmark(directory: Path) -> None:
    """Remove the lock of a run, but no other file with the same name."""
    if _content_of_lock(directory) in (MARK, b""):
        (directory / LOCK).unlink()


def is_marked(directory: Path) -> bool:
    """Whether `mark` has marked a directory."""
    return _content_of_lock(directory) == MARK


def _content_of_lock(directory: Path) -> bytes | None:
    try:
        with open_ordinary(directory / LOCK) as stream:
            return stream.read(len(MARK) + 1)
    except OSError:  # there is no ordinary file
        return None


@contextmanager
def claim_directory(directory: Path) -> Iterator[None]:
    """Keep other processes out of a directory until the block ends.

    Raises:
        UserError: another process works in the directory.
        OSError: the lock cannot be opened.
    """
    lock = FileLock(directory / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{str(directory)!r} is in use by another process: wait for it, or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_alive(process: int) -> bool:
    """Whether a process with the number `process` exists on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:  # it has ended
        return False
    except PermissionError:  # it is a process of another user
        return True
    return process > 0
