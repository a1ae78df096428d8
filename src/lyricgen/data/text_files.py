"""Files that hold the texts of a run, in folders, patterns and zip archives."""

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from zipfile import ZipFile

from lyricgen.data.cached_files import fetch_published
from lyricgen.data.file_kinds import ZIP, Member, NoTextError, TextFile, text_members
from lyricgen.data.options import BUNDLED, PUBLISHED, DataOptions, check_kind
from lyricgen.data.reading import DAMAGE, file_kind, reading_error
from lyricgen.errors import UserError
from lyricgen.files import list_matches
from lyricgen.runs.directories import outputs_directory
from lyricgen.runs.newest import LATEST


def corpus_path(kind: str, path: str | os.PathLike[str] | None = None) -> Path:
    """Find the file of a corpus; fetch a published file that is not in the cache.

    Args:
        kind: One of `KINDS`.
        path: The user's file for the kind ``text``; None or "" for all other kinds.

    Returns:
        The path of the file. A user's file may be missing.

    Raises:
        UserError: `kind` is unknown, `path` is missing or does not go with the kind, or a published
            file cannot be fetched, cannot be read or has another checksum.
    """
    if check_kind(kind) == "text":
        if not path:
            raise UserError("data=text needs data.path=FILE")
        return Path(path)
    if path:
        raise UserError(
            f"data={kind} has its own file and takes no data.path ({TextFile(path).shown}); "
            "leave data.path out, or choose data=text"
        )
    if kind in BUNDLED:
        return Path(str(files("lyricgen.data") / "corpora" / BUNDLED[kind]))
    return fetch_published(PUBLISHED[kind])


def find_files(options: DataOptions, left_out: dict[str, str] | None = None) -> Iterator[TextFile]:
    """Find the files of a text, in sorted order in each folder; each file comes once.

    Hidden files and folders are passed over, and so is the directory of outputs.

    Args:
        options: the options of the text.
        left_out: gets the reason by the path of a link that leads out of its folder, and of a pipe
            or a device in a folder.

    Raises:
        UserError: as for `corpus_path`; a pattern matches no file; or a folder cannot be read.
    """
    seen, left_out = set[str](), {} if left_out is None else left_out
    for path in [corpus_path(options.kind, each) for each in options.paths or ("",)]:
        for found in _resolve(path) if options.kind == "text" else [path]:
            is_folder = os.path.isdir(found)  # noqa: PTH112  reading a closed one explains it
            for file in _walk(found, left_out) if is_folder else [found]:
                real = os.path.realpath(file)
                if real not in seen:
                    seen.add(real)
                    yield TextFile(file, named=not is_folder and found == path)


def _resolve(path: Path) -> list[Path]:
    """Return an existing path itself, and the sorted matches of a pattern."""
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    outputs = outputs_directory().resolve()
    found = [Path(one) for one in list_matches(path)]
    kept = [one for one in found if not Path(os.path.realpath(one)).is_relative_to(outputs)]
    if not kept:
        raise UserError(f"{str(path)!r} matches no file: name a file or a folder (data.path=FILE)")
    return kept


def _walk(folder: Path, left_out: dict[str, str]) -> Iterator[Path]:
    """Find the ordinary files below a folder, in sorted order of their paths."""

    def fail(error: OSError) -> None:
        raise reading_error(error, repr(error.filename))

    root, outputs, found = os.path.realpath(folder), outputs_directory().resolve(), list[Path]()
    for place, folders, names in os.walk(folder, onerror=fail):
        if Path(place).resolve() == outputs or LATEST in names:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    links = {path for path in found if os.path.islink(path)}  # noqa: PTH114  in a closed folder
    own = {os.path.realpath(path) for path in found if path not in links}
    for path in sorted(found):
        try:
            is_file = stat.S_ISREG(path.stat().st_mode)
        except OSError:  # a link to nothing, or in a circle
            is_file = False
        if not is_file:
            why = "a link to no file" if path in links else "no ordinary file"
            left_out[repr(str(path))] = why
        elif path in links and not Path(os.path.realpath(path)).is_relative_to(root):
            left_out[repr(str(path))] = "a link that leads out of the folder"
        elif path not in links or os.path.realpath(path) not in own:
            yield path


def open_archives(found: Iterable[TextFile]) -> Iterator[TextFile]:
    """Yield the texts of a zip archive with several in sorted order; any other file as it is.

    Raises:
        UserError: an archive cannot be read.
    """
    for file in found:
        kind = ""
        try:
            kind = file_kind(file.path)
            if kind == ZIP:
                with ZipFile(file.path) as archive, suppress(NoTextError):  # reading explains it
                    members = text_members(archive, file.shown)
                    if len(members) > 1:
                        for info in members:
                            yield TextFile(file.path, Member(archive, info), named=False)
                        continue
        except DAMAGE as error:
            raise reading_error(error, file.shown, kind) from error
        yield file
