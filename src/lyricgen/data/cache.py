"""Texts too long for memory: encoded once, into the cache directory, and mapped from there."""

import hashlib
import json
import logging
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from filelock import FileLock, Timeout

from lyricgen.console import progress
from lyricgen.data.corpus import EncodedCorpus, check_symbols, prepared_pieces
from lyricgen.data.entry import FORMAT, open_entry, open_own, write_entry
from lyricgen.data.options import ControlCharacters, Newline
from lyricgen.data.reading import is_packed, text_pieces, too_large, unreadable
from lyricgen.data.sources import cache_directory
from lyricgen.data.vocabulary import Distinct, Vocabulary
from lyricgen.errors import UserError
from lyricgen.files import replacing, to_disk, write_atomically

log = logging.getLogger(__name__)

LARGE = 32_000_000  # bytes of a file beyond which a running text is not held in memory
LARGE_PACKED = 1_000_000  # likewise of a packed one, which may unpack to many times its size
MAX_BYTES = 16_000_000_000  # of a text that is not held in memory
_BLOCK = 1 << 20  # bytes read at a time to be hashed
_SECTION = 1 << 26  # bytes hashed by one thread
_THREADS = 2
MEMORY_BYTES = 1000  # of the file that remembers a sum
SETTLED = 2_000_000_000  # nanoseconds after which a file's time of change tells the next change
_DAMAGED = "%s: the encoded text %s is damaged; it is encoded anew"


def is_large(path: str | os.PathLike[str]) -> bool:
    """Whether a running text is too long to be held in memory; False where that cannot be told."""
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size <= LARGE_PACKED:
            return False
        return found.st_size > LARGE or is_packed(path)
    except (OSError, ValueError):  # whoever reads it says why
        return False


@dataclass(frozen=True)
class LargeText:
    """A running text in a file and how it is read; see `text_pieces` and `prepare`."""

    path: str | os.PathLike[str]
    encoding: str
    control_characters: ControlCharacters
    newline: Newline
    lowercase: bool
    max_chars: int | None
    max_bytes: int

    def stamp(self) -> tuple[int, ...]:
        """The file's size in bytes, then what else tells whether it has been changed."""
        try:
            found = Path(self.path).stat()
        except OSError as error:
            raise unreadable(error, repr(os.fspath(self.path))) from error
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev

    def key(self, directory: Path, passed: Callable[[int], object]) -> str:
        """The sum of what is in the entry: the file's bytes, and the options that matter.

        Args:
            directory: of the cache, where the sum of an unchanged file is found again.
            passed: is told how many bytes have been read.
        """
        options = [self.encoding, self.control_characters, self.newline, self.lowercase]
        described = json.dumps([FORMAT, unicodedata.unidata_version, *options, self.max_chars])
        return hashlib.sha256(
            f"{described} {self._content(directory, passed)}".encode()
        ).hexdigest()

    def _content(self, directory: Path, passed: Callable[[int], object]) -> str:
        """The sum of the file's bytes: of an unchanged file, the one that was found before."""
        path = str(Path(self.path).resolve()).encode("utf-8", "surrogateescape")
        memory = directory / f"{hashlib.sha256(path).hexdigest()}.sum"
        stamp = self.stamp()
        # no sum is kept, or a damaged one
        with suppress(OSError, ValueError, TypeError, RecursionError):
            with open_own(memory) as stream:
                *before, content = json.loads(stream.read(MEMORY_BYTES))
            if before == list(stamp) and isinstance(content, str):
                return content
        content = self._hash(stamp[0], passed)
        # a file that was written a moment ago may be written again within the same tick
        settled = time.time_ns() - max(stamp[1:3]) > SETTLED
        if settled and self.stamp() == stamp:
            with suppress(OSError):  # it will be found again
                directory.mkdir(parents=True, exist_ok=True)
                write_atomically(memory, json.dumps([*stamp, content]))
        return content

    def _hash(self, size: int, passed: Callable[[int], object]) -> str:
        digest = hashlib.sha256()
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
            text_pieces(self.path, self.encoding, self.max_bytes, passed, self.control_characters),
            newline=self.newline,
            lowercase=self.lowercase,
            max_chars=self.max_chars,
        )


def encode_large(text: LargeText, name: str) -> EncodedCorpus:
    """Encode a running text of any length, or find it encoded already.

    Processes that need the same text at the same time encode it once. A kill leaves no entry. A
    damaged one is made anew, also where that is found out only when its ids are read.

    Args:
        text: The text.
        name: What to call it in messages.

    Returns:
        The corpus, its ids mapped from the cache.

    Raises:
        UserError: If the text cannot be read or has nothing to learn from, if its file changes
            meanwhile, or if the cache cannot be written or has another user's entry.
    """
    stamp = text.stamp()
    if stamp[0] > text.max_bytes:
        raise too_large(repr(os.fspath(text.path)), text.max_bytes)
    with progress(f"reading {name}", stamp[0]) as moved:
        directory = cache_directory() / "encoded"
        key = text.key(directory, moved)
    entry = directory / f"{key}.ids"
    restore = partial(_restore, text, name, entry)
    corpus = open_entry(entry, name, restore)
    if corpus is not None:
        return corpus
    try:
        with _alone(entry, name):
            # another process may just have written it
            corpus = open_entry(entry, name, restore)
            if corpus is None:
                if os.path.lexists(entry):
                    log.warning(_DAMAGED, name, entry)
                _write(text, name, entry, stamp)
                corpus = open_entry(entry, name, restore)
    # The cache's errors; the text's own are UserErrors. filelock raises NotImplementedError on a
    # file system without locks.
    except (OSError, NotImplementedError) as error:
        raise _unwritable(entry.parent, error) from error
    if corpus is None:
        raise _unwritable(entry.parent, OSError("what was written does not read back"))
    return corpus


def find_encoded(digest: str, name: str) -> EncodedCorpus | None:
    """Find the text of a digest in the cache; its file is not needed."""
    for entry in sorted((cache_directory() / "encoded").glob("*.ids")):
        with suppress(UserError):  # of another user
            corpus = open_entry(entry, name, partial(_refuse_damage, name, entry))
            if corpus is not None and corpus.digest == digest:
                return corpus
    return None


def _refuse_damage(name: str, entry: Path, is_sound: Callable[[], bool]) -> NoReturn:
    del is_sound
    raise UserError(
        f"the encoded text {str(entry)!r} is damaged, and {name!r}, which it is made of, is not "
        "there or has changed: bring that text back"
    )


def _restore(text: LargeText, name: str, entry: Path, is_sound: Callable[[], bool]) -> None:
    """Write an entry anew in its place, where it is mapped.

    Raises:
        UserError: the text is another one by now, or the entry cannot be written.
    """
    try:
        with _alone(entry, name):
            if is_sound():  # another process has restored it
                return
            log.warning(_DAMAGED, name, entry)
            if entry.name != f"{text.key(entry.parent, lambda _: None)}.ids":
                _refuse_damage(name, entry, is_sound)
            with entry.open("r+b") as stream:
                _encode(text, name, stream, text.stamp())
                stream.truncate()
                to_disk(stream)
    except (OSError, NotImplementedError) as error:
        raise _unwritable(entry.parent, error) from error


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
    with replacing(entry) as stream:
        _encode(text, name, stream, stamp)
    log.info("%s: encoded into %s, where it is found from now on", name, entry.parent)


def _encode(text: LargeText, name: str, stream: BinaryIO, stamp: tuple[int, ...]) -> None:
    size = stamp[0]
    try:
        with progress(f"encoding {name}", 2 * size) as moved:
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


def _refuse_change(text: LargeText, stamp: tuple[int, ...]) -> None:
    if text.stamp() != stamp:
        raise UserError(
            f"{os.fspath(text.path)!r} was changed while it was read; start again once it is whole"
        )


def _unwritable(directory: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"cannot keep the encoded text in {str(directory)!r}: {reason}; make room there, or set "
        "LYRICGEN_DATA to another directory"
    )
