"""Note and tags of a run or sweep, in a file of their own in its directory."""

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lyricgen.files import to_json, write_atomically
from lyricgen.runs.directories import NOTES
from lyricgen.runs.record_files import RecordError, check, read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notes:
    """Content of notes.json.

    Attributes:
        note: a text of the user.
        tags: words of the user, in the order in which they were given.
    """

    note: str = ""
    tags: tuple[str, ...] = ()


EMPTY = Notes()


def read_notes(directory: Path) -> Notes:
    """Read the notes of a run or sweep; warn of a damaged file and return empty notes for it."""
    path = directory / NOTES
    if not os.path.lexists(path):
        return EMPTY
    try:
        return check(Notes, read_json(path))
    except RecordError as error:
        log.warning("%s is damaged (%s): its note and tags are lost", path, error)
        return EMPTY


def write_notes(directory: Path, notes: Notes) -> None:
    """Write the notes of a run or sweep; empty notes leave no file.

    Raises:
        OSError: the file cannot be written.
    """
    if notes == EMPTY:
        (directory / NOTES).unlink(missing_ok=True)
    else:
        write_atomically(directory / NOTES, to_json(asdict(notes)))
