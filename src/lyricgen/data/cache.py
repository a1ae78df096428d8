"""Texts too long for memory: encoded once, into the cache directory, and mapped from there."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lyricgen.console import progress
from lyricgen.data.code_points import Distinct
from lyricgen.data.corpus import check_symbols
from lyricgen.data.encoding import EncodedCorpus
from lyricgen.data.entry import open_entry, write_entry
from lyricgen.data.large_text import LargeText
from lyricgen.data.sources import cache_directory
from lyricgen.data.unpacking import too_large
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.files import replacing

log = logging.getLogger(__name__)


def encode_large(text: LargeText, name: str) -> EncodedCorpus:
    """Encode a running text of any length, or find it encoded already.

    Processes that need the same text at the same time encode it once. A kill leaves no entry, and
    one that is cut short or misshapen is made anew; its ids are not summed again.

    Args:
        text: The text.
        name: What to call it in messages.

    Returns:
        The corpus, its ids mapped from the cache.

    Raises:
        UserError: If the text cannot be read or has nothing to learn from, if its file changes
            meanwhile, or if the cache cannot be written.
    """
    stamp = text.stamp()
    if stamp[0] > text.max_bytes:
        raise too_large(repr(os.fspath(text.path)), text.max_bytes)
    with progress(f"reading {name}", stamp[0]) as moved:
        directory = cache_directory() / "encoded"
        entry = directory / f"{text.key(directory, moved)}.ids"
    corpus = open_entry(entry, name)
    if corpus is not None:
        return corpus
    try:
        with _alone(entry, name):
            corpus = open_entry(entry, name)  # another process may just have written it
            if corpus is None:
                _write(text, name, entry, stamp)
                corpus = open_entry(entry, name)
    # The cache's errors; the text's own are UserErrors. filelock raises NotImplementedError on a
    # file system without locks.
    except (OSError, NotImplementedError) as error:
        raise _unwritable(entry.parent, error) from error
    if corpus is None:
        raise _unwritable(entry.parent, OSError("what was written does not read back"))
    return corpus


def find_encoded(digest: str, name: str) -> EncodedCorpus | None:
    """The text of a digest, if the cache has it; the file that it was read from is not needed."""
    for entry in sorted((cache_directory() / "encoded").glob("*.ids")):
        corpus = open_entry(entry, name)
        if corpus is not None and corpus.digest == digest:
            return corpus
    return None


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
