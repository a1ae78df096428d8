"""Texts on the command line of evaluate: typed, or in files."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lyricgen.data.reading import read_text
from lyricgen.errors import UserError
from lyricgen.evaluation.own_text import TextArgument

MAX_BYTES = 10_000_000  # largest file; scoring takes about 130 bytes of memory for each byte
# patterns in the messages of training, and their replacements for the command evaluate
_WORDS = {
    r"data\.encoding=": "--encoding ",
    r"data\.path=FILE": "{option} FILE",
    r"raise the limit, for example data\.max_bytes=\d+": "score it in parts",
}


@contextmanager
def translate_options(option: str = "--text") -> Iterator[None]:
    """Replace the options of training in an error of a `with` block by the options of evaluate.

    `option` is the option that names the text.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
        for theirs, ours in _WORDS.items():
            message = re.sub(theirs, ours.format(option=option), message)
        raise UserError(message) from error


def read_text_argument(argument: str, encoding: str | None = None) -> TextArgument:
    """Read the text of `--text`: a file's content, or the argument itself if no file has this name.

    `encoding` is the encoding of the file; None means UTF-8.

    Raises:
        UserError: the argument names a directory or looks like the name of a missing file; the file
            cannot be read as a text of up to `MAX_BYTES`; or an encoding is given without a file.
        OSError: the existence of the file cannot be checked, for example for lack of permission.
    """
    shown = repr(argument)
    if os.path.isdir(argument):  # noqa: PTH112
        raise UserError(f"--text {shown} is a directory: name a file in it")
    try:
        is_file = argument != "" and Path(argument).exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # a text may be longer than a path can be
            raise
        is_file = False
    if is_file:
        return TextArgument(_read_file(argument, "--text", encoding), Path(argument))
    if _looks_like_path(argument):
        raise UserError(
            f"--text {shown} is not there; a text that looks like a file's name has to be in a file"
        )
    if encoding is not None:
        raise UserError(
            "--encoding is a file's, and --text is no file's name: leave --encoding out"
        )
    return TextArgument(argument, None)


def _read_file(path: str | Path, option: str, encoding: str | None = None) -> str:
    """Read the file of an option of evaluate, such as "--text".

    Control characters stay until `replace_controls`, which needs a model.
    """
    with translate_options(option):
        return read_text(path, encoding or "utf-8", MAX_BYTES, control_characters=None)


def read_lines(path: str | Path, encoding: str | None = None) -> list[str]:
    r"""Read the lines of the file of --lines, which end with "\n", "\r\n" or "\r".

    Lines of white space are lines, too. `read_text_argument` explains the encoding and the errors.
    """
    text = _read_file(path, "--lines", encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _looks_like_path(argument: str) -> bool:
    """Whether an argument looks like a file's name, by its ending or its directory."""
    if "\n" in argument:
        return False
    directory = os.path.dirname(argument)  # noqa: PTH120
    named = directory.startswith((os.sep, f"~{os.sep}")) or directory in (".", "..", "~")
    ending = argument.lower().endswith((".txt", ".md", ".gz", ".bz2", ".xz", ".zip"))
    return ending or named or (directory != "" and os.path.isdir(directory))  # noqa: PTH112
