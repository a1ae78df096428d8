"""Formats of texts, such as tables, JSON and lyrics with timestamps."""

import csv
import html
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from lyricgen.data.fields import (
    MOST_RECORDS,
    SEPARATORS,
    field_lengths,
    load_json,
    read_header,
)

OPENING = 50_000  # most characters by which a format or a unit is recognised
SUBTITLES, LRC = "subtitles with timestamps (SRT or VTT)", "lyrics with timestamps (LRC)"
TIMED = (LRC, SUBTITLES)  # formats with timestamps

# Names of fields that hold texts, the likeliest first.
_USUAL = ("lyrics", "lyric", "text", "content", "body", "poem", "song", "歌词", "正文", "内容")
_LONGEST_NAME = 60  # characters of a name in a table's first row
_SENTENCE = re.compile("[，。！？；：!?;]")  # marks that a name does not have
_EVIDENT = 3  # an evident field has so many times the characters of any other
_LINES = 200  # most lines by which a format is recognised
_MOST = 0.8  # share of these lines that must have the format
_TIME = re.compile(r"\s*\[\d+:\d\d(?:[.:]\d+)?\]|\s*\[[a-z]{2,8}:[^\]]*\]\s*$")
_FROM_TO = re.compile(r"\s*(?:\d+:)?\d\d:\d\d[,.]\d+ *--> *(?:\d+:)?\d\d:\d\d")
_BEGINS_JSON = re.compile(
    r'\s*(?:\{\s*"[^"]*"\s*:|\[\s*(?:\{\s*"|\[\s*["\d-]|"[^"]*"\s*,|-?[\d.]+\s*,))'
)
_STAMPS = re.compile(r"[ \t]*(?:\[\d+:\d\d(?:[.:]\d+)?\][ \t]*)+")  # before a line of lyrics
_WORD_STAMP = re.compile(r"<\d+:\d\d(?:[.:]\d+)?>[ \t]?")
_TAG_LINE = re.compile(
    r"[ \t]*\[(?:ti|ar|al|au|lr|by|re|ve|la|length|offset|tool|#):[^\]\n]*\][ \t]*"
)
_MARKUP = re.compile(r"</?(?:[biuv]|c|ruby|rt|lang|font)(?:[ .][^>\n]*)?>|<[\d:.]+>|\{\\[^}\n]*\}")
_BLOCK = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION)\b")  # of VTT; such a block ends at a blank line


class Field(NamedTuple):
    """A column of a table, or a field of JSON.

    Attributes:
        option: the option of `data=` that reads it, "column" or "key".
        name: its name.
        is_evident: whether it surely holds the texts: its name is usual for texts, or most
            characters are its own.
    """

    option: str
    name: str
    is_evident: bool


def recognise_format(opening: str) -> str | None:
    """Recognise the format of a text, such as JSON, CSV or subtitles.

    Args:
        opening: the first characters of the text; the last line may be incomplete.

    Returns:
        The name of the format; None if no format is recognised.
    """
    lines = [line for line in opening.splitlines() if line.strip()]
    lines = (lines[:-1] or lines)[:_LINES]
    timed = sum(bool(_FROM_TO.match(line)) for line in lines)
    if timed and timed >= 0.15 * len(lines):
        return SUBTITLES
    stamped = sum(bool(_TIME.match(line)) for line in lines)
    if re.search(r"^\s*\[\d+:\d\d", opening, re.MULTILINE) and stamped > _MOST * len(lines):
        return LRC
    if len(lines) > 1 and all(isinstance(load_json(line), dict | list) for line in lines):
        return "JSON lines"
    if _BEGINS_JSON.match(opening):
        return "JSON"
    if re.match(r"\s*<\?xml\s", opening):
        return "XML"
    return next((name for mark, name in SEPARATORS.items() if _is_table(lines, mark)), None)


def drop_timestamps(text: str, kind: str) -> str:
    r"""Leave out timestamps, tags and numbers of lyrics (LRC) or of subtitles.

    Blank lines of subtitles, which only separate them, are left out as well.

    Args:
        text: the whole text; its lines may end with ``\n``, ``\r`` or ``\r\n``.
        kind: the format; a text of a format that is not in `TIMED` stays.
    """
    if kind not in TIMED:
        return text
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if kind == LRC:
        kept = [line for line in lines if not _TAG_LINE.fullmatch(line)]
        return "\n".join(_WORD_STAMP.sub("", _STAMPS.sub("", line, count=1)) for line in kept)
    return "\n".join(_spoken_lines(lines))


def _spoken_lines(lines: Sequence[str]) -> list[str]:
    kept, in_block = [], False
    for number, line in enumerate(lines):
        before = lines[number - 1].strip() if number else ""
        after = lines[number + 1] if number + 1 < len(lines) else ""
        if not line.strip():
            in_block = False
        elif not before and _BLOCK.match(line) and not _FROM_TO.match(after):
            in_block = True
        elif _FROM_TO.match(line):
            in_block = False
        elif not in_block:
            numbered = line.strip().isdecimal() or not before
            spoken = html.unescape(_MARKUP.sub("", line)).strip()
            if spoken and not (numbered and _FROM_TO.match(after)):
                kept.append(spoken)
    return kept


def _is_table(lines: Sequence[str], separator: str) -> bool:
    """Whether lines are rows of a table with a given separator.

    There must be at least three rows, most of them with the same number of fields, two or more. In
    prose a space follows a comma, so most fields after the first of their row must neither be empty
    nor begin with a space.
    """
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


def suggest_field(opening: str, kind: str) -> Field | None:
    """Suggest the field of a table or of JSON that is likeliest to hold the texts; None for none.

    Args:
        opening: the first characters of the text; the last line may be incomplete.
        kind: its format, as `recognise_format` names it.
    """
    if kind.startswith("JSON"):
        records = _first_records(opening)
        option, lengths, number = "key", field_lengths(records), len(records)
    elif kind in SEPARATORS.values():
        option, (lengths, number) = "column", _column_lengths(opening, kind)
    else:
        return None
    for usual in _USUAL:
        found = [name for name in lengths if name.lower() == usual]
        if found:
            return Field(option, found[0], is_evident=True)
    if not lengths:
        return None
    name, *others = sorted(lengths, key=lambda one: -lengths[one])
    most = lengths[name] > _EVIDENT * max((lengths[one] for one in others), default=0)
    # without a first row of names, the first text would be one
    is_name = number > 1 and _EVIDENT * len(name) * number <= lengths[name]
    return Field(option, name, is_evident=most and is_name)


def _column_lengths(opening: str, kind: str) -> tuple[dict[str, int], int]:
    """Sum up the characters in each column of a table, and count its rows.

    There are no columns if there is no first row of names.
    """
    candidates = [one for one, name in SEPARATORS.items() if name == kind]
    separator = max(candidates, key=lambda one: len(read_header(opening, one)))
    names = read_header(opening, separator)
    named = all(
        0 < len(name) <= _LONGEST_NAME and not name.isdecimal() and not _SENTENCE.search(name)
        for name in names
    )
    if not named or len(set(names)) < len(names):
        return {}, 0
    reader = csv.reader(io.StringIO(opening, newline=""), delimiter=separator)
    rows = [
        row for _, row in zip(range(MOST_RECORDS), reader, strict=False) if len(row) == len(names)
    ]
    columns = zip(*rows[1:], strict=True)
    lengths = {
        name: sum(len(field) for field in column if not field.isdecimal())
        for name, column in zip(names, columns, strict=False)
    }
    return lengths, len(rows) - 1


def _first_records(opening: str) -> list[Any]:
    """Read the first whole records of JSON or of JSON lines."""
    found: list[Any] = []
    decoder = json.JSONDecoder()
    begin = opening.find("[")
    at = (
        begin + 1
        if not isinstance(load_json(opening.split("\n", 1)[0]), dict) and begin >= 0
        else 0
    )
    while len(found) < MOST_RECORDS:
        at += len(opening[at:]) - len(opening[at:].lstrip(" \t\r\n,"))
        try:
            record, at = decoder.raw_decode(opening, at)
        except (ValueError, RecursionError):
            break
        found.append(record)
    return found
