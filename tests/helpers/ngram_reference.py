"""N-gram formulas written out, one character at a time."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from lyricgen.models.ngram.model import NOTHING, Floats, Ids, NgramModel
from lyricgen.models.options import Interpolated, Smoothing

INTERPOLATED: tuple[Interpolated, ...] = ("kneser_ney", "witten_bell")


SMOOTHINGS: tuple[Smoothing, ...] = (*INTERPOLATED, "add_k")


K = 0.25  # addend of add-k smoothing


def nats_of(model: NgramModel, ids: Ids) -> Floats:
    """Nats of every symbol of a text, (T,); the first one has the empty context."""
    before = np.insert(ids[:-1].astype(np.int64), 0, NOTHING)[: len(ids)]
    return model.nats(model.contexts(before), ids)


def streams(ids: Sequence[int], size: int) -> list[list[int]]:
    """Cut a text before each START, so that no gram can cross a line."""
    parts: list[list[int]] = [[]]
    for symbol in ids:
        if symbol == size:
            parts.append([])
        parts[-1].append(symbol)
    return parts


class Reference:
    """Definitions of the module under test, written with dictionaries and fractions."""

    def __init__(self, ids: Sequence[int], size: int, order: int, smoothing: Smoothing) -> None:
        self.size, self.order, self.smoothing = size, order, smoothing
        occurrences: Counter[tuple[int, ...]] = Counter()
        preceding: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        for stream in streams(ids, size):
            for first in range(len(stream)):
                for end in range(first + 1, min(first + order, len(stream)) + 1):
                    gram = tuple(stream[first:end])
                    if gram == (size,):
                        continue
                    occurrences[gram] += 1
                    if first > 0:
                        preceding[gram].add(stream[first - 1])
        self.count = {
            gram: len(preceding[gram])
            if smoothing == "kneser_ney" and len(gram) < order and gram[0] != size
            else times
            for gram, times in occurrences.items()
        }
        self.discounts = {k: self.discount(k) for k in range(1, order + 1)}

    def discount(self, length: int) -> Fraction:
        counts = [count for gram, count in self.count.items() if len(gram) == length]
        once, twice = counts.count(1), counts.count(2)
        return Fraction(once, once + 2 * twice) if once and twice else Fraction(1, 2)

    def probability(self, symbol: int, context: tuple[int, ...]) -> Fraction:
        following = [self.count.get((*context, other), 0) for other in range(self.size)]
        count, total = following[symbol], sum(following)
        if self.smoothing == "add_k":
            return (count + Fraction(K)) / (total + Fraction(K) * self.size)
        lower = self.probability(symbol, context[1:]) if context else Fraction(1, self.size)
        distinct = sum(1 for other in following if other > 0)
        if total == 0:
            return lower
        if self.smoothing == "kneser_ney":
            discount = self.discounts[len(context) + 1]
            own = max(count - discount, Fraction(0)) / total
            return own + discount * distinct / total * lower
        return (count + distinct * lower) / (total + distinct)

    def distribution(self, text: Sequence[int]) -> list[Fraction]:
        stream = streams(text, self.size)[-1]
        context = tuple(stream[max(len(stream) - self.order + 1, 0) :])
        return [self.probability(symbol, context) for symbol in range(self.size)]
