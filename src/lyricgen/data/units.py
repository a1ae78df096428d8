"""Units of a text: how they are guessed from it, and how it is divided into them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from lyricgen.data.formats import OPENING
from lyricgen.data.options import DataOptions, Unit

# Chosen by the texts of tests/data/test_units.py: names, poems, songs, prose and source code.
FEWEST = 10  # fewest files, poems or distinct names; fewer cannot be divided into three splits
MOST = 0.8  # share of the lines that must be poems
EQUAL = 0.7  # share of the verses of a poem that must have the same length
VERSES = 4  # fewest verses of a poem on one line; two stand on a line of a longer poem
LONGEST_VERSE = 20  # characters, without the mark
LONGEST_NAME = 40  # characters
WORDS = 2.5  # a list of names has fewer words a line; two Chinese characters count as a word
RARE_SYMBOL = 0.1  # share of the lines of a list of names that may break a rule

CHINESE = re.compile("[\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile("[A-Za-z]")
_CLOSING = "”’」』）)》〉\"'"
# A verse ends after its mark and the quotation marks behind it; a comma of ASCII ends a verse only
# in Chinese.
_VERSE, _CHINESE_VERSE = (
    re.compile(f"[^{marks}]*[{marks}]+[{_CLOSING}]*|[^{marks}]+$")
    for marks in ("，。！？；", "，。！？；,!?;")
)
_MARKS = "，。！？；,!?;" + _CLOSING
_TITLE = re.compile(r"([^，。！？；,!?;:：\n]{1,30})[:：](?=.)")
_BLANK_LINES = re.compile(r"\n\s*\n")


class Division(NamedTuple):
    """Places at which a text is divided into documents.

    Attributes:
        separator: A line between two documents; "" for blank lines; None: each file is a document.
        verse: Whether each line is a document, a poem.
    """

    separator: str | None = None
    verse: bool = False


UNDIVIDED = Division()


def divide(parts: Iterable[str], unit: Unit, division: Division) -> Iterator[str]:
    """Divide the parts of a text into lines or documents, which may be blank."""
    separator, verse = division
    if unit == "line" or verse:
        lines = chain.from_iterable(part.split("\n") for part in parts)
        yield from (divide_poem(line.strip()) for line in lines) if verse else lines
    elif separator is None:
        yield from parts
    else:
        pattern = _BLANK_LINES
        if separator:
            pattern = re.compile(rf"^[^\S\n]*{re.escape(separator.strip())}[^\S\n]*$", re.MULTILINE)
        yield from chain.from_iterable(map(pattern.split, parts))


def divide_poem(line: str) -> str:
    """Divide a poem that stands on one line into its title and its verses, each on a line."""
    title = _TITLE.match(line)
    verses = [verse.strip() for verse in _verses(line if title is None else line[title.end() :])]
    return "\n".join([*([] if title is None else [title[1].strip()]), *verses])


def _verses(body: str) -> list[str]:
    chinese = len(CHINESE.findall(body)) > len(_LATIN.findall(body))
    return (_CHINESE_VERSE if chinese else _VERSE).findall(body)


def settle_division(options: DataOptions, parts: Sequence[str]) -> DataOptions:
    """Fill in the unit, the separator and `verse` where they say `auto`, by the parts of a text."""
    unit, separator, verse = options.unit, options.separator, options.verse
    if verse == "auto":
        free = unit in ("auto", "document") and separator == "auto"
        verse = free and are_poems(_opening_lines(parts))
    if unit == "auto":
        typed = separator not in ("auto", None)
        unit = "document" if verse or typed else guess_unit(parts)
    if separator == "auto":
        separator = "" if unit == "document" and not verse and len(parts) == 1 else None
    return options.model_copy(update={"unit": unit, "separator": separator, "verse": verse})


def guess_unit(parts: Sequence[str]) -> Unit:
    """Guess the unit of a text from its parts, such as files, each of which may be cut off.

    Ten parts or more are documents, ten or more poems in single lines are documents, a list of
    names is a list of lines. All else is running text, since paragraphs of a novel and stanzas of
    songs stand between blank lines, too.
    """
    lines = _opening_lines(parts)
    if len(parts) >= FEWEST or are_poems(lines):
        return "document"
    return "line" if are_names(lines) else "text"


def _opening_lines(parts: Sequence[str]) -> list[str]:
    """List the lines of the opening of a text, without the last line if it may be cut off."""
    found: list[str] = []
    left = OPENING
    for part in islice(parts, OPENING):
        lines = part[:left].splitlines()
        found += lines[:-1] if len(part) > left and len(lines) > 1 else lines
        left -= len(part)
        if left <= 0:
            break
    return found


def are_poems(lines: Sequence[str]) -> bool:
    """Whether most lines are Chinese poems, each whole, and their titles differ."""
    kept = [line.strip() for line in lines if line.strip()]
    titles = [title[1] for line in kept if (title := _TITLE.match(line))]
    titled = len(titles) > MOST * len(kept) and 2 * len(set(titles)) > len(titles)
    poems = sum(_is_poem(line, titled=titled) for line in kept)
    return poems >= max(FEWEST, MOST * len(kept))


def _is_poem(line: str, *, titled: bool) -> bool:
    """Whether a line is a Chinese poem; verses of different lengths need a title before them."""
    title = _TITLE.match(line)
    body = line if title is None else line[title.end() :]
    verses = [verse.strip().rstrip(_MARKS) for verse in _verses(body)]
    lengths = Counter(map(len, verses))
    if len(verses) < VERSES or body[-1] not in _MARKS or max(lengths) > LONGEST_VERSE:
        return False
    if 2 * len(CHINESE.findall(body)) < len(body):
        return False
    return titled or max(lengths.values()) >= EQUAL * len(verses)


def are_names(lines: Sequence[str]) -> bool:
    """Whether lines are a list of names: short, unindented, unpunctuated, without blank lines."""
    if len(set(lines)) < FEWEST:
        return False
    broken = sum(
        not line.strip()
        or line[0].isspace()
        or len(line) > LONGEST_NAME
        or unicodedata.category(line.rstrip()[-1]).startswith("P")
        for line in lines
    )
    words = sum(max(len(line.split()), len(CHINESE.findall(line)) / 2) for line in lines)
    return broken <= RARE_SYMBOL * len(lines) and words < WORDS * len(lines)


def describe_unit(name: str, unit: Unit, division: Division, part: str) -> str:
    """Say in one line how a text is read, and by which setting it is read otherwise.

    `part` is what its parts are, such as "file".
    """
    separator, verse = division
    kinds = {"text": "running text", "line": "a list of lines", "document": "documents"}
    between = {None: f", one a {part}", "": " between blank lines"}.get(separator, "")
    how = ", poems of one line each" if verse else between * (unit == "document")
    chosen = "data.unit=document data.verse=true" if verse else f"data.unit={unit}"
    other = "line" if unit == "text" else "text"
    reads = "makes each line a sample" if other == "line" else "reads it as running text"
    return f"{name}: read as {kinds[unit]}{how} ({chosen}); data.unit={other} {reads}"
