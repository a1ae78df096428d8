"""Value of --text: a file, or the text itself."""

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from lyricgen.data.reading import read_text
from lyricgen.errors import UserError

# an option of the training run, as a pattern -> the words of the command line here
WORDS = {
    r"data\.encoding=": "--encoding ",
    r"data\.path=FILE": "--text FILE",
    r"raise the limit, for example data\.max_bytes=\d+": "score it in parts",
}
MAX_BYTES = 10_000_000  # of a file; scoring takes some 130 bytes of memory for each


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
        """Name for messages."""
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
            # the model's training decides what becomes of control characters
            text = read_text(argument, encoding or "utf-8", MAX_BYTES, control_characters=None)
            return TextArgument(text, Path(argument))
        except UserError as error:
            raise in_own_words(error) from error
    if looks_like_path(argument):
        raise UserError(
            f"--text {shown} is not there; a text that looks like a file's name has to be in a file"
        )
    if encoding is not None:
        raise UserError(
            "--encoding is a file's, and --text is no file's name: leave --encoding out"
        )
    return TextArgument(argument, None)


def in_own_words(error: UserError) -> UserError:
    """An error of reading a text, with the options of this command."""
    message = str(error)
    for theirs, ours in WORDS.items():
        message = re.sub(theirs, ours, message)
    return UserError(message)


def _is_there(argument: str) -> bool:
    """Whether a file has this name.

    Raises:
        OSError: nobody can tell, for want of permission or because links lead in a circle.
    """
    try:
        os.stat(argument)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the answer
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
    ending = argument.lower().endswith((".txt", ".md", ".gz", ".bz2", ".xz", ".zip"))
    return ending or named or (place != "" and os.path.isdir(place))  # noqa: PTH112
