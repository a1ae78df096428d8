"""Smoothed n-gram models over character ids, in NumPy: counting, and the probabilities.

A gram is a sequence of symbols; c(g) is its count. Two smoothings interpolate with shorter
contexts:

    p_k(w | h) = direct(h w) + passed(h) p_{k-1}(w | h'),    p_0(w) = 1 / V

    Kneser-Ney   direct = max(c(h w) - D, 0) / c(h)    passed = D T(h) / c(h)
    Witten-Bell  direct = c(h w) / (c(h) + T(h))       passed = T(h) / (c(h) + T(h))

Here h' is h without its oldest symbol, c(h) the sum of c(h w) over w, and T(h) the number of w with
c(h w) > 0. If c(h) = 0, p_k is p_{k-1}. The discount D of order k is n1 / (n1 + 2 n2), where n_i is
the number of grams of k symbols with the count i. If n1 or n2 is 0, D is one half.

Kneser-Ney counts occurrences in the text only at the highest order. Below it, c(g) is the number of
distinct symbols that stand before g. No symbol stands before START, the symbol that opens a line,
so a gram that begins with START keeps its count in the text.

A third smoothing uses no shorter context; its number a > 0 is `model.k`:

    add k        p(w | h) = (c(h w) + a) / (c(h) + a V)

Here h is the longest context in the line or stream, of at most order - 1 symbols. If c(h) = 0, p is
uniform.

Sources: Kneser and Ney, ICASSP 1995; Witten and Bell, IEEE Trans. Inf. Theory 37(4), 1991; Chen and
Goodman, Harvard TR-10-98, 1998 (D, the interpolated form of both smoothings, and add k). Add k is
due to Lidstone, 1920; with a = 1 it is Laplace's rule.

Shapes: T symbols in a text, V in the vocabulary; G_k distinct grams of k symbols in the training
text (G_0 = 1, the empty gram). Leading dimensions, "...", are independent texts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from lyricgen.models.options import Smoothing

Ids: TypeAlias = npt.NDArray[np.integer[Any]]
Numbers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Terms: TypeAlias = tuple[Floats, Floats]

NOTHING = -1  # stands for a missing symbol, as before the first symbol of a stream


class Entries(NamedTuple):
    """Grams of one order, as E entries in R rows; all grams of a row have the same context."""

    contexts: Numbers  # (R,) the context of each row
    rows: Numbers  # (E,) the row of each entry
    grams: Numbers  # (E,) the gram of each entry
    counts: Numbers  # (E,) the count of its gram


class Grams:
    """The distinct grams of a training text, of one symbol up to a longest length, each numbered.

    Ids 0..V-1 are the symbols to predict. The id V is START, which opens a line. It is never
    predicted, and no context reaches back past it. A text without START is one stream.

    Attributes:
        vocabulary_size: V.
        keys: for each length k from 1, the ascending keys of its grams, (G_k,). The number of a
            gram is the index of its key. The key is p (V + 1) + s, where p is the number of the
            first k - 1 symbols, and s is the last symbol.
    """

    def __init__(self, vocabulary_size: int, keys: list[Numbers]) -> None:
        self.vocabulary_size = vocabulary_size
        self.keys = keys

    def number(self, ids: Ids, order: int) -> list[Numbers]:
        """Find the grams of 1 to `order` symbols that end at each of `ids`, (..., T).

        Ids lie in 0..V or are NOTHING; a stream begins after NOTHING.

        Returns:
            For each length, the number of the gram that ends at t, (..., T). It is -1 if the
            training text lacks the gram, or if the gram would begin before its line or stream.

        Raises:
            ValueError: an id is outside 0..V and not NOTHING.
        """
        text = self._check(ids, least=NOTHING)
        found: list[Numbers] = []
        for keys in self.keys[:order]:
            found.append(_find(keys, self._next_keys(text, found)))
        return found

    def _next_keys(self, text: Numbers, found: list[Numbers]) -> Numbers:
        """Compute the keys of grams one symbol longer than `found`, (..., T); negative for none."""
        prefix = np.zeros_like(text)  # (..., T)
        if found:
            # -1 makes the key negative, also those of longer grams. So no gram reaches back past
            # the first symbol of a stream or past START.
            prefix[..., 1:] = found[-1][..., :-1]
            prefix[..., :1] = prefix[text == self.vocabulary_size] = -1
        return prefix * (self.vocabulary_size + 1) + text

    def _check(self, ids: Ids, least: int) -> Numbers:
        text = np.asarray(ids, dtype=np.int64)
        if ((text < least) | (text > self.vocabulary_size)).any():
            raise ValueError(f"ids must be symbols in 0..{self.vocabulary_size}")
        return text


class NgramCounts(Grams):
    """The grams of a training text, counted once for models of any order.

    Attributes:
        counts: for each length, (G_k,) occurrences in the text; 0 for START alone.
        continuations: for each length except the longest, (G_k,) Kneser-Ney's lower-order counts.
    """

    def __init__(self, ids: Ids, vocabulary_size: int, max_order: int) -> None:
        """Count every gram of 1 to `max_order` symbols in `ids`, (T,) in 0..V.

        Raises:
            ValueError: `max_order` is below 1; or `ids` are not 1-D, or have an id outside 0..V or
                no id below V.
        """
        if max_order < 1:
            raise ValueError(f"max_order must be at least 1, got {max_order}")
        super().__init__(vocabulary_size, [])
        text = self._check(ids, least=0)
        if text.ndim != 1:
            raise ValueError("ids must be a 1-D array")
        if not (text < vocabulary_size).any():
            raise ValueError("the training text holds no symbol to predict")
        self.counts: list[Numbers] = []
        found: list[Numbers] = []
        for _ in range(max_order):
            following = self._next_keys(text, found)  # (T,)
            whole = following >= 0
            keys, inverse, counts = np.unique(
                following[whole], return_inverse=True, return_counts=True
            )  # (G_k,), (T,) at most, (G_k,)
            self.keys.append(keys)
            self.counts.append(counts)
            found.append(np.full_like(following, -1))
            found[-1][whole] = inverse
        self.counts[0][self.keys[0] == vocabulary_size] = 0
        self.continuations: list[Numbers] = []
        opens_line = self.keys[0] == vocabulary_size  # (G_1,), next (G_2,) and so on
        for k, keys in enumerate(self.keys[1:]):
            known = found[k + 1] >= 0  # (T,)
            suffix = np.empty_like(keys)  # (G_{k+2},) the gram without its oldest symbol
            suffix[found[k + 1][known]] = found[k][known]
            preceding = np.bincount(suffix, minlength=len(opens_line))  # (G_{k+1},)
            self.continuations.append(np.where(opens_line, self.counts[k], preceding))
            opens_line = opens_line[keys // (vocabulary_size + 1)]

    def terms(self, k: int, smoothing: Smoothing, *, highest: bool, added: float = 1.0) -> Terms:
        """Compute the terms `direct` and `passed` of p_k.

        Args:
            k: an order of the model, 1..max_order.
            smoothing: smoothing of the model.
            highest: whether k is the model's highest order; must be true for k = max_order.
            added: the number that add k adds to every count.

        Returns:
            direct, (G_k + 1,), and passed, (G_{k-1} + 1,), indexed by the numbers of grams. The
            last element is for grams that the training text lacks.
        """
        continuing = smoothing == "kneser_ney" and not highest
        level = (self.continuations if continuing else self.counts)[k - 1]
        prefix = self.keys[k - 1] // (self.vocabulary_size + 1)  # (G_k,)
        contexts = len(self.keys[k - 2]) if k > 1 else 1
        distinct = np.bincount(prefix[level > 0], minlength=contexts).astype(np.float64)
        kept, reserved = level.astype(np.float64), distinct  # (G_k,), (G_{k-1},)
        if smoothing == "kneser_ney":
            discount = kneser_ney_discount(level)
            kept, reserved = np.maximum(level - discount, 0.0), discount * distinct
        elif smoothing == "add_k":
            reserved = np.full(contexts, added * self.vocabulary_size)  # p_0 shares it evenly
        entries = Entries(np.arange(contexts), prefix, np.arange(len(level)), level)
        direct, passed = self.join(k, shares(kept, reserved, prefix), entries)
        return np.append(direct, 0.0), np.append(passed, 1.0)

    def join(self, k: int, terms: Terms, entries: Entries) -> Terms:  # noqa: ARG002
        """Return the terms of p_k; a model that continues an older one joins its terms to them.

        Args:
            k: the order.
            terms: direct, (E,), and passed, (R,), of this text.
            entries: grams and contexts of these terms.
        """
        return terms


def kneser_ney_discount(level: Numbers) -> float:
    """Compute the discount of an order from the counts of its grams, (G_k,)."""
    once, twice = int((level == 1).sum()), int((level == 2).sum())
    return once / (once + 2 * twice) if once and twice else 0.5


def shares(kept: Floats, reserved: Floats, context: Numbers) -> Terms:
    """Compute direct, (G,), and passed, (C,).

    They come from the part of each gram's count that is `kept` for it, (G,), and the part of each
    context's counts that is `reserved` for the shorter context, (C,).
    """
    # A context that no symbol follows reserves all of its probability.
    reserved = np.where(reserved > 0, reserved, 1.0)
    total = np.bincount(context, weights=kept, minlength=len(reserved)) + reserved  # (C,)
    return kept / total[context], reserved / total


@dataclass(frozen=True)
class NgramModel:
    """N-gram model of one order and smoothing.

    Attributes:
        grams: grams of the training text of 1 to order symbols, or longer.
        terms: `NgramCounts.terms` of p_1 … p_order.
        smoothing: smoothing of the terms.
    """

    grams: Grams
    terms: list[Terms]
    smoothing: Smoothing

    def contexts(self, ids: Ids) -> list[Numbers]:
        """Find the contexts of the symbol after each of `ids`, (..., T) in 0..V or NOTHING.

        Returns:
            For each length from 0 to order - 1, (..., T): the number of the gram that ends at t. It
            is -1 as in `Grams.number`; with add k, also for all contexts but the longest.

        Raises:
            ValueError: an id is outside 0..V and not NOTHING.
        """
        found = self.grams.number(ids, len(self.terms) - 1)
        found.insert(0, np.zeros(np.shape(ids), dtype=np.int64))
        if self.smoothing == "add_k":
            steps, text = np.arange(np.shape(ids)[-1]), ids.astype(np.int64)
            opening = np.where(text < 0, steps + 1, (text == self.grams.vocabulary_size) * steps)
            # symbols from the start of the line or stream to each id, START included, (..., T)
            length = steps - np.maximum.accumulate(opening, axis=-1) + 1
            for k, numbers in enumerate(found[:-1]):
                numbers[length > k] = -1
        return found

    def nats(self, contexts: list[Numbers], symbols: Ids) -> Floats:
        """Compute the nats of one symbol after each context.

        Args:
            contexts: from `contexts`, (..., T) each.
            symbols: (..., T) in 0..V.

        Returns:
            Nats, (..., T); nan for START.
        """
        *_, (probability, _) = self.by_order(contexts, symbols)
        return take_nats(probability, symbols, self.grams)

    def by_order(self, contexts: list[Numbers], symbols: Ids) -> Iterator[tuple[Floats, Floats]]:
        """Compute the probability of one symbol after each context; `nats` explains the arguments.

        Yields:
            For each order from 1 up, the probability and the term `passed`, (..., T) each.
        """
        ids = np.asarray(symbols, dtype=np.int64)
        probability = np.full(ids.shape, 1 / self.grams.vocabulary_size)
        width = self.grams.vocabulary_size + 1
        levels = zip(contexts, self.terms, strict=True)
        for keys, (context, (direct, passed)) in zip(self.grams.keys, levels, strict=False):
            gram = _find(keys, context * width + ids)
            share = passed[context]
            probability = direct[gram] + share * probability
            yield probability, share

    def distributions(self, contexts: list[Numbers]) -> Floats:
        """Compute the probability of every symbol after each context.

        Args:
            contexts: from `contexts`, (..., T) each.

        Returns:
            Probabilities, (..., T, V), all positive; they sum to one.
        """
        shape, width = contexts[0].shape, self.grams.vocabulary_size + 1
        probability = np.full((contexts[0].size, width), 1 / (width - 1))  # START last
        for context, keys, terms in zip(contexts, self.grams.keys, self.terms, strict=False):
            (direct, passed), number = terms, context.ravel()
            # The keys of the grams that continue a context are neighbours.
            first, last = np.searchsorted(keys, [number * width, (number + 1) * width])
            rows = np.repeat(np.arange(len(number)), last - first)
            grams = np.arange(len(rows)) + np.repeat(last - np.cumsum(last - first), last - first)
            probability *= passed[number][:, None]
            probability[rows, keys[grams] % width] += direct[grams]
        return probability[:, :-1].reshape(*shape, width - 1)


def smooth_counts(
    counts: NgramCounts, order: int, smoothing: Smoothing, k: float = 1.0
) -> NgramModel:
    """Make a model from counted grams.

    Args:
        counts: counted grams of the training text.
        order: symbols of the longest grams, the predicted symbol included.
        smoothing: one of `Smoothing`.
        k: the number that add k adds to every count.

    Raises:
        ValueError: `order` is not in 1..max_order, or `smoothing` is unknown.
    """
    if not 1 <= order <= len(counts.keys):
        raise ValueError(f"order must lie in 1..{len(counts.keys)}, got {order}")
    if smoothing not in (names := get_args(Smoothing)):
        raise ValueError(f"smoothing must be one of {names}, got {smoothing!r}")
    terms = [
        counts.terms(level, smoothing, highest=level == order, added=k)
        for level in range(1, order + 1)
    ]
    return NgramModel(counts, terms, smoothing)


def _find(keys: Numbers, sought: Numbers) -> Numbers:
    """Find the index of each sought key in ascending keys; -1 for a missing key."""
    if not len(keys):
        return np.full_like(sought, -1)
    index = np.searchsorted(keys, sought)
    return np.where(keys[np.minimum(index, len(keys) - 1)] == sought, index, -1)


def take_nats(probability: Floats, ids: Ids, grams: Grams) -> Floats:
    """Compute the nats of symbols from their probabilities; nan for START."""
    return np.where(np.asarray(ids) == grams.vocabulary_size, np.nan, -np.log(probability))
