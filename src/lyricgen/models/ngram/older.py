"""N-grams of a text, joined with the n-grams of an older model.

The older text is not needed. The grams of both texts are numbered together. At each order k, a
context h joins the terms of both:

    p_k(w | h) = s (direct(h w) + passed(h) p_{k-1}) + (1 - s) (direct'(h w) + passed'(h) p_{k-1})
    s = c(h) / (c(h) + a c'(h)),    c'(h) = T'(h) / passed'(h)

Terms of the older model have a prime; `ngram.model` explains the others. c'(h) is the count of the
context in the older text, in units of its discount. The weight a of the older text is fitted to the
new text, where each position leaves its block out. A context that only one text has keeps the terms
of that text. Most of p_0 goes to the characters of the new text. The result is an n-gram model like
any other.

Source: count merging, Bacchiani et al., Computer Speech and Language 20(1), 2006. Here each text
keeps its own discounts.

Shapes: V symbols in the vocabulary of both texts, V' in that of the older one; G_k distinct grams
of k symbols in either text (G_0 = 1, the empty gram), of which the new text has N_k; R rows and E
entries of a level.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from lyricgen.models.ngram.model import (
    Entries,
    Floats,
    Grams,
    NgramCounts,
    NgramModel,
    Numbers,
    Terms,
)

ELSEWHERE = 0.1  # share of p_0 that stays with all characters of both texts
# candidates for the weight of the older text
WEIGHTS = np.append(0.0, 2.0 ** np.arange(-14, 3))


class OlderNgrams(NamedTuple):
    """N-grams of an older model, for a new text."""

    model: NgramModel
    ids: Numbers  # (V' + 1,) new id of each symbol of the model, START last; the ids rise
    present: npt.NDArray[np.bool_]  # (V,) whether the new text, in any split, has the character


class OlderTerms(NamedTuple):
    """Terms of one order of the older model, by the numbers of the grams of both texts."""

    direct: Floats  # (G_k,) 0 for a gram that the older text lacks
    passed: Floats  # (G_{k-1},) 1 for a context that the older text lacks
    occurrences: Floats  # (G_{k-1},) c'(h), 0 for a context that the older text lacks


class JoinedCounts(NgramCounts):
    """Counts of a new text, by the numbers of the grams of both texts.

    Args:
        counts: counts of the new text.
        older: n-grams of the older text.

    Attributes:
        present: (G_1,) whether a gram of one symbol is a character of the new text.
        older: terms of the older model, for each order of `counts`.
        older_order: order of the older model.
        weight: the weight a; 1 until it is fitted.
    """

    def __init__(self, counts: NgramCounts, older: OlderNgrams) -> None:
        model, ids, present = older
        self.vocabulary_size, self.weight = counts.vocabulary_size, 1.0
        self.keys, self.counts, self.continuations = [], [], []
        self.older_order, self.older = len(model.terms), list[OlderTerms]()
        pairs = (self.counts, counts.counts), (self.continuations, counts.continuations)
        width = self.vocabulary_size + 1
        # number in both texts of each gram one symbol shorter, of the new and of the older text
        new_numbers = older_numbers = np.zeros(1, dtype=np.int64)
        for k, counted in enumerate(counts.keys):
            contexts = len(self.keys[-1]) if k else 1
            passed, occurrences = np.ones(contexts), np.zeros(contexts)
            new = new_numbers[counted // width] * width + counted % width  # (N_k,)
            there, direct_there = new[:0], passed[:0]
            if k < len(model.terms):
                direct_there, passed_there = (term[:-1] for term in model.terms[k])
                prefix, symbol = np.divmod(model.grams.keys[k], len(ids))
                there = older_numbers[prefix] * width + ids[symbol]
                passed[older_numbers] = passed_there
                followers = np.bincount(prefix[direct_there > 0], minlength=len(passed_there))
                occurrences[older_numbers] = followers / passed_there
            keys = np.union1d(new, there)  # (G_k,)
            if k == 0:
                keys = np.union1d(keys, present.nonzero()[0])
                self.present = np.append(present, False)[keys]  # START is none
            new_numbers, older_numbers = np.searchsorted(keys, new), np.searchsorted(keys, there)
            direct = np.zeros(len(keys))
            direct[older_numbers] = direct_there
            self.keys.append(keys)
            self.older.append(OlderTerms(direct, passed, occurrences))
            for placed, each in pairs:
                for values in each[k : k + 1]:  # the highest order has no continuations
                    placed.append(np.zeros(len(keys), dtype=np.int64))
                    placed[-1][new_numbers] = values

    @override
    def join(self, k: int, terms: Terms, entries: Entries) -> Terms:
        direct, passed = self.spread_rest(k, terms, entries)
        contexts, rows, grams, counts = entries
        count, older = np.bincount(rows, counts, len(contexts)), self.older[k - 1]
        share = compute_shares(count, self.weight * older.occurrences[contexts])
        direct = mix(share[rows], direct, older.direct[grams])
        return direct, mix(share, passed, older.passed[contexts])

    def spread_rest(self, k: int, terms: Terms, entries: Entries) -> Terms:
        """Give most of what order 1 passes on to the characters of the new text alone.

        A text has few characters of another script. Other orders keep their terms.
        """
        if k > 1:
            return terms
        direct, passed = terms
        given = (1 - ELSEWHERE) * passed / self.present.sum()
        return direct + self.present[entries.grams] * given[entries.rows], ELSEWHERE * passed


def drop_symbols(model: NgramModel, dropped: npt.NDArray[np.bool_]) -> NgramModel:
    """Remove the grams that have certain symbols, and number the other symbols anew.

    A context passes the shares of its removed symbols on to the shorter context.

    Args:
        model: an n-gram model that interpolates.
        dropped: (V' + 1,) whether a symbol is removed; START, the last one, stays.
    """
    symbols = np.cumsum(~dropped) - 1  # (V' + 1,) new numbers
    kept, keys, terms = np.ones(1, dtype=np.bool_), list[Numbers](), list[Terms]()
    for old, (direct, passed) in zip(model.grams.keys, model.terms, strict=True):
        prefix, symbol = np.divmod(old, len(dropped))  # (G_k,)
        lost = dropped[symbol]
        more = np.bincount(prefix[lost], direct[:-1][lost], len(kept))  # (G_{k-1},)
        number, remaining = np.cumsum(kept) - 1, kept[prefix] & ~lost
        keys.append((number[prefix] * (symbols[-1] + 1) + symbols[symbol])[remaining])
        given = np.append((passed[:-1] + more)[kept], 1.0)
        terms.append((np.append(direct[:-1][remaining], 0.0), given))
        kept = remaining
    return NgramModel(Grams(int(symbols[-1]), keys), terms, model.smoothing)


def compute_shares(count: Floats | Numbers, older: Floats) -> Floats:
    """Compute count / (count + older); 1 where both are 0."""
    total = count + older
    return np.where(total > 0, count, 1.0) / np.where(total > 0, total, 1.0)


def mix(share: Floats, new: Floats, older: Floats) -> Floats:
    """Compute the mean of a new and an older term, `share` being the weight of the new term."""
    return share * new + (1 - share) * older
