"""Smoothing: how the counts of n-grams become probabilities.

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

Shape legend: V symbols in the vocabulary; G_k distinct grams of k symbols in the training text
(G_0 = 1, the empty gram).
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lyricgen.models.ngram.counts import NgramCounts, Numbers
from lyricgen.models.options import Smoothing

Floats: TypeAlias = npt.NDArray[np.float64]
Terms: TypeAlias = tuple[Floats, Floats]


def terms_of(
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
