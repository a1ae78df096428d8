"""Encoded texts in the cache directory, which are too long for memory."""

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
from lyricgen.data.cached_files import cache_directory
from lyricgen.data.corpus import FORMAT, EncodedCorpus, open_entry, open_own, write_entry
from lyricgen.data.file_kinds import TextFile, size_error
from lyricgen.data.options import ControlCharacters, Newline
from lyricgen.data.preparation import check_symbols, prepare_pieces
from lyricgen.data.reading import file_kind, reading_error, text_pieces
from lyricgen.data.vocabulary import CharacterCounts
from lyricgen.errors import UserError
from lyricgen.files import replace_file, to_disk, write_atomically

log = logging.getLogger(__name__)

LARGE = 32_000_000  # bytes; a running text from a larger file is not held in memory
LARGE_PACKED = 1_000_000  # the same for a packed file, whose text may be many times as long
_BLOCK = 1 << 20  # bytes read at a time to be hashed
_SECTION = 1 << 26  # bytes hashed by one thread
_THREADS = 2
MEMORY_BYTES = 1000  # most bytes of a file that remembers a checksum
SETTLED = 2_000_000_000  # nanoseconds after which a change of a file surely changes its times
_DAMAGED = "%s: the encoded text %s is damaged; it is encoded anew"


def is_large(path: str | os.PathLike[str]) -> bool:
    """Whether a file's running text is too long for memory; False if no ordinary file is found.

    A file that cannot be read is judged by its size, as a plain file.
    """
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size <= LARGE_PACKED:
            return False
        return found.st_size > LARGE or file_kind(path) != ""
    except (OSError, ValueError):  # reading the file will explain the error
        return False


@dataclass(frozen=True)
class LargeText:
    """A large file of running text, and how to read it.

    `text_pieces`, `prepare` and `CharacterCounts.vocabulary` explain the options.
    """

    path: str | os.PathLike[str]
    encoding: str
    control_characters: ControlCharacters
    newline: Newline
    lowercase: bool
    max_chars: int | None
    max_bytes: int
    min_count: int | None = None

    def stamp(self) -> tuple[int, ...]:
        """Return the file's size, times, inode and device, which show whether it has changed.

        Raises:
            UserError: The file is missing or cannot be reached.
        """
        try:
            found = Path(self.path).stat()
        except OSError as error:
            raise reading_error(error, repr(os.fspath(self.path))) from error
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev

    def key(self, directory: Path, passed: Callable[[int], object]) -> str:
        """Compute a checksum of the file and of the options that change its ids, in hexadecimal.

        Args:
            directory: directory that remembers the checksums of unchanged files.
            passed: called with the number of bytes read so far, unless the checksum is remembered.

        Raises:
            UserError: The file cannot be read, or the file of its remembered checksum belongs to
                another user.
        """
        options = [self.encoding, self.control_characters, self.newline, self.lowercase]
        options += [self.max_chars] if self.min_count is None else [self.max_chars, self.min_count]
        described = json.dumps([FORMAT, unicodedata.unidata_version, *options])
        return hashlib.sha256(
            f"{described} {self._content(directory, passed)}".encode()
        ).hexdigest()

    def _content(self, directory: Path, passed: Callable[[int], object]) -> str:
        """Compute the checksum of the file's bytes, or recall it if the file is unchanged."""
        path = str(Path(self.path).resolve()).encode("utf-8", "surrogateescape")
        memory = directory / f"{hashlib.sha256(path).hexdigest()}.sum"
        stamp = self.stamp()
        with suppress(OSError, ValueError, TypeError, RecursionError):  # missing or damaged
            with open_own(memory) as stream:
                *before, content = json.loads(stream.read(MEMORY_BYTES))
            if before == list(stamp) and isinstance(content, str):
                return content
        content = self._hash(stamp[0], passed)
        # a file just written may be written again without a new time
        settled = time.time_ns() - max(stamp[1:3]) > SETTLED
        if settled and self.stamp() == stamp:
            with suppress(OSError):  # if this fails, the next start hashes again
                directory.mkdir(parents=True, exist_ok=True)
                write_atomically(memory, json.dumps([*stamp, content]))
        return content

    def _hash(self, size: int, passed: Callable[[int], object]) -> str:
        digest = hashlib.sha256()
        # In threads, since a second start spends most of its time on hashing.
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
            raise reading_error(error, repr(os.fspath(self.path))) from error
        return digest.digest()

    def pieces(self, passed: Callable[[int], object]) -> Iterator[str]:
        """Read the prepared text in pieces; call `passed` with the number of bytes read so far.

        `text_pieces` and `prepare_pieces` explain the errors.
        """
        file, controls = TextFile(self.path), self.control_characters
        return prepare_pieces(
            text_pieces(file, self.encoding, self.max_bytes, passed, controls),
            newline=self.newline,
            lowercase=self.lowercase,
            max_chars=self.max_chars,
        )


def encode_large(text: LargeText, name: str) -> EncodedCorpus:
    """Encode a running text of any length into the cache, unless it is there already.

    Processes that need the same text at the same time encode it only once. A damaged file of the
    cache is encoded anew, even if the damage shows only when ids are read.

    Args:
        text: The file, and how to read it.
        name: The text's name in messages.

    Returns:
        The corpus; its ids are mapped from the cache.

    Raises:
        UserError: An option of `text` is wrong; the text is too large, cannot be read or decoded,
            has nothing to learn from, or changes meanwhile; or the cache cannot be written, or a
            file in it belongs to another user.
    """
    stamp = text.stamp()
    if stamp[0] > text.max_bytes:
        raise size_error(repr(os.fspath(text.path)), text.max_bytes)
    with progress(f"reading {name}", stamp[0]) as moved:
        directory = cache_directory() / "encoded"
        entry = directory / f"{text.key(directory, moved)}.ids"
    restore = partial(_restore, text, name, entry)
    corpus = open_entry(entry, name, restore)
    if corpus is not None:
        return corpus
    with _hold_lock(entry, name):
        corpus = open_entry(entry, name, restore)  # another process may just have written it
        if corpus is None:
            if os.path.lexists(entry):
                log.warning(_DAMAGED, name, entry)
            for left_over in directory.glob(f".{entry.name}.*"):
                left_over.unlink()  # of a killed process, since this process holds the lock
            with replace_file(entry) as stream:
                _encode(text, name, stream, stamp)
            log.info("%s: encoded into %s, where it is found from now on", name, directory)
            corpus = open_entry(entry, name, restore)
        if corpus is None:
            raise OSError("what was written does not read back")
        return corpus


def find_encoded(digest: str, name: str) -> EncodedCorpus | None:
    """Find an encoded text in the cache by its digest; None if it is not there.

    Args:
        digest: The digest of an `EncodedCorpus`.
        name: The text's name in messages.

    Returns:
        The corpus; its ids are mapped from the cache. A check that finds damaged ids raises a
        UserError, since there is no text to restore them from.
    """
    for entry in sorted((cache_directory() / "encoded").glob("*.ids")):
        with suppress(UserError):  # another user's entry
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
    """Encode a text again into its damaged file of the cache, in place.

    Args:
        text: The file, and how to read it.
        name: The text's name in messages.
        entry: The damaged file.
        is_sound: Returns whether the damage is gone, since another process has mended it.

    Raises:
        UserError: The text cannot be read or has changed, or the cache cannot be written.
    """
    with _hold_lock(entry, name):
        if is_sound():  # another process has restored it
            return
        log.warning(_DAMAGED, name, entry)
        if entry.name != f"{text.key(entry.parent, lambda _: None)}.ids":
            _refuse_damage(name, entry, is_sound)
        with entry.open("r+b") as stream:
            _encode(text, name, stream, text.stamp())
            stream.truncate()
            to_disk(stream)


@contextmanager
def _hold_lock(entry: Path, name: str) -> Iterator[None]:
    """Hold the lock of a file of the cache during a `with` block.

    The system releases it if the process dies.

    Raises:
        UserError: The lock cannot be taken, or the block raised an OSError, as on a full disk.
    """
    try:
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
    # NotImplementedError: the file system has no locks. Errors of the text are UserErrors.
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot keep the encoded text in {str(entry.parent)!r}: {why}; make room there, or "
            "set LYRICGEN_DATA to another directory"
        ) from error


def _encode(text: LargeText, name: str, stream: BinaryIO, stamp: tuple[int, ...]) -> None:
    problem: UserError | None = None
    try:
        with progress(f"encoding {name}", 2 * stamp[0]) as moved:
            found, length = CharacterCounts(), 0
            for piece in text.pieces(moved):
                found.add(piece)
                length += len(piece)
            check_symbols(found.characters, length, name)
            again = text.pieces(lambda position: moved(stamp[0] + position))
            write_entry(stream, found.vocabulary(text.min_count), again)
    except UserError as error:
        problem = error
    if text.stamp() != stamp:  # the change may have caused the problem
        raise UserError(
            f"{os.fspath(text.path)!r} was changed while it was read; start again once it is whole"
        ) from problem
    if problem is not None:
        raise problem
