"""References to runs, sweeps and jobs: short ids, names and paths.

The id of a run is a hash of its path below the outputs directory. It stays when that directory is
moved. A few first characters of it are enough, as for a commit of git.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from lyricgen.console import tell
from lyricgen.errors import UserError, did_you_mean
from lyricgen.files import expand_home
from lyricgen.runs.directories import (
    BEGUN,
    CHECKPOINTS,
    MULTIRUN,
    SUMMARY,
    list_matching,
    outputs_directory,
    read_number,
)
from lyricgen.runs.newest import DATE, TIME, find_start, newest_run
from lyricgen.runs.summary import RunSummary

Reference = str | os.PathLike[str]  # path, id or name of a run, "latest", or a Run or Sweep
NEWEST = "latest"  # reference to the newest run or sweep
_SHORTEST = 4  # characters of an id
_LEVELS = 3  # at most between a run and the outputs directory
_SHOWN = 5  # runs in a message
_MODEL_FILES = (".ckpt", ".safetensors")


def list_directories() -> list[Path]:
    """List the directories of runs, sweeps and jobs below the outputs directory.

    A directory named by date and time is taken without a look into it, so a listing of thousands of
    runs reads a directory for each day and each sweep.
    """
    return list(_find_directories(outputs_directory(), _LEVELS))


def _find_directories(folder: Path, levels: int) -> Iterator[Path]:
    names, folders = _list_names(folder)
    if SUMMARY in names:
        yield folder
        if MULTIRUN in names:
            yield from _jobs(folder, folders)
        return
    for name in folders if levels else ():
        path = folder / name
        if not (re.fullmatch(DATE, folder.name) and re.match(TIME, name)):
            yield from _find_directories(path, levels - 1)
            continue
        yield path
        if folder.parent.name == "sweeps":
            yield from _jobs(path, _list_names(path)[1])


def _jobs(sweep: Path, folders: Iterable[str]) -> Iterator[Path]:
    return (sweep / name for name in folders if read_number(Path(name)) is not None)


def _list_names(folder: Path) -> tuple[set[str], list[str]]:
    """Read all names in a folder, and the names of its visible folders."""
    names, folders = set(), []
    with suppress(OSError), os.scandir(folder) as entries:  # it is gone, or closed to the user
        for entry in entries:
            names.add(entry.name)
            if not entry.name.startswith(".") and entry.is_dir():
                folders.append(entry.name)
    return names, sorted(folders)


def shorten_ids(directories: Iterable[Path]) -> dict[str, Path]:
    """Find the shortest unique beginning of each directory's id; the ids are sorted."""
    ids = sorted((_hash_path(directory), directory) for directory in directories)
    hashes = ["", *(one for one, _ in ids), ""]
    found = {}
    for before, (one, directory), after in zip(hashes, ids, hashes[2:], strict=False):
        length = _SHORTEST
        while one[:length] in (before[:length], after[:length]):
            length += 1
        found[one[:length]] = directory
    return found


def _hash_path(directory: Path) -> str:
    relative = directory.relative_to(outputs_directory())
    return hashlib.sha256(os.fsencode(relative.as_posix())).hexdigest()


def name_of(directory: Path) -> str:
    """Name of a run in the name of its directory, which begins with the time."""
    return re.sub(f"^{TIME}_", "", directory.name)


def read_reference(given: Reference) -> str:
    """Return a reference to a run as a text.

    Raises:
        UserError: it is of another type.
    """
    if not isinstance(given, str | os.PathLike):
        raise UserError(f"{given!r} is no run: give a path, an id, a name, or 'latest'")
    return os.fspath(given)


def find_run(reference: str) -> Path:
    """Find the directory of a run, a sweep or a job, or the file of a model.

    A line on standard error tells if several runs have the name.

    Args:
        reference: `latest`, a path, a name or the beginning of an id. A run's path has precedence,
            then a name.

    Raises:
        UserError: nothing or no single run fits.
    """
    if reference == NEWEST:
        return newest_run()
    path = expand_home(reference)
    is_file = path.suffix in _MODEL_FILES
    if is_file or os.sep in reference or list_matching(path, BEGUN):
        return path
    directories = list_directories()
    named = [one for one in directories if reference in (name_of(one), _recorded_name(one))]
    if named:
        if len(named) > 1:
            tell(f"{len(named)} runs have the name {reference}: the newest is taken")
        return max(named, key=find_start)
    found = _find_by_id(reference, directories)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        shown = ", ".join(f"{one} ({path})" for one, path in list(found.items())[:_SHOWN])
        more = ", …" if len(found) > _SHOWN else ""
        raise UserError(
            f"{reference} begins the ids of {len(found)} runs: {shown}{more}: type more of one"
        )
    meant = did_you_mean(reference, map(name_of, directories))
    raise UserError(
        f"{reference!r}: no run in {str(outputs_directory())!r} has this id or name, and there is "
        f"no run of this path (lyricgen runs lists all){meant}"
    )


def find_directory(reference: str) -> Path:
    """Find the directory of a run, sweep or job; a checkpoint in it stands for it.

    Raises:
        UserError: nothing or no single run fits.
    """
    path = find_run(reference)
    return path.parent.parent if path.parent.name == CHECKPOINTS and path.is_file() else path


def _find_by_id(start: str, directories: Iterable[Path]) -> dict[str, Path]:
    """Find the runs whose ids begin with the text, which has at least four characters."""
    if not re.fullmatch(f"[0-9a-f]{{{_SHORTEST},64}}", start):
        return {}
    ids = shorten_ids(directories)
    return {one: path for one, path in ids.items() if _hash_path(path).startswith(start)}


def _recorded_name(directory: Path) -> str | None:
    """The setting `name` of a run whose directory has no time in its name, if it is known."""
    if re.match(TIME, directory.name) or read_number(directory) is not None:
        return None
    with suppress(UserError):  # the summary is damaged
        options = RunSummary.read(directory).options or {}
        return options.get("name")
    return None
