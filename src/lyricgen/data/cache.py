"""Texts too long for memory: encoded once, into the cache directory, and mapped from there."""

import hashlib
import json
import logging
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lyricgen.console import progress
from lyricgen.data.code_points import Distinct
from lyricgen.data.corpus import Newline, check_symbols, prepared_pieces
from lyricgen.data.encoding import EncodedCorpus
from lyricgen.data.entry import FORMAT, open_entry, write_entry
from lyricgen.data.reading import text_pieces
from lyricgen.data.sources import cache_directory
from lyricgen.data.unpacking import is_packed, too_large, unreadable
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.files import replacing

log = logging.getLogger(__name__)

LARGE = 32_000_000  # bytes of a file beyond which a running text is not held in memory
LARGE_PACKED = 8_000_000  # likewise of a packed one
MAX_BYTES = 16_000_000_000  # of a text that is not held in memory
_BLOCK = 1 << 20  # bytes read at a time to be hashed
_SECTION = 1 << 26  # bytes hashed by one thread
_THREADS = 2


def is_large(path: str | os.PathLike[str]) -> bool:
    """Whether a running text is too long to be held in memory; False where that cannot be told."""
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size <= LARGE_PACKED:
            return False
        return found.st_size > LARGE or is_packed(path)
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class LargeText:
    """A running text in a file and how it is read; see `text_pieces` and `prepare`."""

    path: str | os.PathLike[str]
    encoding: str
    newline: Newline
    lowercase: bool
    max_chars: int | None
    max_bytes: int

    @property
    def stamp(self) -> tuple[int, ...]:
        """The file's size in bytes, then what else tells whether it has been changed."""
        try:
            found = Path(self.path).stat()
        except OSError as error:
            raise unreadable(error, repr(os.fspath(self.path))) from error
        return found.st_size, found.st_mtime_ns, found.st_ino

    def key(self, passed: Callable[[int], object]) -> str:
        """The sum of what is in the entry: the file's bytes, and the options that matter."""
        options = [self.encoding, self.newline, self.lowercase, self.max_chars]
        described = json.dumps([FORMAT, unicodedata.unidata_version, *options])
        digest = hashlib.sha256(described.encode())
        size = self.stamp[0]
        # Sections, since hashing is most of a second start's work and leaves Python to others.
        with ThreadPoolExecutor(_THREADS) as pool:
            for number, section in enumerate(pool.map(self._section, range(0, size, _SECTION)), 1):
                digest.update(section)
                passed(min(size, number * _SECTION))
        return digest.hexdigest()

    def _section(self, start: int) -> bytes:
        digest, left = hashlib.sha256(), _SECTION
        try:
            with Path(self.path).open("rb") as stream:
                stream.seek(start)
                while left and (block := stream.read(min(_BLOCK, left))):
                    digest.update(block)
                    left -= len(block)
        except OSError as error:
            raise unreadable(error, repr(os.fspath(self.path))) from error
        return digest.digest()

    def pieces(self, passed: Callable[[int], object]) -> Iterator[str]:
        """The prepared text."""
        return prepared_pieces(
            text_pieces(self.path, self.encoding, self.max_bytes, passed),
            newline=self.newline,
            lowercase=self.lowercase,
            max_chars=self.max_chars,
        )


def encode_large(text: LargeText, name: str) -> EncodedCorpus:
    """Encode a running text of any length, or find it encoded already.

    Processes that need the same text at the same time encode it once. A kill leaves no entry, and
    one that is damaged is made anew.

    Args:
        text: The text.
        name: What to call it in messages.

    Returns:
        The corpus, its ids mapped from the cache.

    Raises:
        UserError: If the text cannot be read or has nothing to learn from, if its file changes
            meanwhile, or if the cache cannot be written.
    """
    stamp = text.stamp
    if stamp[0] > text.max_bytes:
        raise too_large(repr(os.fspath(text.path)), text.max_bytes)
    with progress(f"reading {name}", stamp[0]) as moved:
        entry = cache_directory() / "encoded" / f"{text.key(moved)}.ids"
    corpus = open_entry(entry, name)
    if corpus is not None:
        return corpus
    try:
        with _alone(entry, name):
            corpus = open_entry(entry, name)  # another process may just have written it
            if corpus is None:
                _write(text, name, entry, stamp)
                corpus = open_entry(entry, name)
    except (OSError, NotImplementedError) as error:  # of the cache: the text's own are UserErrors
        raise _unwritable(entry.parent, error) from error
    if corpus is None:
        raise _unwritable(entry.parent, OSError("what was written does not read back"))
    return corpus


@contextmanager
def _alone(entry: Path, name: str) -> Iterator[None]:
    """Hold the entry's lock, which the system takes from whoever dies."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(entry.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being encoded by another process: waiting for it", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write(text: LargeText, name: str, entry: Path, stamp: tuple[int, ...]) -> None:
    for left_over in entry.parent.glob(f".{entry.name}.*"):
        left_over.unlink()  # by a process that was killed, since the lock is ours
    size = stamp[0]
    try:
        with progress(f"encoding {name}", 2 * size) as moved, replacing(entry) as stream:
            found, length = Distinct(), 0
            for piece in text.pieces(moved):
                found.add(piece)
                length += len(piece)
            check_symbols(found.characters, length, name)
            again = text.pieces(lambda position: moved(size + position))
            write_entry(stream, Vocabulary(found.characters), again)
            _refuse_change(text, stamp)
    except UserError:  # such as of characters that were not there at first
        _refuse_change(text, stamp)
        raise
    log.info("%s: encoded into %s, where it is found from now on", name, entry.parent)


def _refuse_change(text: LargeText, stamp: tuple[int, ...]) -> None:
    if text.stamp != stamp:
        raise UserError(
            f"{os.fspath(text.path)!r} was changed while it was read; start again once it is whole"
        )


def _unwritable(directory: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"cannot keep the encoded text in {str(directory)!r}: {reason}; make room there, or set "
        "LYRICGEN_DATA to another directory"
    )
