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

from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from lyricgen.model.ngram_counts import Ids, NgramCounts, Numbers

Floats: TypeAlias = npt.NDArray[np.float64]
Terms: TypeAlias = tuple[Floats, Floats]
Smoothing: TypeAlias = Literal["kneser_ney", "witten_bell"]


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
        self._terms = [_level(counts, k, smoothing, k == order) for k in range(1, order + 1)]

    def nats(self, ids: Ids) -> Floats:
        """Score a text ``ids``, (T,) in 0..V.

        Returns:
            (T,) -ln p(ids[t] | the up to order - 1 symbols before it in its line or stream), in
            nats; nan where ids[t] is START. The first symbol of a stream has the empty context.

        Raises:
            ValueError: If ``ids`` is not 1-D or holds an id outside 0..V.
        """
        found = self._counts.number(ids, len(self._terms))
        probability = _uniform(found[0], self._counts)
        for k, terms in enumerate(self._terms, 1):
            probability = _interpolated(terms, found, k, probability)
        return _nats(probability, ids, self._counts)

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


def nats_by_order(
    counts: NgramCounts, texts: list[tuple[Ids, list[Numbers]]], smoothing: Smoothing
) -> Iterator[list[Floats]]:
    """Score texts with the models of every order from 1 up, which share what they have in common.

    Args:
        counts: of the training text.
        texts: each as its ids, (T,), and what `NgramCounts.number` gives for all orders.
        smoothing: of the models.

    Yields:
        For each order, what `NgramModel.nats` gives for each text.
    """
    lower = [_uniform(ids, counts) for ids, _ in texts]
    for order in range(1, len(counts.keys) + 1):
        terms = _level(counts, order, smoothing, highest=True)
        highest = _each_interpolated(terms, texts, order, lower)
        yield [_nats(p, ids, counts) for p, (ids, _) in zip(highest, texts, strict=True)]
        if smoothing == "witten_bell" or order == len(counts.keys):
            lower = highest
        else:
            terms = _level(counts, order, smoothing, highest=False)
            lower = _each_interpolated(terms, texts, order, lower)


def _each_interpolated(
    terms: Terms, texts: list[tuple[Ids, list[Numbers]]], k: int, lower: list[Floats]
) -> list[Floats]:
    each = zip(texts, lower, strict=True)
    return [_interpolated(terms, found, k, probability) for (_, found), probability in each]


def _uniform(ids: Ids, counts: NgramCounts) -> Floats:
    return np.full(len(ids), 1 / counts.vocabulary_size)  # (T,)


def _interpolated(terms: Terms, found: list[Numbers], k: int, lower: Floats) -> Floats:
    """Return p_k, (T,), from p_{k-1}."""
    direct, passed = terms
    context = np.zeros(len(lower), dtype=np.int64)  # (T,) number of the gram that ends at t - 1
    if k > 1:
        context[:1], context[1:] = -1, found[k - 2][:-1]
    probability: Floats = direct[found[k - 1]] + passed[context] * lower
    return probability


def _nats(probability: Floats, ids: Ids, counts: NgramCounts) -> Floats:
    return np.where(np.asarray(ids) == counts.vocabulary_size, np.nan, -np.log(probability))


def _level(counts: NgramCounts, k: int, smoothing: Smoothing, highest: bool) -> Terms:
    """Return the terms of p_k in a model of which it is the highest order, or is not."""
    continuing = smoothing == "kneser_ney" and not highest
    level = (counts.continuations if continuing else counts.counts)[k - 1]
    prefix = counts.keys[k - 1] // (counts.vocabulary_size + 1)  # (G_k,)
    return _terms(level, prefix, len(counts.keys[k - 2]) if k > 1 else 1, smoothing)


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
