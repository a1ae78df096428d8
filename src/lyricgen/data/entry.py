"""One encoded text as a file: its ids, a description in JSON, its sum and length, a mark.

The ids come first so that they are mapped as they lie. N characters, V in the vocabulary.
"""

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from lyricgen.data.checked_mapping import BlockSums, CheckedMapping
from lyricgen.data.corpus import EncodedCorpus, count_ids
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.files import open_ordinary

FORMAT = 2  # goes up with every change of this file's layout, or of how texts are prepared
_END = struct.Struct("<32sQ8s")  # the SHA-256 sum and the bytes of the description, the mark
_MARK = b"lyricgen"


def write_entry(stream: BinaryIO, vocabulary: Vocabulary, pieces: Iterable[str]) -> None:
    """Encode a text that comes in pieces.

    Raises:
        UserError: A piece has characters that the vocabulary does not have.
        OSError: The disk is full or may not be written.
    """
    counts = torch.zeros(len(vocabulary), dtype=torch.int64)
    digest, sums = hashlib.sha256(), BlockSums()
    for piece in pieces:
        ids = vocabulary.encode(piece)
        counts += count_ids(ids, len(vocabulary))
        data = ids.numpy().data.cast("B")
        stream.write(data)
        digest.update(data)
        sums.update(data)
    digest.update(vocabulary.characters.encode())
    described = {
        "characters": vocabulary.characters,
        "counts": counts.tolist(),
        "digest": digest.hexdigest(),
        "sums": sums.sums,
    }
    description = json.dumps(described).encode()
    end = _END.pack(hashlib.sha256(description).digest(), len(description), _MARK)
    stream.write(description + end)


def open_entry(
    path: Path, name: str, restore: Callable[[Callable[[], bool]], None]
) -> EncodedCorpus | None:
    """Map the ids of an entry.

    Args:
        path: Of the entry.
        name: What to call the corpus.
        restore: Writes the entry anew in its place; see `CheckedMapping`.

    Returns:
        The corpus, whose ids are checked where they are read; None where there is no such file,
        or it is damaged.

    Raises:
        UserError: It belongs to another user, who may have put anything into it.
    """
    try:
        with open_own(path) as stream:
            # Private, so that torch may have it writable: nobody writes, and no page is copied.
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        expected, length, mark = _END.unpack(mapping[-_END.size :])
        first = len(mapping) - _END.size - length
        if mark != _MARK or first < 0:
            return None
        description = mapping[first : -_END.size]
        if hashlib.sha256(description).digest() != expected:
            return None
        described: dict[str, Any] = json.loads(description)
        vocabulary = Vocabulary(described["characters"])
        counts = torch.tensor(described["counts"])
        number, digest = int(counts.sum()), str(described["digest"])
        sums: list[int] = described["sums"]
        if len(counts) != len(vocabulary) or first != number * vocabulary.dtype.itemsize:
            return None
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None  # not there or damaged: it is made anew
    dtype = torch.empty(0, dtype=vocabulary.dtype).numpy().dtype
    ids = torch.from_numpy(np.frombuffer(mapping, dtype, number))
    checked = CheckedMapping(mapping, sums, first, restore)
    return EncodedCorpus(name, "text", vocabulary, ids, counts, digest, checked)


@contextmanager
def open_own(path: Path) -> Iterator[BufferedReader]:
    """Open an ordinary file of the cache that this user or root has written.

    Raises:
        OSError: It cannot be opened, or is no ordinary file.
        UserError: It belongs to another user.
    """
    with open_ordinary(path) as stream:
        owner = os.fstat(stream.fileno()).st_uid
        if hasattr(os, "geteuid") and owner not in (0, os.geteuid()):  # not on Windows
            raise UserError(
                f"{str(path)!r} belongs to another user (number {owner}): remove it, or "
                "set LYRICGEN_DATA to a directory of your own"
            )
        yield stream
