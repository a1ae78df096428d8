"""Errors that a user can mend, escaped messages, and suggestions for unknown names."""

import os
import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher

# Harmless characters: code needs tabs; Persian, Indic scripts and families of emoji need joiners.
HARMLESS = "\t\u200c\u200d"
LONGEST_VALUE = 300  # characters of a value, such as a path, that a message shows whole
LONGEST_MESSAGE = 3000  # characters
_SUGGESTED = 3  # names in a message
_LEAST = 0.6  # likeness of a suggested name, as in difflib
_NEAR = 0.1  # largest difference in likeness between suggested names
_SAME_LEAF, _SAME_WORD, _SAME_INITIALS = 2.0, 1.5, 1.4
_ENDS = 80  # characters that stay at both ends of a longer value
# a value in quotation marks, or a word
_VALUE = re.compile(r"(?<!\w)'[^']*'(?!\w)|(?<!\w)\"[^\"]*\"(?!\w)|\S+")
_PATHLIB = ("Symlink loop", "Could not determine home")  # beginnings of pathlib's RuntimeErrors


class UserError(Exception):
    """A mistake of the user, for example in a setting or a file.

    The message tells the mistake, its place and a remedy in one line. A command prints this line on
    standard error and exits with status 2; in debug mode it shows the traceback.
    """


def reason(error: BaseException) -> str:
    """Describe an error in one line; name its type, unless it is a `UserError`."""
    if isinstance(error, UserError):
        return in_one_line(str(error))
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return in_one_line(f"{type(error).__name__}: {text}")


def as_option(name: str) -> str:
    """Write the name of an option as on a command line."""
    return "--" + name.replace("_", "-")


def path_problem(error: BaseException) -> str | None:
    """Describe an error about a path in one line; None for any other error."""
    text = str(error)
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)!r}: {error.strerror}: name another path"
    if isinstance(error, ValueError) and "embedded null" in text:
        return "a path has the character NUL, which no file's name can have: name another path"
    if isinstance(error, RuntimeError) and text.startswith(_PATHLIB):
        return f"{text.rstrip('.')}: name another path"
    return None


def in_one_line(message: str) -> str:
    """Escape a message and join it into one line; long values and messages lose their middle."""
    text = escape_line(" ".join(message.split()))
    text = _VALUE.sub(lambda value: _without_middle(value[0], LONGEST_VALUE, _ENDS), text)
    return _without_middle(text, LONGEST_MESSAGE, LONGEST_MESSAGE // 3)


def _without_middle(text: str, longest: int, ends: int) -> str:
    return text if len(text) <= longest else f"{text[:ends]}…{text[-ends:]}"


def escape_line(text: str) -> str:
    """Escape unprintable characters as repr() does; the result is one line, safe on a terminal."""
    return _escape(text, {c for c in set(text) if not c.isprintable()})


def escape_text(text: str, keep: str = "") -> str:
    """Escape unprintable characters, which could steer a terminal.

    Newlines, spaces of Unicode's category Zs, and the characters in `keep` are not escaped.
    """
    escaped = {c for c in set(text) if not (c.isprintable() or c in "\n" + keep)}
    return _escape(text, {c for c in escaped if unicodedata.category(c) != "Zs"})


def _escape(text: str, characters: set[str]) -> str:
    return text.translate({ord(c): repr(c)[1:-1] for c in characters}) if characters else text


def find_nearest(name: str, known: Iterable[str]) -> list[str]:
    """Find at most three other known names that are most like `name`, the nearest first.

    Names that are too unlike are left out. A known name is also found by its last part (lr for
    optimizer.lr), by one word of the last part (epochs for trainer.max_epochs), and by its
    initials.
    """
    ranked = sorted((-_likeness(name, each), len(each), each) for each in set(known) - {name})
    least = max(_LEAST, -ranked[0][0] - _NEAR) if ranked else _LEAST
    return [each for rank, _, each in ranked if -rank >= least][:_SUGGESTED]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known names, as the end of a message; "" if no name is near."""
    names = find_nearest(name, known)
    *first, last = names or [""]
    listed = f"{', '.join(first)} or {last}" if first else last
    return f": did you mean {listed}?" if names else ""


def _likeness(name: str, known: str) -> float:
    """Likeness of two names, from 0 to 1; above 1 for an equal last part, word or initials."""
    typed, full = _plain(name), _plain(known)
    typed_leaf, leaf = (re.split(r"[./=]", each)[-1] for each in (typed, full))
    words = [word for word in leaf.split("_") if word]
    likeness = max(_ratio(typed, full), _ratio(typed_leaf, leaf))
    if typed_leaf == leaf:
        return _SAME_LEAF + 0.1 * likeness
    if typed_leaf in words:
        return _SAME_WORD + 0.1 * likeness
    if typed == _initials(leaf) or leaf == _initials(typed):
        return _SAME_INITIALS + 0.1 * likeness
    return max([likeness, *(0.9 * _ratio(typed_leaf, word) for word in words)])


def _plain(name: str) -> str:
    return name.strip().lstrip("-+~").lower().replace("-", "_")


def _initials(name: str) -> str | None:
    """The first letters of the words, as in lr for learning_rate; None for a single word."""
    return "".join(word[:1] for word in name.split("_")) if "_" in name else None


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
