"""Every gram of a text, numbered and counted once for models of any order.

Shape legend: T symbols in a text, V in the vocabulary; G_k distinct grams of k symbols in the
training text (G_0 = 1, the empty gram). Leading dimensions, "...", are texts side by side.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.integer[Any]]
Numbers: TypeAlias = npt.NDArray[np.int64]


NOTHING = -1  # in place of an id: no symbol stands there, as before the first one of a stream


class Grams:
    """The distinct grams of a training text up to a length, by their numbers.

    Ids 0..V-1 are the symbols to predict. The id V, where it occurs, is START: it opens a line, is
    context only, and no context reaches back past it. Text without START is one stream.

    Attributes:
        vocabulary_size: V.
        keys: for each length k = 1, 2, …, (G_k,) ascending: the number of the gram's first
            k - 1 symbols times V + 1, plus its last. A gram's number is its index here.
    """

    def __init__(self, vocabulary_size: int, keys: list[Numbers]) -> None:
        self.vocabulary_size = vocabulary_size
        self.keys = keys

    def number(self, ids: Ids, order: int) -> list[Numbers]:
        """Find the grams of 1 to ``order`` symbols that end at each of ``ids``, (..., T) in 0..V.

        Where there is NOTHING, a stream begins after it.

        Returns:
            For each length, (..., T) the number of the gram that ends at t; -1 where the training
            text lacks it or it would reach back past its line or stream.

        Raises:
            ValueError: If ``ids`` holds an id outside 0..V that is not NOTHING.
        """
        text = self._checked(ids, least=NOTHING)
        found: list[Numbers] = []
        for keys in self.keys[:order]:
            found.append(_find(keys, self._wanted(text, found)))
        return found

    def extended(self, numbers: Numbers, symbols: Numbers, length: int) -> Numbers:
        """Find the grams of ``length`` symbols that are numbered ones and one symbol more.

        Args:
            numbers: (...,) of grams one symbol shorter, 0 for the empty gram, -1 for none.
            symbols: (...,) in 0..V, what comes after them.
            length: of the grams to find.

        Returns:
            (...,) their numbers, -1 where the training text lacks them.
        """
        return _find(self.keys[length - 1], numbers * (self.vocabulary_size + 1) + symbols)

    def since_start(self, ids: Ids) -> Numbers:
        """How many symbols of its line or stream end at each, itself and START included."""
        text = self._checked(ids, least=NOTHING)
        steps = np.arange(text.shape[-1])
        opening = np.where(text == self.vocabulary_size, steps, np.where(text < 0, steps + 1, 0))
        since: Numbers = steps - np.maximum.accumulate(opening, axis=-1) + 1
        return since

    def _wanted(self, text: Numbers, found: list[Numbers]) -> Numbers:
        """Give the (..., T) keys of the grams one longer than ``found``; negative for none."""
        prefix = np.zeros_like(text)  # (..., T)
        if found:
            # -1 makes the key negative whatever the symbol is, and longer grams inherit it: set
            # at the stream's first symbol and at each START, it keeps every gram from crossing.
            prefix[..., 1:] = found[-1][..., :-1]
            prefix[..., :1] = prefix[text == self.vocabulary_size] = -1
        return prefix * (self.vocabulary_size + 1) + text

    def _checked(self, ids: Ids, least: int) -> Numbers:
        text = np.asarray(ids, dtype=np.int64)
        if ((text < least) | (text > self.vocabulary_size)).any():
            raise ValueError(f"ids must be symbols in 0..{self.vocabulary_size}")
        return text


class NgramCounts(Grams):
    """The grams of a training text up to a length, counted once for models of every order.

    Attributes:
        counts: for each length, (G_k,) occurrences in the text; 0 for START alone.
        continuations: for each length but the longest, (G_k,) Kneser-Ney's lower-order counts.
    """

    def __init__(self, ids: Ids, vocabulary_size: int, max_order: int) -> None:
        """Count every gram of 1 to ``max_order`` symbols in ``ids``, (T,) in 0..V.

        Raises:
            ValueError: If ``max_order`` < 1, or ``ids`` is not 1-D, leaves 0..V or is all START.
        """
        if max_order < 1:
            raise ValueError(f"max_order must be at least 1, got {max_order}")
        super().__init__(vocabulary_size, [])
        text = self._checked(ids, least=0)
        if text.ndim != 1:
            raise ValueError("ids must be a 1-D array")
        if not (text < vocabulary_size).any():
            raise ValueError("the training text holds no symbol to predict")
        self.counts: list[Numbers] = []
        found: list[Numbers] = []
        for _ in range(max_order):
            wanted = self._wanted(text, found)  # (T,)
            whole = wanted >= 0
            keys, inverse, counts = np.unique(
                wanted[whole], return_inverse=True, return_counts=True
            )  # (G_k,), (T,) at most, (G_k,)
            self.keys.append(keys)
            self.counts.append(counts)
            found.append(np.full_like(wanted, -1))
            found[-1][whole] = inverse
        self.counts[0][self.keys[0] == vocabulary_size] = 0
        self.continuations = self._continuations(found)

    def _continuations(self, found: list[Numbers]) -> list[Numbers]:
        continuations: list[Numbers] = []
        opens_line = self.keys[0] == self.vocabulary_size  # (G_1,), next (G_2,) and so on
        for k, keys in enumerate(self.keys[1:]):
            known = found[k + 1] >= 0  # (T,)
            suffix = np.empty_like(keys)  # (G_{k+2},) the gram without its oldest symbol
            suffix[found[k + 1][known]] = found[k][known]
            preceding = np.bincount(suffix, minlength=len(opens_line))  # (G_{k+1},)
            continuations.append(np.where(opens_line, self.counts[k], preceding))
            opens_line = opens_line[keys // (self.vocabulary_size + 1)]
        return continuations


def _find(keys: Numbers, wanted: Numbers) -> Numbers:
    """Return the index in the ascending keys of each wanted one, -1 where it is not there."""
    if not len(keys):
        return np.full_like(wanted, -1)
    index = np.searchsorted(keys, wanted)
    return np.where(keys[np.minimum(index, len(keys) - 1)] == wanted, index, -1)
