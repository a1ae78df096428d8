"""A file of ids mapped into memory; each block is compared with its checksum once."""

import mmap
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from lyricgen.errors import UserError

BLOCK = 1 << 24  # bytes that one checksum is of


class CheckedMapping:
    """The mapping of a file of ids.

    Whoever reads ids from it calls `check` before, which costs some microseconds once a block is
    known to be sound.

    Args:
        mapping: of the whole file, at whose beginning the ids lie.
        sums: the checksum of each block of ids.
        length: bytes of all ids.
        restore: called with a function that tells whether all is well again, once a block is
            damaged or the file is cut short: makes it as it was, under the same name and inode.
    """

    def __init__(
        self,
        mapping: mmap.mmap,
        sums: Sequence[int],
        length: int,
        restore: Callable[[Callable[[], bool]], None],
    ) -> None:
        self._mapping = mapping
        self._bytes = np.frombuffer(mapping, np.uint8)
        self._address = self._bytes.ctypes.data
        self._sums = sums
        self._length = length
        self._restore = restore
        self._sound = np.zeros(len(sums), np.bool_)
        self._all_sound = False

    def check(self, ids: Tensor, starts: Tensor | None = None, steps: int = 0) -> None:
        """Check that ids can be read and are the ids that were written.

        Args:
            ids: (N,) in this mapping; others are not looked at.
            starts: (B,) where the windows start that are to be read; None for all ids.
            steps: characters in a window.

        Raises:
            UserError: they are not, and cannot be restored.
        """
        size = ids.element_size()
        first = ids.data_ptr() - self._address
        if not 0 <= first < self._length:
            return
        # reading beyond the end of a file that was cut short would end the program
        if not self._is_whole():
            self._mend(self._is_whole)
        if self._all_sound:
            return
        if starts is None or steps * size >= BLOCK:
            blocks = np.arange(first // BLOCK, (first + max(1, ids.nbytes) - 1) // BLOCK + 1)
        else:
            begin = np.minimum(first + size * starts.numpy(), self._length - 1)
            end = np.minimum(begin + size * steps, self._length) - 1
            blocks = np.concatenate([begin, end]) // BLOCK
        for block in np.unique(blocks[~self._sound[blocks]]).tolist():
            if not self._is_sound(block):
                self._mend(partial(self._is_sound, block))
            self._sound[block] = True
            self.forget()
        self._all_sound = bool(self._sound.all())

    def forget(self) -> None:
        """Give back the memory in which the file's pages are mapped; reading brings them back."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def _is_whole(self) -> bool:
        return self._mapping.size() >= self._length

    def _is_sound(self, block: int) -> bool:
        stop = min((block + 1) * BLOCK, self._length)
        if not self._is_whole():
            return False
        return zlib.crc32(self._bytes[block * BLOCK : stop].data) == self._sums[block]

    def _mend(self, is_mended: Callable[[], bool]) -> None:
        self._restore(is_mended)
        if not is_mended():
            raise UserError(
                "the encoded text in the cache is still damaged after it was encoded anew: start "
                "again, or check the disk; LYRICGEN_DATA names a directory on another one"
            )


class BlockSums:
    """The checksum of each block of bytes that come one after the other."""

    def __init__(self) -> None:
        self.sums: list[int] = []
        self._length = 0

    def update(self, data: memoryview) -> None:
        """Take more bytes."""
        while len(data):
            room = BLOCK - self._length % BLOCK
            if room == BLOCK:
                self.sums.append(0)
            self.sums[-1] = zlib.crc32(data[:room], self.sums[-1])
            self._length += len(data[:room])
            data = data[room:]
