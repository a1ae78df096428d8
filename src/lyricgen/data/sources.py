"""Sources of a run's texts: files, folders, zip archives, tables and JSON."""

import glob
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from zipfile import ZipFile

from lyricgen.console import progress
from lyricgen.data.cache import is_large
from lyricgen.data.cached_files import fetch_published
from lyricgen.data.fields import Fields, read_column, read_key
from lyricgen.data.file_kinds import ZIP, Member, NoTextError, text_members
from lyricgen.data.formats import LRC, OPENING, SUBTITLES, drop_timestamps, recognise_format
from lyricgen.data.options import BUNDLED, PUBLISHED, DataOptions, check_kind
from lyricgen.data.reading import (
    DAMAGE,
    DEFAULT_MAX_BYTES,
    TooLargeError,
    file_kind,
    quote_path,
    reading_error,
    size_error,
    text_pieces,
    unpack_file,
)
from lyricgen.errors import UserError
from lyricgen.runs.directories import outputs_directory
from lyricgen.runs.newest import LATEST

log = logging.getLogger(__name__)

_LISTED = 3  # most files in a message


@dataclass(frozen=True)
class TextFile:
    """A file that may hold a text.

    Attributes:
        path: of the file, or of the zip archive that holds it.
        member: its place in the archive; None for another file.
        named: whether the user named the file itself, and not its folder or its archive.
    """

    path: Path
    member: Member | None
    named: bool

    @property
    def shown(self) -> str:
        """The quoted path."""
        return quote_path(self.path, self.member)

    @property
    def size(self) -> int:
        """Number of bytes; in an archive, after it is unpacked.

        Raises:
            OSError: the file is gone.
        """
        return self.path.stat().st_size if self.member is None else self.member.info.file_size


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
            f"data={kind} has its own file and takes no data.path ({os.fspath(path)!r}); "
            "leave data.path out, or choose data=text"
        )
    if kind in BUNDLED:
        return Path(str(files("lyricgen.data") / "corpora" / BUNDLED[kind]))
    return fetch_published(PUBLISHED[kind])


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a file or a folder, or a pattern that matches one."""
    with suppress(OSError, ValueError):  # too long, NUL
        return os.path.exists(path) or bool(_matches(os.fspath(path)))
    return False


def find_large(options: DataOptions) -> Path | None:
    """Return the path of a large file of running text, whose ids are mapped from the cache.

    Returns:
        The path; None for a text that is held in memory.

    Raises:
        UserError: as for `corpus_path`; or the file cannot be read.
    """
    if options.column is not None or options.key is not None or len(options.paths) > 1:
        return None
    path = corpus_path(options.kind, *options.paths)
    if not is_large(path) or (file_kind(path) == ZIP and _has_several(path)):
        return None
    if options.kind == "text" and options.timestamps == "drop":
        opening = read_opening(options)
        return None if recognise_format(opening) in (LRC, SUBTITLES) else path
    return path


def _has_several(path: Path) -> bool:
    try:
        with ZipFile(path) as archive:
            return len(text_members(archive, quote_path(path))) > 1
    except (NoTextError, *DAMAGE):
        return False  # its reading explains the error


def find_files(options: DataOptions, left_out: dict[str, str] | None = None) -> Iterator[TextFile]:
    """Find the files of a text, in sorted order in each folder or archive; each file comes once.

    Hidden files and folders are passed over, also in archives, and so is the directory of outputs.

    Args:
        options: the options of the text.
        left_out: gets the reason by the path of a link that leads out of its folder, and of a pipe
            or a device in a folder.

    Raises:
        UserError: as for `corpus_path`; a pattern matches no file; or a folder or an archive cannot
            be read.
    """
    seen: set[str] = set()
    reasons: dict[str, str] = {} if left_out is None else left_out
    for each in options.paths or [None]:
        path = corpus_path(options.kind, each)
        for found in _resolve(path) if options.kind == "text" else [path]:
            is_folder = found.is_dir()
            for file in _walk(found, reasons) if is_folder else [found]:
                real = os.path.realpath(file)
                if real not in seen:
                    seen.add(real)
                    yield from _open_archive(file, named=not is_folder)


def _resolve(path: Path) -> list[Path]:
    """Return an existing path itself, and the sorted matches of a pattern."""
    text = os.fspath(path)
    if os.path.lexists(text) or not glob.has_magic(text):
        return [path]
    found = _matches(text)
    if not found:
        raise UserError(f"{text!r} matches no file: name a file or a folder (data.path=FILE)")
    return [Path(one) for one in found]


def _matches(path: str) -> list[str]:
    return sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207


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
    for path in sorted(found):
        try:
            is_file = stat.S_ISREG(path.stat().st_mode)
        except OSError:  # a link to nothing, or in a circle
            is_file = False
        if not is_file:
            left_out[repr(str(path))] = (
                "a link to no file" if path.is_symlink() else "no ordinary file"
            )
        elif path.is_symlink() and not os.path.realpath(path).startswith(os.path.join(root, "")):
            left_out[repr(str(path))] = "a link that leads out of the folder"
        else:
            yield path


def _open_archive(path: Path, *, named: bool) -> Iterator[TextFile]:
    """Yield the texts of a zip archive with several; any other file as it is."""
    try:
        if file_kind(path) != ZIP:
            yield TextFile(path, None, named)
            return
        with ZipFile(path) as archive:
            members = text_members(archive, quote_path(path))
            if len(members) == 1:
                yield TextFile(path, None, named)
                return
            for info in members:
                yield TextFile(path, Member(archive, info), named=False)
    except NoTextError:
        yield TextFile(path, None, named)  # whose reading explains the error
    except DAMAGE as error:
        raise reading_error(error, quote_path(path), "") from error


class _PartReader:
    """Reader of parts, which counts what it reads and what it leaves out.

    Args:
        options: the options of the text.
        passed: called with the number of bytes of files read so far.
    """

    def __init__(self, options: DataOptions, passed: Callable[[int], object]) -> None:
        self.options = options
        self.parts: list[str] = []
        self.left_out: dict[str, str] = {}  # reason by file
        self.counts: Counter[str] = Counter()
        self.first_broken = ""
        self._passed = passed
        self._bytes = 0
        self._most = options.max_bytes or DEFAULT_MAX_BYTES
        self._left = self._most

    def read(self) -> list[str]:
        problem: UserError | None = None
        for file in find_files(self.options, self.left_out):
            try:
                text = self._read_file(file)
            except TooLargeError as error:
                alone = self._left == self._most
                raise error if alone else size_error(repr(self.options.name), self._most) from error
            except UserError as error:
                if file.named or not (isinstance(error, NoTextError) or self._is_binary(file)):
                    raise
                problem = problem or error
                self.left_out[file.shown] = getattr(error, "kind", "no text")
                continue
            self.counts["files"] += 1
            self._left -= len(text.encode("utf-8", "surrogatepass"))
            self._bytes += file.size
            if self._left < 0:
                raise size_error(repr(self.options.name), self._most)
            self._add(text, file)
        if not self.parts:
            raise self._nothing_error(problem)
        return self.parts

    def _read_file(self, file: TextFile) -> str:
        options = self.options
        pieces = text_pieces(
            *(file.path, options.encoding, max(1, self._left)),
            lambda position: self._passed(self._bytes + position),
            options.control_characters,
            file.member,
        )
        return "".join(pieces)

    def _is_binary(self, file: TextFile) -> bool:
        """Whether a file that cannot be read as a text has NULs, which texts in UTF-8 lack."""
        if self.options.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
            return False
        try:
            return b"\0" in next(unpack_file(file.path, self._most, member=file.member), b"")
        except UserError:
            return False

    def _add(self, text: str, file: TextFile) -> None:
        options, fields = self.options, None
        if options.column is not None:
            fields = read_column(text, options.column, file.shown)
        elif options.key is not None:
            fields = read_key(text, options.key, file.shown, options.control_characters)
        elif options.kind == "text" and options.timestamps == "drop":
            kind = recognise_format(text[:OPENING])
            if kind in (LRC, SUBTITLES):
                text = drop_timestamps(text, kind)
                self.counts["stamped"] += 1
        if fields is None:
            self.parts.append(text)
        else:
            self._add_fields(fields, file)

    def _add_fields(self, fields: Fields, file: TextFile) -> None:
        self.parts += fields.texts
        self.counts.update(rows=len(fields.texts), empty=fields.empty, broken=fields.broken)
        if fields.broken and not self.first_broken:
            where = "" if file.named and self.options.name == str(file.path) else f"{file.shown}, "
            self.first_broken = f"{where}{fields.first_broken}"

    def describe(self) -> str | None:
        """Describe what was read and left out, in one line; None for a plain file."""
        counts, options = self.counts, self.options
        notes = []
        if counts["files"] > 1 or self.left_out:
            notes.append(f"{counts['files']:,} {'file' if counts['files'] == 1 else 'files'}")
        if counts["rows"]:
            field = f"data.column={options.column}" if options.column else f"data.key={options.key}"
            notes.append(f"{counts['rows']:,} texts of {field}")
        if counts["stamped"]:
            of = f" of {counts['stamped']:,} files" if counts["files"] > 1 else ""
            notes.append(f"without the timestamps{of} (data.timestamps=keep keeps them)")
        missing = self._describe_missing()
        if missing:
            notes.append(f"left out: {missing}")
        return f"{options.name}: read {', '.join(notes)}" if notes else None

    def _describe_missing(self) -> str:
        counts, notes = self.counts, []
        noun = "rows" if self.options.column else "records"
        for name in ("empty", "broken"):
            if counts[name]:
                first = f" (first: {self.first_broken})" if name == "broken" else ""
                of_one = counts[name] == 1
                notes.append(f"{counts[name]:,} {name} {noun[:-1] if of_one else noun}{first}")
        if self.left_out:
            listed = [f"{path} ({why})" for path, why in list(self.left_out.items())[:_LISTED]]
            more = len(self.left_out) - len(listed)
            number = f"{len(self.left_out):,} {'file' if len(self.left_out) == 1 else 'files'}"
            notes.append(f"{number}: {', '.join(listed)}{f' and {more:,} more' if more else ''}")
        return "; ".join(notes)

    def _nothing_error(self, problem: UserError | None) -> UserError:
        missing = self._describe_missing()
        more = f" ({missing})" if missing else ""
        if problem is not None and len(self.left_out) == 1:
            return problem
        return UserError(
            f"{self.options.name!r} holds no text{more}: name a text, or a folder with texts "
            "(data.path=FILE)"
        )


def read_parts(options: DataOptions) -> list[str]:
    """Read the parts of a text: each file, or each row or record of its files, in order.

    A folder, and a zip archive with several texts, is read in sorted order; only files that are
    texts are read there. The log says in one line what was read and what was left out, unless that
    is a single whole file.

    Raises:
        UserError: a source is missing or cannot be read, is too large together with the others, has
            no such column or field, or holds no text.
    """
    size = 0
    for file in find_files(options):
        with suppress(OSError):
            size += file.size
    with progress(f"reading {options.name}", size) as moved:
        reader = _PartReader(options, moved)
        parts = reader.read()
    described = reader.describe()
    if described is not None:
        log.info("%s", described)
    return parts


def read_opening(options: DataOptions) -> str:
    """Read up to `OPENING` characters of the first file of a text; "" if it holds no text.

    Raises:
        UserError: the file cannot be read.
    """
    for file in find_files(options):
        pieces = text_pieces(
            *(file.path, options.encoding, 2**62, lambda _: None),
            *(options.control_characters, file.member),
        )
        try:
            return next(pieces, "")[:OPENING]
        except NoTextError:
            if file.named:
                raise
    return ""
