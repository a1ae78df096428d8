"""Smoothed n-gram models over character ids: the baseline that a recurrent model has to beat.

Two interpolated smoothings, both of the form

    p_k(w | h) = direct(h w) + passed(h) p_{k-1}(w | h'),    p_0(w) = 1 / V,

where h' is h without its oldest symbol. With c(h) the sum of c(h w) over w, T(h) the number of w
with c(h w) > 0, and D = n1 / (n1 + 2 n2) of the order, where c is i for n_i of its grams (D is one
half where n1 or n2 is 0, for it would discount nothing or everything):

    Kneser-Ney   direct = max(c(h w) - D, 0) / c(h)    passed = D T(h) / c(h)
    Witten-Bell  direct = c(h w) / (c(h) + T(h))       passed = T(h) / (c(h) + T(h))

Kneser-Ney takes c from the text at the highest order only; below it, c(g) is the number of distinct
symbols seen before g, except that a gram which begins with START keeps its count in the text, since
nothing can come before it. Where c(h) = 0, p_k is p_{k-1}.

Sources: Kneser and Ney, ICASSP 1995; Witten and Bell, IEEE Trans. Inf. Theory 37(4), 1991; Chen and
Goodman, Harvard TR-10-98, 1998 (D, and both smoothings in this interpolated form).

Shape legend: T symbols in a text, C in a context, V in the vocabulary; G_k distinct grams of k
symbols in the training text (G_0 = 1, the empty gram).
"""

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.integer[Any]]
Numbers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Terms: TypeAlias = tuple[Floats, Floats]
Smoothing: TypeAlias = Literal["kneser_ney", "witten_bell"]


class NgramCounts:
    """The grams of a training text up to a length, counted once for models of every order.

    Ids 0..V-1 are the symbols to predict. The id V, where it occurs, is START: it opens a line, is
    context only, and no context reaches back past it. Text without START is one stream.

    Attributes:
        vocabulary_size: V.
        keys: for each length k = 1..max_order, (G_k,) ascending: the number of the gram's first
            k - 1 symbols times V + 1, plus its last. A gram's number is its index here.
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
        self.vocabulary_size = vocabulary_size
        text = self._checked(ids)
        if not (text < vocabulary_size).any():
            raise ValueError("the training text holds no symbol to predict")
        self.keys: list[Numbers] = []
        self.counts: list[Numbers] = []
        found: list[Numbers] = []
        for _ in range(max_order):
            wanted = self._wanted(text, found)  # (T,)
            keys, counts = np.unique(wanted[wanted >= 0], return_counts=True)  # (G_k,) each
            self.keys.append(keys)
            self.counts.append(counts)
            found.append(_find(keys, wanted))
        self.counts[0][self.keys[0] == vocabulary_size] = 0
        self.continuations = self._continuations(found)

    def number(self, ids: Ids, order: int) -> list[Numbers]:
        """Find the grams of 1 to ``order`` symbols that end at each of ``ids``, (T,) in 0..V.

        Returns:
            For each length, (T,) the number of the gram that ends at t; -1 where the training text
            lacks it or it would reach back past its line or stream.

        Raises:
            ValueError: If ``ids`` is not 1-D or holds an id outside 0..V.
        """
        text = self._checked(ids)
        found: list[Numbers] = []
        for keys in self.keys[:order]:
            found.append(_find(keys, self._wanted(text, found)))
        return found

    def _wanted(self, text: Numbers, found: list[Numbers]) -> Numbers:
        """Return the (T,) keys of the grams one longer than ``found``; negative where none is."""
        prefix = np.zeros_like(text)  # (T,)
        if found:
            # -1 makes the key negative whatever the symbol is, and longer grams inherit it: set
            # at the stream's first symbol and at each START, it keeps every gram from crossing.
            prefix[1:] = found[-1][:-1]
            prefix[:1] = prefix[text == self.vocabulary_size] = -1
        return prefix * (self.vocabulary_size + 1) + text

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

    def _checked(self, ids: Ids) -> Numbers:
        text = np.asarray(ids, dtype=np.int64)
        if text.ndim != 1 or ((text < 0) | (text > self.vocabulary_size)).any():
            raise ValueError(f"ids must be a 1-D array of symbols in 0..{self.vocabulary_size}")
        return text


class NgramModel:
    """An n-gram model of one order and smoothing: formulas and sources are the module's."""

    def __init__(self, counts: NgramCounts, order: int, smoothing: Smoothing) -> None:
        """Smooth ``counts``, cheaply, for grams of ``order`` symbols, the predicted one included.

        Raises:
            ValueError: If ``order`` is not in 1..max_order or ``smoothing`` is neither name.
        """
        if not 1 <= order <= len(counts.keys):
            raise ValueError(f"order must lie in 1..{len(counts.keys)}, got {order}")
        if smoothing not in get_args(Smoothing):
            raise ValueError(f"smoothing must be one of {get_args(Smoothing)}, got {smoothing!r}")
        self._counts = counts
        self._terms: list[Terms] = []
        lower = counts.continuations if smoothing == "kneser_ney" else counts.counts
        for k, level in enumerate([*lower[: order - 1], counts.counts[order - 1]]):
            prefix = counts.keys[k] // (counts.vocabulary_size + 1)  # (G_{k+1},)
            contexts = len(counts.keys[k - 1]) if k else 1
            self._terms.append(_terms(level, prefix, contexts, smoothing))

    def nats(self, ids: Ids) -> Floats:
        """Score a text ``ids``, (T,) in 0..V.

        Returns:
            (T,) -ln p(ids[t] | the up to order - 1 symbols before it in its line or stream), in
            nats; nan where ids[t] is START. The first symbol of a stream has the empty context.

        Raises:
            ValueError: If ``ids`` is not 1-D or holds an id outside 0..V.
        """
        found = self._counts.number(ids, len(self._terms))
        size = self._counts.vocabulary_size
        probability = np.full(len(ids), 1 / size)  # (T,)
        context = np.zeros(len(ids), dtype=np.int64)  # (T,) number of the gram that ends at t - 1
        for (direct, passed), gram in zip(self._terms, found, strict=True):
            probability = direct[gram] + passed[context] * probability
            context[:1], context[1:] = -1, gram[:-1]
        return np.where(np.asarray(ids) == size, np.nan, -np.log(probability))

    def distribution(self, context: Ids) -> Floats:
        """Give the probability of every symbol to come after ``context``, (C,) in 0..V, C >= 0.

        Returns:
            (V,) probabilities, all positive, that sum to one. Only the last order - 1 symbols of
            the context count, and of those only the ones from the last START on.

        Raises:
            ValueError: If ``context`` is not 1-D or holds an id outside 0..V.
        """
        width = self._counts.vocabulary_size + 1
        reach = len(self._terms) - 1
        found = self._counts.number(context[max(len(context) - reach, 0) :], reach)
        numbers = [0, *(gram[-1] for gram in found if len(gram))]
        probability = np.full(width, 1 / (width - 1))  # (V + 1,), START last
        for k, number in enumerate(numbers):
            keys, (direct, passed) = self._counts.keys[k], self._terms[k]
            # The keys of the grams that continue the context lie side by side.
            first, last = np.searchsorted(keys, [number * width, (number + 1) * width])
            probability *= passed[number]
            probability[keys[first:last] % width] += direct[first:last]
        return probability[:-1]


def _terms(counts: Numbers, prefix: Numbers, contexts: int, smoothing: Smoothing) -> Terms:
    """Return an order's direct (G_k + 1,) and passed (G_{k-1} + 1,); index -1 is for unseen."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once and twice else 0.5
    removed, share = (discount, discount) if smoothing == "kneser_ney" else (0.0, 1.0)
    kept = np.maximum(counts - removed, 0.0)  # (G_k,)
    distinct = np.bincount(prefix[counts > 0], minlength=contexts)  # (G_{k-1},)
    # A context that nothing continues reserves all there is for the lower order.
    reserved = np.where(distinct > 0, share * distinct, 1.0)  # (G_{k-1},)
    total = np.bincount(prefix, weights=kept, minlength=contexts) + reserved  # (G_{k-1},)
    return np.append(kept / total[prefix], 0.0), np.append(reserved / total, 1.0)


def _find(keys: Numbers, wanted: Numbers) -> Numbers:
    """Return the index in the ascending keys of each wanted one, -1 where it is not there."""
    index = np.searchsorted(keys, wanted)
    return np.where(np.searchsorted(keys, wanted, side="right") > index, index, -1)
