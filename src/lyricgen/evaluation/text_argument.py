"""What --text says: a file, or the text itself."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from lyricgen.data.reading import read_text
from lyricgen.errors import UserError

# the words of an option of the training run, in those of the command line here
WORDS = {
    "data.encoding=": "--encoding ",
    "data.path=FILE": "--text FILE",
    "raise the limit, for example data.max_bytes=": "cut it, or give it in parts of ",
}


@dataclass(frozen=True)
class TextArgument:
    """A text as it was given.

    Attributes:
        text: with any of the three line ends.
        file: that it was read from; None where it was given itself.
    """

    text: str
    file: Path | None

    @property
    def name(self) -> str:
        """What to call it."""
        return repr(str(self.file)) if self.file is not None else "the text given"


def read_text_argument(argument: str, encoding: str | None = None) -> TextArgument:
    """A file's text, or the argument itself where there is no such file.

    Args:
        argument: what was typed.
        encoding: of the file; None for UTF-8.

    Raises:
        UserError: it looks like the name of a file that is not there, the file is no text, or
            there is no file whose encoding it could be.
    """
    shown = repr(argument)
    if os.path.isdir(argument):  # noqa: PTH112
        raise UserError(f"--text {shown} is a directory: name a file in it")
    if _is_there(argument):
        try:
            return TextArgument(read_text(argument, encoding or "utf-8"), Path(argument))
        except UserError as error:
            message = str(error)
            for theirs, ours in WORDS.items():
                message = message.replace(theirs, ours)
            raise UserError(message) from error
    if looks_like_path(argument):
        raise UserError(
            f"--text {shown} is not there; a text that looks like a file's name has to be in a file"
        )
    if encoding is not None:
        raise UserError(
            "--encoding is a file's, and --text is no file's name: leave --encoding out"
        )
    return TextArgument(argument, None)


def _is_there(argument: str) -> bool:
    """Whether a file has this name.

    Raises:
        OSError: nobody can tell, for want of permission or because links lead in a circle.
    """
    try:
        os.stat(argument)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a text may be longer than a path can be
            return False
        raise
    return True


def looks_like_path(argument: str) -> bool:
    """Whether somebody who types this means a file: by its ending, or by the directory it is in."""
    if "\n" in argument:
        return False
    place = os.path.dirname(argument)  # noqa: PTH120
    named = place.startswith((os.sep, f"~{os.sep}")) or place in (".", "..", "~")
    ending = argument.lower().endswith((".txt", ".md", ".gz", ".zip"))
    return ending or named or (place != "" and os.path.isdir(place))  # noqa: PTH112
