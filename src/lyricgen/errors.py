"""The one kind of error that a user can mend, and texts made safe for a terminal."""

import os
import re
import unicodedata

# Code needs tabs; Persian, Indic scripts and families of emoji need joiners. They steer nothing.
TEXT = "\t\u200c\u200d"

LONGEST_VALUE = 300  # characters of a value, a path for example, that a message shows whole
LONGEST_MESSAGE = 3000
_ENDS = 80  # characters that stay at both ends of a longer value
# a value in quotation marks, or a word
_VALUE = re.compile(r"(?<!\w)'[^']*'(?!\w)|(?<!\w)\"[^\"]*\"(?!\w)|\S+")
_PATHLIB = ("Symlink loop", "Could not determine home")  # what pathlib says by a RuntimeError


class UserError(Exception):
    """A mistake in what the user asked for: a setting, a file, a name.

    The message is one line that says what is wrong, where, and what to do. The commands print it
    alone on standard error and exit with status 2; from Python it is an ordinary exception.
    """


def reason(error: BaseException) -> str:
    """Describe an error in one line; the type is named unless a user can mend it."""
    if isinstance(error, UserError):
        return in_one_line(str(error))
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return in_one_line(f"{type(error).__name__}: {text}")


def as_option(name: str) -> str:
    """An option as it stands on a command line."""
    return "--" + name.replace("_", "-")


def path_problem(error: BaseException) -> str | None:
    """Describe in one line what is wrong with a path; None for an error of another kind."""
    text = str(error)
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        return f"{os.fsdecode(error.filename)!r}: {error.strerror}: name another path"
    if isinstance(error, ValueError) and "embedded null" in text:
        return "a path has the character NUL, which no file's name can have: name another path"
    if isinstance(error, RuntimeError) and text.startswith(_PATHLIB):
        return f"{text.rstrip('.')}: name another path"
    return None


def in_one_line(message: str) -> str:
    """A message for the terminal, in one line; the middle of very long values is left out."""
    text = printable(" ".join(message.split()))
    text = _VALUE.sub(lambda value: _without_middle(value[0], LONGEST_VALUE, _ENDS), text)
    return _without_middle(text, LONGEST_MESSAGE, LONGEST_MESSAGE // 3)


def _without_middle(text: str, longest: int, ends: int) -> str:
    return text if len(text) <= longest else f"{text[:ends]}…{text[-ends:]}"


def printable(text: str) -> str:
    """The text in one line, everything that could steer a terminal escaped, as repr() would."""
    return _escaped(text, {c for c in set(text) if not c.isprintable()})


def printable_text(text: str, keep: str = "") -> str:
    """A text as a terminal may have it: its newlines and spaces kept, what could steer escaped.

    That is all of Unicode's control, format, surrogate, private and unassigned characters, and
    the separators of lines and paragraphs, but for those in `keep`. Combining marks and emoji stay.
    """
    escaped = {c for c in set(text) if not (c.isprintable() or c in "\n" + keep)}
    return _escaped(text, {c for c in escaped if unicodedata.category(c) != "Zs"})


def _escaped(text: str, characters: set[str]) -> str:
    return text.translate({ord(c): repr(c)[1:-1] for c in characters}) if characters else text
