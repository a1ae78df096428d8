"""Smoothed n-gram models over character ids, which a recurrent model has to beat.

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

And one that rests on no shorter context, with a number a > 0 of its own (`model.k`),

    add k        p(w | h) = (c(h w) + a) / (c(h) + a V)

where h is the longest context that there is, shorter than the order's only where a line or stream
begins. Where c(h) = 0 it is uniform.

Sources: Kneser and Ney, ICASSP 1995; Witten and Bell, IEEE Trans. Inf. Theory 37(4), 1991; Chen and
Goodman, Harvard TR-10-98, 1998 (D, both smoothings in this interpolated form, and add k, which is
Lidstone's of 1920, for a = 1 Laplace's).

Shape legend: T symbols in a text, V in the vocabulary; G_k distinct grams of k symbols in the
training text (G_0 = 1, the empty gram). Leading dimensions, "...", are texts side by side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from lyricgen.models.ngram.counts import Grams, Ids, NgramCounts, Numbers
from lyricgen.models.options import Interpolated, Smoothing

Floats: TypeAlias = npt.NDArray[np.float64]
Terms: TypeAlias = tuple[Floats, Floats]


@dataclass(frozen=True)
class NgramModel:
    """N-gram model of one order and smoothing.

    Attributes:
        grams: of the training text, of 1 to at least order symbols.
        terms: of p_1 … p_order: direct (G_k + 1,) and passed (G_{k-1} + 1,); index -1 is for
            grams that the training text lacks.
        smoothing: of the terms.
    """

    grams: Grams
    terms: list[Terms]
    smoothing: Smoothing

    def contexts(self, ids: Ids) -> list[Numbers]:
        """Find what the symbol after each of ``ids``, (..., T) in 0..V or NOTHING, depends on.

        Returns:
            For each length 0..order - 1, (..., T) the number of the gram that ends at t, -1 where
            the model does not look at it: the training text lacks it, or it would reach back past
            its line or stream; and with add k, where there is a longer one.

        Raises:
            ValueError: If ``ids`` holds an id outside 0..V that is not NOTHING.
        """
        found = self.grams.number(ids, len(self.terms) - 1)
        found.insert(0, np.zeros(np.shape(ids), dtype=np.int64))
        if self.smoothing == "add_k":
            length = self.grams.since_start(ids)  # (..., T)
            for k, numbers in enumerate(found[:-1]):
                numbers[length > k] = -1
        return found

    def nats(self, contexts: list[Numbers], symbols: Ids) -> Floats:
        """Score one symbol after each context.

        Args:
            contexts: what `contexts` gives, each (..., T).
            symbols: (..., T) in 0..V, what comes after each.

        Returns:
            (..., T) -ln p, in nats; nan for START.
        """
        wanted = np.asarray(symbols, dtype=np.int64)
        probability = np.full(wanted.shape, 1 / self.grams.vocabulary_size)
        for k, (context, (direct, passed)) in enumerate(zip(contexts, self.terms, strict=True), 1):
            gram = self.grams.extended(context, wanted, k)
            probability = direct[gram] + passed[context] * probability
        return _nats(probability, wanted, self.grams)

    def distributions(self, contexts: list[Numbers]) -> Floats:
        """Give the probability of every symbol after each context.

        Args:
            contexts: what `contexts` gives, each (..., T).

        Returns:
            (..., T, V) probabilities, all positive, that sum to one.
        """
        shape, width = contexts[0].shape, self.grams.vocabulary_size + 1
        probability = np.full((contexts[0].size, width), 1 / (width - 1))  # START last
        for context, keys, terms in zip(contexts, self.grams.keys, self.terms, strict=False):
            (direct, passed), number = terms, context.ravel()
            # The keys of the grams that continue a context lie side by side.
            first, last = np.searchsorted(keys, [number * width, (number + 1) * width])
            rows = np.repeat(np.arange(len(number)), last - first)
            grams = np.arange(len(rows)) + np.repeat(last - np.cumsum(last - first), last - first)
            probability *= passed[number][:, None]
            probability[rows, keys[grams] % width] += direct[grams]
        return probability[:, :-1].reshape(*shape, width - 1)


def smoothed(counts: NgramCounts, order: int, smoothing: Smoothing, k: float = 1.0) -> NgramModel:
    """Make a model of counted grams.

    Args:
        counts: of the training text.
        order: symbols of the longest grams, the predicted one included.
        smoothing: its name.
        k: what add k adds to every count.

    Raises:
        ValueError: If ``order`` is not in 1..max_order or ``smoothing`` is none of the names.
    """
    if not 1 <= order <= len(counts.keys):
        raise ValueError(f"order must lie in 1..{len(counts.keys)}, got {order}")
    if smoothing not in (names := get_args(Smoothing)):
        raise ValueError(f"smoothing must be one of {names}, got {smoothing!r}")
    levels = range(1, order + 1)
    terms = [_terms(counts, level, smoothing, level == order, k) for level in levels]
    return NgramModel(counts, terms, smoothing)


def nats_by_order(
    counts: NgramCounts, texts: list[tuple[Ids, list[Numbers]]], smoothing: Interpolated
) -> Iterator[list[Floats]]:
    """Score texts with the models of every order from 1 up, which share what they have in common.

    Args:
        counts: of the training text.
        texts: each as its ids, (T,), and what `Grams.number` gives for all orders.
        smoothing: of the models.

    Yields:
        For each order, (T,) -ln p of each text's symbols, in nats; nan for START. The first symbol
        of a stream has the empty context.
    """
    lower = [np.full(len(ids), 1 / counts.vocabulary_size) for ids, _ in texts]  # (T,) each
    for order in range(1, len(counts.keys) + 1):
        terms = _terms(counts, order, smoothing, highest=True)
        highest = _interpolated(terms, texts, order, lower)
        yield [_nats(p, ids, counts) for p, (ids, _) in zip(highest, texts, strict=True)]
        if smoothing == "witten_bell" or order == len(counts.keys):
            lower = highest
        else:
            terms = _terms(counts, order, smoothing, highest=False)
            lower = _interpolated(terms, texts, order, lower)


def _interpolated(
    terms: Terms, texts: list[tuple[Ids, list[Numbers]]], k: int, lower: list[Floats]
) -> list[Floats]:
    """Give p_k of each text, (T,), from p_{k-1}."""
    direct, passed = terms
    found: list[Floats] = []
    for (_, numbers), probability in zip(texts, lower, strict=True):
        context = np.zeros(len(probability), dtype=np.int64)  # (T,) gram that ends at t - 1
        if k > 1:
            context[:1], context[1:] = -1, numbers[k - 2][:-1]
        found.append(direct[numbers[k - 1]] + passed[context] * probability)
    return found


def _nats(probability: Floats, ids: Ids, grams: Grams) -> Floats:
    return np.where(np.asarray(ids) == grams.vocabulary_size, np.nan, -np.log(probability))


def _terms(
    counts: NgramCounts, k: int, smoothing: Smoothing, highest: bool, added: float = 1.0
) -> Terms:
    """Give the terms of p_k in a model of which it is the highest order, or is not.

    Returns:
        direct (G_k + 1,) and passed (G_{k-1} + 1,), by the numbers of the grams; index -1 is for
        those that the training text lacks.
    """
    continuing = smoothing == "kneser_ney" and not highest
    level = (counts.continuations if continuing else counts.counts)[k - 1]
    prefix = counts.keys[k - 1] // (counts.vocabulary_size + 1)  # (G_k,)
    contexts = len(counts.keys[k - 2]) if k > 1 else 1
    distinct = np.bincount(prefix[level > 0], minlength=contexts).astype(np.float64)  # (G_{k-1},)
    kept, reserved = level.astype(np.float64), distinct  # (G_k,), (G_{k-1},)
    if smoothing == "kneser_ney":
        discount = _discount(level)
        kept, reserved = np.maximum(level - discount, 0.0), discount * distinct
    elif smoothing == "add_k":
        reserved = np.full(contexts, added * counts.vocabulary_size)  # as uniform as p_0
    # A context that nothing continues reserves all there is.
    reserved = np.where(reserved > 0, reserved, 1.0)
    total = np.bincount(prefix, weights=kept, minlength=contexts) + reserved  # (G_{k-1},)
    return np.append(kept / total[prefix], 0.0), np.append(reserved / total, 1.0)


def _discount(counts: Numbers) -> float:
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return once / (once + 2 * twice) if once and twice else 0.5
