"""The one kind of error that a user can mend, and words that leave a terminal alone."""

import unicodedata


class UserError(Exception):
    """A mistake in what the user asked for: a setting, a file, a name.

    The message is one line that says what is wrong, where, and what to do. The commands print it
    alone on standard error and exit with status 2; from Python it is an ordinary exception.
    """


def printable(text: str) -> str:
    """The text with everything that could steer a terminal escaped, as repr() would."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_text(text: str) -> str:
    """A text as a terminal may have it: its newlines and spaces kept, what could steer escaped."""
    kept = {"Zs"}  # spaces, the ideographic one too, which isprintable() counts out
    return "".join(
        c if c == "\n" or c.isprintable() or unicodedata.category(c) in kept else repr(c)[1:-1]
        for c in text
    )
