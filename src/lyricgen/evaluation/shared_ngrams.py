"""Search for the n-grams of some texts in a longer text.

T characters of the longer text, N of the others together, W their n-grams, S symbols.

The n-gram that starts at i has the hash Σ_k r[x_{i+k}]·B^k mod 2^64, with r a random number for
each symbol (after Karp and Rabin 1987). All of them come from one running sum, whatever n is.

`NgramCounts.number` is exact, but sorts the longer text once for each length from 1 to n and keeps
the result: too much for a text of millions, or for a longest run of hundreds.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lyricgen.models.ngram.counts import Ids

Flags = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]

BASE = 0x9E3779B97F4A7C13  # B
INVERSE = pow(BASE, -1, 2**64)
CHUNK = 1 << 18  # characters of the longer text at a time
SHORT = 8  # length tried first for the longest run


class SharedNgrams:
    """Finds n-grams in a text that is read anew for each question; no index is kept.

    Two different n-grams of up to 12 symbols are taken for the same with a probability of at most
    2^-47.

    Args:
        text: (T,) ids in 0 … S - 1, the longer text.
        symbols: S.
        report: told after each piece of it how many characters have been read so far.
    """

    def __init__(
        self, text: Ids, symbols: int, report: Callable[[int], object] = lambda _: None
    ) -> None:
        self.text = text
        self.report = report
        self._read = 0
        self._numbers: Hashes = np.random.default_rng(0).integers(
            2**64 - 1, size=symbols, dtype=np.uint64, endpoint=True
        )

    def find(self, texts: Sequence[Ids], lengths: Sequence[int]) -> dict[int, Flags]:
        """Look for all n-grams of some texts; none runs from one text into the next.

        Args:
            texts: (N_i,) ids each.
            lengths: the n, in one reading of the longer text.

        Returns:
            For each n, (W,) whether each n-gram, in the texts' order, stands in the longer text.
        """
        searches = {n: _NgramSearch(self._hashes(texts, n)) for n in lengths}
        for hashes in self._chunks(max(lengths, default=1)):
            for n, search in searches.items():
                search.look_through(hashes.of(n))
        return {n: search.found for n, search in searches.items()}

    def longest(self, texts: Sequence[Ids]) -> int:
        """The largest n of an n-gram of the texts that stands in the longer one; 0 for none."""
        low, high = 0, max((len(text) for text in texts), default=0)  # it is one of low … high
        while low < high:
            n = min((low + high + 1) // 2, max(SHORT, 2 * low))
            low, high = (n, high) if self._contains_any(texts, n) else (low, n - 1)
        return low

    def _contains_any(self, texts: Sequence[Ids], n: int) -> bool:
        search = _NgramSearch(self._hashes(texts, n))
        return any(search.look_through(hashes.of(n)) for hashes in self._chunks(n))

    def _hashes(self, texts: Sequence[Ids], n: int) -> Hashes:
        """Hashes of the n-grams of the texts, (W,)."""
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        joined = np.concatenate([np.empty(0, np.int64), *texts]).astype(np.int64)  # (N,)
        left = np.repeat(sizes.cumsum(), sizes) - np.arange(len(joined))  # to the text's end
        hashes = _RunningHashes(joined, self._numbers).of(n)
        return hashes[left[: len(hashes)] >= n]

    def _chunks(self, most: int) -> Iterator["_RunningHashes"]:
        """The longer text in pieces that have all its n-grams of up to `most` symbols."""
        for start in range(0, len(self.text), CHUNK):
            yield _RunningHashes(self.text[start : start + CHUNK + most - 1], self._numbers)
            self._read += len(self.text[start : start + CHUNK])
            self.report(self._read)


class _RunningHashes:
    """The hashes of all n-grams of a piece of text, for any n."""

    def __init__(self, ids: Ids, numbers: Hashes) -> None:
        terms = numbers[ids] * _powers(BASE, len(ids))
        self._sums = np.concatenate([np.zeros(1, np.uint64), terms.cumsum(dtype=np.uint64)])
        self._inverse = _powers(INVERSE, len(ids))

    def of(self, n: int) -> Hashes:
        """Hashes of the n-grams, (N - n + 1,); none of a shorter text."""
        differences = self._sums[n:] - self._sums[:-n]
        hashes: Hashes = differences * self._inverse[: len(differences)]
        return hashes


class _NgramSearch:
    """Search for n-grams, given by their hashes, (W,)."""

    def __init__(self, hashes: Hashes) -> None:
        self._distinct, self._which = np.unique(hashes, return_inverse=True)  # (U,), (W,)
        self._seen = np.zeros(len(self._distinct), np.bool_)
        # most of a text's n-grams are told apart by the first bits, in one look-up
        bits = 4 + len(self._distinct).bit_length()
        self._shift = np.uint64(64 - bits)
        self._first_bits = np.zeros(1 << bits, np.bool_)
        self._first_bits[self._distinct >> self._shift] = True

    def look_through(self, hashes: Hashes) -> bool:
        """Note the n-grams among other hashes; whether there is any."""
        if not len(self._distinct):
            return False
        maybe = hashes[self._first_bits[hashes >> self._shift]]
        index = np.searchsorted(self._distinct, maybe).clip(max=len(self._distinct) - 1)
        there = index[self._distinct[index] == maybe]
        self._seen[there] = True
        return len(there) > 0

    @property
    def found(self) -> Flags:
        """Whether each n-gram was seen, (W,)."""
        flags: Flags = self._seen[self._which]
        return flags


def _powers(base: int, count: int) -> Hashes:
    """1, base, base², … mod 2^64."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return powers.cumprod(dtype=np.uint64)
