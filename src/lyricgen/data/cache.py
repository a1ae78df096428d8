"""Texts too long for memory: encoded once, into the cache directory, and mapped from there."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

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
from lyricgen.files import replacing, to_disk

log = logging.getLogger(__name__)

_DAMAGED = "%s: the encoded text %s is damaged; it is encoded anew"


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
