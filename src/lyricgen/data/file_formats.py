"""Formats of texts that are no prose (tables, JSON, timed lines), told by their opening."""

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence

_LINES = 200  # that are looked at, at most
_MOST = 0.8  # share of the lines that have to be of the format
_TIME = re.compile(r"\s*\[\d+:\d\d(?:[.:]\d+)?\]|\s*\[[a-z]{2,8}:[^\]]*\]\s*$")
_FROM_TO = re.compile(r"(?:\d+:)?\d\d:\d\d[,.]\d+ *--> *(?:\d+:)?\d\d:\d\d")
_BEGINS_JSON = re.compile(
    r'\s*(?:\{\s*"[^"]*"\s*:|\[\s*(?:\{\s*"|\[\s*["\d-]|"[^"]*"\s*,|-?[\d.]+\s*,))'
)
_SEPARATORS = {",": "CSV", ";": "CSV", "\t": "TSV", "|": "a table"}


def format_of(opening: str) -> str | None:
    """Name the format of a text that is not plain prose or verse.

    Args:
        opening: how it begins, as it stands in the file; the last line may be cut.

    Returns:
        What to call it; None for a plain text.
    """
    lines = [line for line in opening.splitlines() if line.strip()]
    lines = (lines[:-1] or lines)[:_LINES]
    timed = sum(bool(_FROM_TO.match(line)) for line in lines)
    if timed and timed >= 0.15 * len(lines):
        return "subtitles with timestamps (SRT or VTT)"
    if re.search(r"^\s*\[\d+:\d\d", opening, re.MULTILINE) and _most(_TIME, lines):
        return "lyrics with timestamps (LRC)"
    if len(lines) > 1 and all(map(_is_json, lines)):
        return "JSON lines"
    if _BEGINS_JSON.match(opening):
        return "JSON"
    if re.match(r"\s*<\?xml\s", opening):
        return "XML"
    return next((name for mark, name in _SEPARATORS.items() if _is_table(lines, mark)), None)


def _most(pattern: re.Pattern[str], lines: Sequence[str]) -> bool:
    return sum(bool(pattern.match(line)) for line in lines) > _MOST * len(lines)


def _is_json(line: str) -> bool:
    if not line.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_table(lines: Sequence[str], separator: str) -> bool:
    """Whether most lines have the same number of fields, as in no prose with its spaces."""
    try:
        rows = list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return False
    if len(rows) < 3:
        return False
    [(columns, often)] = Counter(map(len, rows)).most_common(1)
    fields = [field for row in rows if len(row) == columns for field in row[1:]]
    loose = sum(not field or field[0] == " " for field in fields)
    return columns > 1 and often > _MOST * len(rows) and 2 * loose < len(fields)
