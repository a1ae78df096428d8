"""Sources of a run's texts: files, folders, zip archives, tables and JSON."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

from lyricgen.console import progress
from lyricgen.data.cache import is_large
from lyricgen.data.fields import read_column, read_key
from lyricgen.data.file_kinds import NoTextError, TextFile, TooLargeError, size_error
from lyricgen.data.formats import (
    OPENING,
    TIMED,
    drop_timestamps,
    recognise_format,
    suggest_field,
)
from lyricgen.data.options import DataOptions
from lyricgen.data.reading import text_pieces, unpack_file
from lyricgen.data.text_files import corpus_path, find_files, open_archives
from lyricgen.data.units import settle_division
from lyricgen.errors import UserError
from lyricgen.settings import AUTO

log = logging.getLogger(__name__)

_LISTED = 3  # most files in a message


def find_running_text(options: DataOptions) -> Path | None:
    """Return the path of a large file of running text, whose ids are mapped from the cache.

    A file that is too large for memory is running text, unless an option says otherwise.

    Returns:
        The path; None for a text that is held in memory.

    Raises:
        UserError: as for `corpus_path`; or the file cannot be read.
    """
    if options.field is not None or len(options.paths) > 1:
        return None
    path = corpus_path(options.kind, *options.paths)
    if options.unit not in ("text", "auto") or not is_large(path):
        return None
    if next(open_archives([TextFile(path)])).member is not None:
        return None
    opening = read_opening(options)
    drops = options.kind == "text" and options.timestamps == "drop"
    if drops and recognise_format(opening) in TIMED:
        return None
    fits = path.stat().st_size <= options.most_in_memory
    return None if fits and settle_division(options, [opening]).unit != "text" else path


def settle_field(options: DataOptions) -> DataOptions:
    """Fill in the column and the key where they say `auto`: the evident field of a single file.

    Raises:
        UserError: the file cannot be found or read.
    """
    auto = [name for name in ("column", "key") if getattr(options, name) == AUTO]
    found: dict[str, str | None] = dict.fromkeys(auto)
    if len(auto) == 2 and _is_small_file(options):
        opening = read_opening(options)
        field = suggest_field(opening, recognise_format(opening) or "")
        if field is not None and field.is_evident:
            found[field.option] = field.name
    return options.model_copy(update=found)


def _is_small_file(options: DataOptions) -> bool:
    """Whether a text is a single file that can be held in memory."""
    files = list(islice(open_archives(find_files(options)), 2))
    with suppress(OSError):  # reading the file explains it
        return len(files) == 1 and files[0].size <= options.most_in_memory
    return False


class _PartReader:
    """Reader of parts, which counts what it reads and what it leaves out.

    Args:
        options: the options of the text.
        left_out: the reason for each file that was left out; gets more.
        passed: called with the number of bytes of files read so far.
    """

    def __init__(
        self,
        options: DataOptions,
        left_out: dict[str, str],
        passed: Callable[[int], object],
    ) -> None:
        self.options, self.left_out = options, left_out
        self.parts: list[str] = []
        self.counts: Counter[str] = Counter()
        self.first_broken = ""
        self._passed = passed
        self._bytes = 0  # of the files before the one being read
        self._left = self._most = options.most_in_memory

    def read(self, files: Iterable[TextFile]) -> list[str]:
        problem: UserError | None = None
        for file in open_archives(files):
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
        pieces = text_pieces(
            file,
            encoding=self.options.encoding,
            max_bytes=max(1, self._left),
            passed=lambda position: self._passed(self._bytes + position),
            control_characters=self.options.control_characters,
        )
        return "".join(pieces)

    def _is_binary(self, file: TextFile) -> bool:
        """Whether a file that cannot be read as a text has NULs, which texts in UTF-8 lack."""
        if self.options.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
            return False
        try:
            return b"\0" in next(unpack_file(file, self._most), b"")
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
            if kind in TIMED:
                text = drop_timestamps(text, kind)
                self.counts["stamped"] += 1
        if fields is None:
            self.parts.append(text)
            return
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
        if counts["rows"] and options.field is not None:
            option, name, _ = options.field
            noun = "text" if counts["rows"] == 1 else "texts"
            notes.append(f"{counts['rows']:,} {noun} of data.{option}={name}")
        if counts["stamped"]:
            of = f" of {counts['stamped']:,} files" if counts["files"] > 1 else ""
            notes.append(f"without the timestamps{of} (data.timestamps=keep keeps them)")
        missing = self._describe_missing()
        if not notes and not missing:
            return None
        more = f"; left out {missing}" if missing else ""
        return f"{options.name}: read {', '.join(notes) or 'one text'}{more}"

    def _describe_missing(self) -> str:
        counts, notes = self.counts, []
        _, _, noun = self.options.field or ("", "", "")
        for name in ("empty", "broken"):
            if counts[name]:
                first = f" (first: {self.first_broken})" if name == "broken" else ""
                end = "" if counts[name] == 1 else "s"
                notes.append(f"{counts[name]:,} {name} {noun}{end}{first}")
        if self.left_out:
            listed = [f"{path} ({why})" for path, why in list(self.left_out.items())[:_LISTED]]
            more = len(self.left_out) - len(listed)
            number = f"{len(self.left_out):,} {'file' if len(self.left_out) == 1 else 'files'}"
            notes.append(f"{number}: {', '.join(listed)}{f' and {more:,} more' if more else ''}")
        return ", ".join(notes)

    def _nothing_error(self, problem: UserError | None) -> UserError:
        missing = self._describe_missing()
        more = f" ({missing})" if missing else ""
        if problem is not None and len(self.left_out) == 1:
            return problem
        where, other = "", "name a text, or a folder with texts"
        if self.options.field is not None:
            option, name, _ = self.options.field
            where, other = f" in data.{option}={name}", "choose another field, or name another text"
        return UserError(
            f"{self.options.name!r} holds no text{where}{more}: {other} (data.path=FILE)"
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
    left_out: dict[str, str] = {}  # reason by file
    files, size = list(find_files(options, left_out)), 0
    for file in files:
        with suppress(OSError):  # reading the file explains it
            size += file.size
    with progress(f"reading {options.name}", size) as moved:
        reader = _PartReader(options, left_out, moved)
        parts = reader.read(files)
    described = reader.describe()
    if described is not None:
        log.info("%s", described)
    return parts


def read_opening(options: DataOptions) -> str:
    """Read up to `OPENING` characters of the first file of a text; "" if it holds no text.

    Raises:
        UserError: the file cannot be read.
    """
    for file in open_archives(find_files(options)):
        pieces = text_pieces(
            file, options.encoding, 2**62, control_characters=options.control_characters
        )
        try:
            return next(pieces, "")[:OPENING]
        except UserError:
            if file.named:
                raise
    return ""
