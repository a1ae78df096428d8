"""Texts in the columns of tables and in the fields of JSON: each row or record is one text."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lyricgen.data.faults import FORBIDDEN, ControlCharacterFilter
from lyricgen.data.options import ControlCharacters
from lyricgen.errors import UserError, did_you_mean

SEPARATORS = {",": "CSV", ";": "CSV", "\t": "TSV", "|": "a table"}
_END = "\x03"  # row after the last one; no text has this character
_LISTED = 12  # most names of fields in a message
MOST_RECORDS = 50  # records or rows that decide which field is suggested


class FieldTexts(NamedTuple):
    """The texts of a table or of JSON, in order.

    Attributes:
        texts: the texts; none of them is only white space.
        empty: number of rows or records whose text is empty.
        broken: number of rows or records without such a text.
        first_broken: place and reason of the first broken one; "" if there is none.
    """

    texts: list[str]
    empty: int
    broken: int
    first_broken: str


class _Missing:
    """Marker for a line that is no JSON, or for a missing field."""


def read_column(text: str, column: str, shown: str) -> FieldTexts:
    """Read a column of a table with a first row of names.

    The separator is a comma, a semicolon, a tab or a bar, whichever gives a column of this name, or
    else most columns. Rows with another number of fields are broken.

    Args:
        text: the table.
        column: the name of the column.
        shown: the quoted path of the file, for messages.

    Raises:
        UserError: the table has no such column, or a quotation mark in it is never closed.
    """
    headers = {separator: read_header(text, separator) for separator in SEPARATORS}
    separator = max(headers, key=lambda one: (column in headers[one], len(headers[one])))
    names = headers[separator]
    if column not in names:
        raise UserError(f"data.column={column}: {shown} has no such column{_offer(column, names)}")
    place, texts, empty, broken, first = names.index(column), list[str](), 0, 0, ""
    rows = _rows(text, separator, shown)
    next(rows)
    for line, row in rows:
        if len(row) < len(names) or any(row[len(names) :]):
            broken += 1
            first = first or f"line {line} has {len(row)} instead of {len(names)} fields"
        elif row[place].strip():
            texts.append(row[place])
        else:
            empty += 1
    return FieldTexts(texts, empty, broken, first)


def read_header(text: str, separator: str) -> list[str]:
    """Read the first row of a table; nothing if it is broken."""
    try:
        row = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error:
        return []
    return [name.strip() for name in row]


def _rows(text: str, separator: str, shown: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that are not blank, each with the number of its first line."""
    # a field may be as long as the text
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # tables with tabs often have plain quotation marks
    plain = separator == "\t" and not _is_closed(text, separator)
    reader = csv.reader(
        _lines(text),
        delimiter=separator,
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
    )
    line = after = 1
    try:
        for row in reader:
            line, after = after, reader.line_num + 1
            if row == [_END]:
                return
            if row:
                yield line, row
    except csv.Error as error:
        raise UserError(f"{shown} cannot be read as a table: line {line}: {error}") from error
    raise UserError(
        f"{shown} cannot be read as a table: a quotation mark in the row that begins in line "
        f"{line} is never closed"
    )


def _lines(text: str) -> Iterator[str]:
    yield from io.StringIO(text if text.endswith(("\n", "\r")) else f"{text}\n", newline="")
    yield _END


def _is_closed(text: str, separator: str) -> bool:
    """Whether every quotation mark that begins a field of a table is closed."""
    last: list[str] = []
    try:
        for row in csv.reader(_lines(text), delimiter=separator):
            last = row
    except csv.Error:
        return False
    return last == [_END]


def read_key(
    text: str, key: str, shown: str, control_characters: ControlCharacters = "refuse"
) -> FieldTexts:
    """Read a field of the records of JSON or of JSON lines.

    The records are the elements of a list, which may be the only list of an object, or the lines.
    A list of texts as a field becomes lines. Lines that are no JSON are broken.

    Args:
        text: the JSON.
        key: the name of the field; dots separate the names of nested objects.
        shown: the quoted path of the file, for messages.
        control_characters: what becomes of control characters that JSON has escaped.

    Raises:
        UserError: the text is no JSON, no record has such a field, or a text has control characters
            that are refused.
    """
    texts, empty, broken, missing, first = list[str](), 0, 0, 0, ""
    records = _records(text, key, shown)
    for place, record in records:
        for value in [record] if isinstance(record, _Missing) else _find(record, key):
            joined = _join(value)
            if joined is None:
                broken += 1
                missing += isinstance(value, _Missing) and value is not record
                first = first or f"{place} {_describe_broken(key, value, record)}"
            elif joined.strip():
                where = f"data.key={key}: {shown}, {place}"
                texts.append(_filter_controls(joined, where, control_characters))
            else:
                empty += 1
    if missing and not texts and not empty:
        names = field_lengths([record for _, record in records[:MOST_RECORDS]])
        raise UserError(f"data.key={key}: {shown} has no such field{_offer(key, list(names))}")
    return FieldTexts(texts, empty, broken, first)


def _describe_broken(key: str, value: Any, record: Any) -> str:
    if isinstance(value, _Missing):
        return "is no JSON" if value is record else "has no such field"
    names = list(field_lengths([record]))
    return f"has no text there{_offer(key, names) if names else ''}"


def _records(text: str, key: str, shown: str) -> list[tuple[str, Any]]:
    """Return the records of a text with their places in words; `_Missing` for a broken line."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [
            (f"line {number}", load_json(line))
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
        if 2 * sum(isinstance(record, _Missing) for _, record in lines) >= len(lines):
            raise UserError(f"data.key={key}: {shown} is no JSON: {error}") from error
        return lines
    if isinstance(value, dict) and _step(value, key.split(".")) is None:
        lists = [entry for entry in value.values() if isinstance(entry, list)]
        value = lists[0] if len(lists) == 1 else value
    records = value if isinstance(value, list) else [value]
    return [(f"record {number}", record) for number, record in enumerate(records, 1)]


def load_json(line: str) -> Any:
    """Read a value of JSON; `_Missing` if the line is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _Missing()


def _find(value: Any, key: str) -> list[Any]:
    """Find the values of a field: several, if lists lie on the way to it; `_Missing` for none."""
    found: list[Any] = []
    waiting: list[tuple[Any, Sequence[str]]] = [(value, key.split("."))]
    while waiting:
        value, names = waiting.pop()
        step = _step(value, names) if isinstance(value, dict) else None
        if not names:
            found.append(value)
        elif isinstance(value, list) and value:
            waiting += [(entry, names) for entry in reversed(value)]
        elif step is None:
            found.append(_Missing())
        else:
            waiting.append(step)
    return found


def _step(value: dict[str, Any], names: Sequence[str]) -> tuple[Any, Sequence[str]] | None:
    """Return the value of the longest first part of a dotted name, and the names after it."""
    for end in range(len(names), 0, -1):
        name = ".".join(names[:end])
        if name in value:
            return value[name], names[end:]
    return None


def _join(value: Any) -> str | None:
    """Return a text, or lines as one text; None for any other value."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return value if isinstance(value, str) else None


def _filter_controls(text: str, where: str, action: ControlCharacters) -> str:
    if not FORBIDDEN.search(text):
        return text
    controls = ControlCharacterFilter(where, action)
    kept = controls.feed(text)
    if controls.error is not None:
        raise controls.error
    return kept


def _offer(name: str, names: Sequence[str]) -> str:
    """List the names of the fields that there are, as the end of a message."""
    if not names:
        return "; it has no names of fields"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    meant = did_you_mean(name, names)
    return f"; it has {', '.join(names[:_LISTED])}{more}{meant}"


def field_lengths(records: Sequence[Any]) -> dict[str, int]:
    """Sum up the characters of each field of records that holds texts, by its dotted name."""
    lengths: dict[str, int] = {}
    waiting = [("", record) for record in reversed(records)]
    while waiting:
        name, value = waiting.pop()
        text = _join(value)
        if text is not None and name:
            lengths[name] = lengths.get(name, 0) + len(text)
        elif isinstance(value, dict):
            before = f"{name}." if name else ""
            waiting += [(f"{before}{inner}", entry) for inner, entry in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(name, entry) for entry in reversed(value)]
    return lengths
