"""Corpora as ids, in memory or in files of the cache.

Shapes: N characters in the corpus, V in the vocabulary. A file of the cache holds the ids, a
description in JSON, the checksum and the length of the description, and a mark.
"""

import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from lyricgen.data.options import ENDS, Unit
from lyricgen.data.preparation import Corpus
from lyricgen.data.units import UNDIVIDED, Division
from lyricgen.data.vocabulary import CharacterCounts, Vocabulary
from lyricgen.errors import UserError
from lyricgen.files import open_ordinary

FORMAT = 2  # to be raised when the layout of the files or the preparation of texts changes
BLOCK = 1 << 24  # bytes of a file that share one checksum
_CHUNK = 1 << 22  # ids counted at a time; bincount takes eight bytes for each
_END = struct.Struct("<32sQ8s")  # SHA-256 checksum and length of the description, mark
_MARK = b"lyricgen"

# A function that writes a damaged file anew, under the same name and inode, or raises a UserError
# if it cannot. Its argument is a function that returns whether the damage is gone.
Restore = Callable[[Callable[[], bool]], None]


class CheckedMapping:
    """A file of ids mapped into memory, with a checksum for each block.

    Code that reads ids calls `check` first. Each block is compared with its checksum only once, so
    later calls are fast.

    Args:
        mapping: the whole file, which begins with the ids.
        sums: the checksum of each block of ids.
        length: bytes of all ids.
        restore: called if a block is damaged or the file is cut short.
    """

    def __init__(
        self, mapping: mmap.mmap, sums: Sequence[int], length: int, restore: Restore
    ) -> None:
        self._mapping = mapping
        self._bytes = np.frombuffer(mapping, np.uint8)
        self._sums = sums
        self._length = length
        self._restore = restore
        self._sound = np.zeros(len(sums), np.bool_)

    def check(self, ids: Tensor, starts: Tensor | None = None, steps: int = 0) -> None:
        """Compare ids with their checksums before they are read; restore damaged ids.

        Args:
            ids: (N,) in this mapping; other tensors are not checked.
            starts: (B,) int64, indices in `ids` at which windows start; None checks all ids.
            steps: characters in a window.

        Raises:
            UserError: the ids are damaged and cannot be restored.
        """
        size = ids.element_size()
        first = ids.data_ptr() - self._bytes.ctypes.data
        if not 0 <= first < self._length:
            return
        # reading beyond the end of a file that was cut short would end the program
        self._require(self._is_whole)
        if self._sound.all():
            return
        if starts is None or steps * size >= BLOCK:
            blocks = np.arange(first // BLOCK, (first + max(1, ids.nbytes) - 1) // BLOCK + 1)
        else:
            begin = np.minimum(first + size * starts.numpy(), self._length - 1)
            end = np.minimum(begin + size * steps, self._length) - 1
            blocks = np.concatenate([begin, end]) // BLOCK
        for block in np.unique(blocks[~self._sound[blocks]]).tolist():
            self._require(partial(self._is_sound, block))
            self._sound[block] = True
            self.forget()

    def forget(self) -> None:
        """Release the memory that holds pages of the file; the next read loads them again."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def _is_whole(self) -> bool:
        return self._mapping.size() >= self._length

    def _is_sound(self, block: int) -> bool:
        stop = min((block + 1) * BLOCK, self._length)
        if not self._is_whole():
            return False
        return zlib.crc32(self._bytes[block * BLOCK : stop].data) == self._sums[block]

    def _require(self, is_sound: Callable[[], bool]) -> None:
        if is_sound():
            return
        self._restore(is_sound)
        if not is_sound():
            raise UserError(
                "the encoded text in the cache is still damaged after it was encoded anew: start "
                "again, or check the disk; LYRICGEN_DATA names a directory on another one"
            )


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus encoded as ids.

    Attributes:
        name: Its name in messages.
        unit: See `preparation.Corpus`.
        vocabulary: Its distinct characters.
        ids: (N,) its characters, of the type `Vocabulary.dtype`.
        counts: (V,) int64, how often each character occurs.
        digest: SHA-256 of the ids, the characters and the rare ones, in hexadecimal; it identifies
            the text.
        mapping: The mapped file of the ids; None for ids in memory.
        division: See `preparation.Corpus`.
    """

    name: str
    unit: Unit
    vocabulary: Vocabulary
    ids: Tensor
    counts: Tensor
    digest: str
    mapping: CheckedMapping | None = None
    division: Division = UNDIVIDED

    def __len__(self) -> int:
        return len(self.ids)

    def decode_opening(self, length: int) -> str:
        """Decode up to `length` characters of the beginning, without leading white space.

        Raises:
            UserError: The mapped ids are damaged and cannot be restored.
        """
        for ids in torch.split(self.ids, length):
            if self.mapping is not None:
                self.mapping.check(ids)
            text = self.vocabulary.decode(ids).lstrip()
            if text:
                return text
        return ""

    @property
    def lines(self) -> list[str]:
        """The lines or documents without their ends, repeats included; not for running text."""
        end = ENDS[self.unit]
        return self.vocabulary.decode(self.ids).removesuffix(end).split(end)


def recode(corpus: EncodedCorpus, vocabulary: Vocabulary) -> EncodedCorpus:
    """Encode a corpus by another vocabulary that has its characters; the digest stays.

    Ids mapped from a file are read into memory.

    Raises:
        UserError: the vocabulary lacks characters of the corpus, or mapped ids are damaged and
            cannot be restored.
    """
    if vocabulary == corpus.vocabulary:
        return corpus
    used = torch.nonzero(corpus.counts).flatten()
    new = torch.zeros(len(corpus.vocabulary), dtype=vocabulary.dtype)  # new id of each old id
    new[used] = vocabulary.encode(corpus.vocabulary.decode(used))
    if corpus.mapping is not None:
        corpus.mapping.check(corpus.ids)
    ids = torch.empty(len(corpus.ids), dtype=vocabulary.dtype)
    for part, chunk in zip(torch.split(ids, _CHUNK), torch.split(corpus.ids, _CHUNK), strict=True):
        part.copy_(new[chunk.long()])
    counts = torch.zeros(len(vocabulary), dtype=torch.int64)
    counts[new[used].long()] = corpus.counts[used]
    return replace(corpus, vocabulary=vocabulary, ids=ids, counts=counts, mapping=None)


def encode(corpus: Corpus, min_count: int | None = None) -> EncodedCorpus:
    """Encode a prepared corpus as ids in memory.

    `CharacterCounts.vocabulary` explains `min_count` and the errors.
    """
    found = CharacterCounts()
    found.add(corpus.text)
    vocabulary = found.vocabulary(min_count, ENDS.get(corpus.unit, ""))
    ids = vocabulary.encode(corpus.text)
    digest = hashlib.sha256(ids.numpy().data)
    digest.update((vocabulary.characters + vocabulary.rare).encode())
    counts = count_ids(ids, len(vocabulary))
    return EncodedCorpus(
        *(corpus.name, corpus.unit, vocabulary, ids, counts, digest.hexdigest()),
        division=corpus.division,
    )


def count_ids(ids: Tensor, size: int) -> Tensor:
    """Count how often each id from 0 to size - 1 occurs, (size,) int64; ignore larger ids."""
    counts = torch.zeros(size, dtype=torch.int64)
    for chunk in torch.split(ids, _CHUNK):
        counts += torch.bincount(chunk, minlength=size)[:size]
    return counts


def write_entry(stream: BinaryIO, vocabulary: Vocabulary, pieces: Iterable[str]) -> None:
    """Encode a text, given in pieces, into an open file of the cache.

    Raises:
        UserError: A piece has characters that the vocabulary does not have.
        OSError: The file cannot be written.
    """
    counts = torch.zeros(len(vocabulary), dtype=torch.int64)
    digest, sums, length = hashlib.sha256(), [], 0
    for piece in pieces:
        ids = vocabulary.encode(piece)
        counts += count_ids(ids, len(vocabulary))
        data = ids.numpy().data.cast("B")
        stream.write(data)
        digest.update(data)
        while len(data):
            room = BLOCK - length % BLOCK
            if room == BLOCK:
                sums.append(0)
            sums[-1] = zlib.crc32(data[:room], sums[-1])
            length += len(data[:room])
            data = data[room:]
    digest.update((vocabulary.characters + vocabulary.rare).encode())
    described = {
        "characters": vocabulary.characters,
        "rare": vocabulary.rare,
        "counts": counts.tolist(),
        "digest": digest.hexdigest(),
        "sums": sums,
    }
    description = json.dumps(described).encode()
    end = _END.pack(hashlib.sha256(description).digest(), len(description), _MARK)
    stream.write(description + end)


def open_entry(path: Path, name: str, restore: Restore) -> EncodedCorpus | None:
    """Open a file of the cache and map its ids.

    Args:
        path: The file.
        name: The corpus's name in messages.
        restore: See `Restore`.

    Returns:
        The corpus; None if the file cannot be opened or its description is damaged. The ids are
        checked only when they are read.

    Raises:
        UserError: The file belongs neither to this user nor to root.
    """
    try:
        with open_own(path) as stream:
            # ACCESS_COPY, since torch wants a writable buffer; nothing is written to the file.
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        expected, length, mark = _END.unpack(mapping[-_END.size :])
        first = len(mapping) - _END.size - length
        if mark != _MARK or first < 0:
            return None
        description = mapping[first : -_END.size]
        if hashlib.sha256(description).digest() != expected:
            return None
        described: dict[str, Any] = json.loads(description)
        vocabulary = Vocabulary(described["characters"], described.get("rare", ""))
        counts = torch.tensor(described["counts"])
        number, digest = int(counts.sum()), str(described["digest"])
        sums: list[int] = described["sums"]
        if len(counts) != len(vocabulary) or first != number * vocabulary.dtype.itemsize:
            return None
        ids = torch.frombuffer(mapping, dtype=vocabulary.dtype, count=number)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None  # missing or damaged: the file is made anew
    checked = CheckedMapping(mapping, sums, first, restore)
    return EncodedCorpus(name, "text", vocabulary, ids, counts, digest, checked)


def open_own(path: Path) -> BufferedReader:
    """Open an ordinary file of the cache that belongs to this user or to root.

    Raises:
        OSError: The file cannot be opened, or is no ordinary file.
        UserError: The file belongs neither to this user nor to root.
    """
    stream = open_ordinary(path)
    owner = os.fstat(stream.fileno()).st_uid
    if hasattr(os, "geteuid") and owner not in (0, os.geteuid()):  # not on Windows
        stream.close()
        raise UserError(
            f"{str(path)!r} belongs to another user (number {owner}): remove it, or "
            "set LYRICGEN_DATA to a directory of your own"
        )
    return stream
