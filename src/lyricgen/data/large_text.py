"""A running text too long for memory: its file, how it is read, and what tells it from others."""

import hashlib
import json
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lyricgen.data.corpus import prepared_pieces
from lyricgen.data.entry import FORMAT, open_own
from lyricgen.data.options import ControlCharacters, Newline
from lyricgen.data.reading import text_pieces
from lyricgen.data.unpacking import is_packed, unreadable
from lyricgen.files import write_atomically

LARGE = 32_000_000  # bytes of a file beyond which a running text is not held in memory
LARGE_PACKED = 1_000_000  # likewise of a packed one, which may unpack to many times its size
MAX_BYTES = 16_000_000_000  # of a text that is not held in memory
_BLOCK = 1 << 20  # bytes read at a time to be hashed
_SECTION = 1 << 26  # bytes hashed by one thread
_THREADS = 2
MEMORY_BYTES = 1000  # of the file that remembers a sum
SETTLED = 2_000_000_000  # nanoseconds after which a file's time of change tells the next change


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
