"""Notices about a text, for the log, before it is trained on."""

import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from lyricgen.data.encoding import EncodedCorpus

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


def format_notice(opening: str) -> str | None:
    """Notice that a text is no prose; None for prose.

    Args:
        opening: how its file begins.
    """
    kind = format_of(opening)
    if kind is None:
        return None
    return (
        f"looks like {kind}: the model learns its punctuation, names and numbers, too; for the "
        "text alone, save that as plain text"
    )


def private_use_notice(corpus: EncodedCorpus, encoding: str) -> str | None:
    """Notice private-use characters, which a wrong encoding gives; None without any."""
    private = [
        (character, int(count))
        for character, count in zip(corpus.vocabulary.characters, corpus.counts, strict=True)
        if unicodedata.category(character) == "Co"
    ]
    if not private:
        return None
    number = sum(count for _, count in private)
    first = ", ".join(f"U+{ord(character):04X}" for character, _ in private[:5])
    return (
        f"has {number:,} private-use characters ({first}{', …' if len(private) > 5 else ''}), "
        f"which have no meaning of their own: data.encoding={encoding} may be the wrong one"
    )


def repeated_lines_notice(corpus: EncodedCorpus) -> str | None:
    """Say how many lines of a list repeat; None where none does."""
    lines = corpus.lines if corpus.unit == "line" else []
    repeated = len(lines) - len(set(lines))
    if not repeated:
        return None
    return (
        f"{repeated:,} of {len(lines):,} lines repeat another: data.distinct=true keeps each once"
    )
