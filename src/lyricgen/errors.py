"""The one kind of error that a user can mend, and words that leave a terminal alone."""

import unicodedata

# Code needs tabs; Persian, Indic scripts and families of emoji need joiners. They steer nothing.
TEXT = "\t\u200c\u200d"


class UserError(Exception):
    """A mistake in what the user asked for: a setting, a file, a name.

    The message is one line that says what is wrong, where, and what to do. The commands print it
    alone on standard error and exit with status 2; from Python it is an ordinary exception.
    """


def reason(error: BaseException) -> str:
    """What went wrong, in one line; an error that no user can mend tells its kind, too."""
    text = " ".join(str(error).split())
    return printable(text if isinstance(error, UserError) else f"{type(error).__name__}: {text}")


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
