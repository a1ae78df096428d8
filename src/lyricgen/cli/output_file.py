"""A file that the user named, to be written when the work is done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lyricgen.errors import UserError
from lyricgen.files import replacing


def check_output(option: str, path: Path, suffix: str) -> None:
    """Refuse, before any work, a file that could not be written.

    Raises:
        UserError: another suffix, no directory for it, or itself one.
    """
    if path.suffix.lower() != suffix:
        raise UserError(f"{option} {str(path)!r}: give a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise UserError(f"{option} {str(path)!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise UserError(f"{option} {str(path)!r} is a directory: name a file")


@contextmanager
def writing(option: str, path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes its name when it is whole.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with replacing(path, follow_link=True) as stream:
            yield stream
    except OSError as error:
        raise UserError(f"{option} {str(path)!r} cannot be written: {error.strerror}") from error
