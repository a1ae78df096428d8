"""Read records: files of runs, which may be changed, replaced or damaged.

Only ordinary files of limited size are read, and their content is checked. A record that cannot be
read raises a `RecordError`.
"""

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lyricgen.errors import escape_line
from lyricgen.files import open_ordinary
from lyricgen.runs.directories import TRASH

log = logging.getLogger(__name__)

LARGEST_RECORD = 16_000_000  # bytes of a record that is read as a whole
MOST_OF_TABLE = 64_000_000  # bytes of a table
MOST_OF_LINES = 256_000_000  # bytes of a file that is read line by line
_LONGEST_LINE = 1_000_000  # bytes of a line in such a file
_DEEPEST = 50  # levels of nesting

Shape = TypeVar("Shape")


@dataclass(frozen=True)
class Sample:
    """A generated text, and the way it was drawn: a line of samples.jsonl."""

    step: int
    epoch: int
    prefix: str
    strategy: str
    seed: int
    text: str


class RecordError(ValueError):
    """Error for a record that cannot be read; its message is one short line without the path."""

    def __init__(self, message: str) -> None:
        super().__init__(escape_line(" ".join(message.split()))[:200])


def open_record(path: Path, most: int = LARGEST_RECORD) -> io.BufferedReader:
    """Open a record.

    Raises:
        RecordError: it cannot be opened, is no ordinary file, or has more than `most` bytes.
    """
    try:
        stream = open_ordinary(path)
    except (OSError, ValueError) as error:
        raise RecordError(getattr(error, "strerror", None) or str(error)) from error
    size = os.fstat(stream.fileno()).st_size
    if size <= most:
        return stream
    stream.close()
    raise RecordError(f"it has {size:,} bytes, more than {most:,}")


def read_record(path: Path, most: int = LARGEST_RECORD) -> str:
    """Read the text of a record.

    Raises:
        RecordError: it cannot be read, has more than `most` bytes, or is not UTF-8.
    """
    with open_record(path, most) as stream:
        try:
            content = stream.read(most + 1) or b""
            if len(content) > most:  # it has grown, or its size is not known, as in /proc
                raise RecordError(f"it has more than {most:,} bytes")
            return content.decode("utf-8")
        except OSError as error:
            raise RecordError(error.strerror or str(error)) from error
        except UnicodeDecodeError as error:
            raise RecordError(str(error)) from error


def read_json(path: Path) -> Any:
    """Read a record in JSON; see `parse_json`.

    Raises:
        RecordError: it cannot be read, or is not the JSON that `parse_json` accepts.
    """
    return parse_json(read_record(path))


def parse_json(text: str) -> Any:
    """Parse JSON into plain values; NaN and infinity become None, lone surrogates become "?".

    Raises:
        RecordError: the text is not JSON, is nested more than 50 levels deep, or has an integer of
            thousands of digits.
    """
    try:
        return _plain(json.loads(text), 0)
    except (ValueError, RecursionError) as error:
        raise RecordError(str(error)) from error


def read_yaml(path: Path) -> Any:
    """Read a record in YAML; NaN and infinity become None.

    Raises:
        RecordError: it cannot be read, is not YAML, is nested more than 50 levels deep, or has an
            alias, which could stand for gigabytes.
    """
    import yaml  # noqa: PLC0415  only needed to resume

    text, depth = read_record(path), 0
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise RecordError("it has an alias")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise RecordError(f"it is nested more than {_DEEPEST} levels deep")
        return _plain(yaml.load(text, Loader=loader), 0)
    except RecordError:
        raise
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # only YAMLError is PyYAML's own error; the date 2024-13-45 raises a ValueError, for example
        raise RecordError(str(error)) from error


def read_columns(
    path: Path, names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Read columns of numbers from a table in CSV; an empty cell is NaN.

    Args:
        path: path of the table.
        names: columns that the table must have.
        optional: columns to read if the table has them.

    Returns:
        The columns by name.

    Raises:
        RecordError: the table cannot be read or lacks a column, a line has too many or too few
            cells, or a cell is no number.
    """
    text = read_record(path, MOST_OF_TABLE)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        head = next(rows, [])
        chosen = [*names, *(name for name in optional if name in head)]
        indices = {name: head.index(name) for name in chosen}
        columns: dict[str, list[float]] = {name: [] for name in chosen}
        for row in rows:
            if len(row) != len(head):
                raise RecordError(f"line {rows.line_num} has {len(row)} fields, not {len(head)}")
            for name, index in indices.items():
                columns[name].append(float(row[index] or math.nan))
    except (ValueError, csv.Error) as error:
        raise RecordError(str(error)) from error
    return columns


def read_json_lines(path: Path, shape: type[Shape]) -> Iterator[Shape]:
    """Read objects of the class `shape` from a record with one JSON object a line.

    Raises:
        RecordError: the record or a line cannot be read, or is too long; objects of earlier lines
            are yielded first.
    """
    left, number = MOST_OF_LINES, 0
    with open_record(path, MOST_OF_LINES) as stream:
        while line := stream.readline(_LONGEST_LINE + 1):
            left, number = left - len(line), number + 1
            if len(line) > _LONGEST_LINE or left < 0:
                raise RecordError(
                    f"it has more than {MOST_OF_LINES:,} bytes, or {_LONGEST_LINE:,} in a line"
                )
            try:
                yield check(shape, parse_json(line.decode("utf-8")))
            except ValueError as error:
                raise RecordError(f"line {number}: {error}") from error


def walk(directory: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk like `os.walk`, without removed runs; warn of directories that cannot be read."""

    def warn(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # it is not there yet, or gone
            log.warning("%s is left out: %s", error.filename, error.strerror)

    for path, folders, files in os.walk(directory, onerror=warn):
        if TRASH in folders:
            folders.remove(TRASH)
        yield Path(path), folders, files


def check(shape: type[Shape], value: Any) -> Shape:
    """Turn plain values into an object of the class `shape`, by pydantic.

    Raises:
        RecordError: the values do not fit the class; the message tells the first mistake.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  slow to import

    try:
        return TypeAdapter(shape).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecordError(f"{where}: {first['msg']}" if where else first["msg"]) from error


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise RecordError(f"it is nested more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        return {_plain(key, depth): _plain(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry, depth + 1) for entry in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if not value.isascii() else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
