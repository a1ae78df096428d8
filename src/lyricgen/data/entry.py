"""One encoded text as a file: its ids, a description in JSON, the description's length, a mark.

The ids come first so that they are mapped as they lie. N characters, V in the vocabulary.
"""

import hashlib
import json
import mmap
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from lyricgen.data.encoding import EncodedCorpus, count_ids
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError

FORMAT = 1  # goes up with every change of this file's layout, or of how texts are prepared
_END = struct.Struct("<Q8s")  # bytes of the description, the mark
_MARK = b"lyricgen"


def write_entry(stream: BinaryIO, vocabulary: Vocabulary, pieces: Iterable[str]) -> None:
    """Encode a text that comes in pieces.

    Raises:
        UserError: A piece has characters that the vocabulary does not have.
        OSError: The disk is full or may not be written.
    """
    counts = torch.zeros(len(vocabulary), dtype=torch.int64)
    digest = hashlib.sha256()
    for piece in pieces:
        ids = vocabulary.encode(piece)
        counts += count_ids(ids, len(vocabulary))
        stream.write(ids.numpy().data)
        digest.update(ids.numpy().data)
    digest.update(vocabulary.characters.encode())
    described = {
        "characters": vocabulary.characters,
        "counts": counts.tolist(),
        "digest": digest.hexdigest(),
    }
    description = json.dumps(described).encode()
    stream.write(description + _END.pack(len(description), _MARK))


def open_entry(path: Path, name: str) -> EncodedCorpus | None:
    """Map the ids of an entry.

    Args:
        path: Of the entry.
        name: What to call the corpus.

    Returns:
        The corpus; None where there is no such file, or it is damaged.
    """
    try:
        with path.open("rb") as stream:
            # Private, so that torch may have it writable: nobody writes, and no page is copied.
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        length, mark = _END.unpack(mapping[-_END.size :])
        first = len(mapping) - _END.size - length
        if mark != _MARK or first < 0:
            return None
        described: dict[str, Any] = json.loads(mapping[first : -_END.size])
        vocabulary = Vocabulary(described["characters"])
        counts = torch.tensor(described["counts"])
        number, digest = int(counts.sum()), str(described["digest"])
        if len(counts) != len(vocabulary) or first != number * vocabulary.dtype.itemsize:
            return None
    except (OSError, ValueError, KeyError, TypeError, struct.error, UserError):
        return None  # not there or damaged: it is made anew
    dtype = torch.empty(0, dtype=vocabulary.dtype).numpy().dtype
    ids = torch.from_numpy(np.frombuffer(mapping, dtype, number))
    return EncodedCorpus(name, "text", vocabulary, ids, counts, digest, mapping)
