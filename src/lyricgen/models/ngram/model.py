"""Smoothed n-gram models over character ids: what a recurrent model has to beat.

The formulas and their sources are those of `smoothing`.

Shape legend: T symbols in a text, V in the vocabulary; G_k distinct grams of k symbols in the
training text (G_0 = 1, the empty gram). Leading dimensions, "...", are texts side by side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from lyricgen.models.ngram.counts import Grams, Ids, NgramCounts, Numbers
from lyricgen.models.ngram.smoothing import Floats, Terms, terms_of
from lyricgen.models.options import Interpolated, Smoothing


@dataclass(frozen=True)
class NgramModel:
    """N-gram model of one order and smoothing; `smoothing` has the formulas.

    Attributes:
        grams: of the training text, of 1 to at least order symbols.
        terms: of p_1 … p_order: direct (G_k + 1,) and passed (G_{k-1} + 1,); index -1 is for
            grams that the training text lacks.
        smoothing: that they are of.
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
    terms = [terms_of(counts, level, smoothing, level == order, k) for level in levels]
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
    lower = [_uniform(ids, counts) for ids, _ in texts]
    for order in range(1, len(counts.keys) + 1):
        terms = terms_of(counts, order, smoothing, highest=True)
        highest = _each_interpolated(terms, texts, order, lower)
        yield [_nats(p, ids, counts) for p, (ids, _) in zip(highest, texts, strict=True)]
        if smoothing == "witten_bell" or order == len(counts.keys):
            lower = highest
        else:
            terms = terms_of(counts, order, smoothing, highest=False)
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


def _nats(probability: Floats, ids: Ids, grams: Grams) -> Floats:
    return np.where(np.asarray(ids) == grams.vocabulary_size, np.nan, -np.log(probability))
