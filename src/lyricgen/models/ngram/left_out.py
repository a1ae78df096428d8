"""Kneser-Ney probabilities of a text's own symbols, from counts that leave their block out.

Of the text that was counted, n-grams know too much: a network that is mixed with them would learn
to trust them too much. So the text is divided into blocks, and the probabilities at a position come
from the grams that end outside its block:

    highest order   c(g) is the number of occurrences outside the block
    below it        c(g) is the number of distinct symbols that stand before g outside the block

The discounts stay those of the whole text. It would not do to leave out single occurrences: songs
and documents repeat themselves.

Shapes: N symbols in the counted text, K orders, G_k distinct grams of k symbols in the text.
"""

import numpy as np
import numpy.typing as npt

from lyricgen.models.ngram.model import (
    Ids,
    NgramCounts,
    Numbers,
    Terms,
    kneser_ney_discount,
)

Singles = npt.NDArray[np.float32]
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ over the golden ratio, an odd number


def stream_blocks(ids: Ids, number: int, newline: int) -> Numbers:
    """Divide a running text into blocks of about equal length.

    A block ends after an empty line, if there is one in the tenth of a block before its end;
    otherwise after a line, and in a text without lines anywhere.

    Args:
        ids: (N,) the text.
        number: number of blocks, at least 1.
        newline: id of the newline, -1 if the vocabulary has none.

    Returns:
        The block of each symbol, (N,).
    """
    ends = np.arange(1, number) * len(ids) // number  # (number - 1,)
    lines = np.flatnonzero(ids == newline) + 1
    empty = lines[1:][np.diff(lines) == 1]
    reach = len(ids) // (10 * number)
    for candidates in (lines, empty):
        if len(candidates):
            before = np.searchsorted(candidates, ends, side="right") - 1
            found = np.where(before >= 0, candidates[before], -1)
            ends = np.where(ends - found <= reach, found, ends)
    return np.searchsorted(ends, np.arange(len(ids)), side="right")


def line_blocks(ids: Ids, number: int, start: int) -> Numbers:
    """Divide lines into blocks at random; equal lines come into the same block.

    Args:
        ids: (N,) the lines.
        number: number of blocks, at least 1.
        start: id of the symbol that opens each line.

    Returns:
        The block of each symbol, (N,).
    """
    line_starts = np.flatnonzero(ids == start)
    lengths = np.diff(np.append(line_starts, len(ids)))
    steps = np.arange(len(ids)) - np.repeat(line_starts, lengths)
    with np.errstate(over="ignore"):  # a hash of each line, modulo 2⁶⁴
        marks = (ids.astype(np.uint64) + np.uint64(1)) * (_MIX * (2 * steps.astype(np.uint64) + 1))
        hashes = np.add.reduceat(marks ^ (marks >> np.uint64(29)), line_starts) * _MIX
    blocks = (hashes >> np.uint64(32)) % np.uint64(number)
    return np.repeat(blocks.astype(np.int64), lengths)


def leave_out(
    counts: NgramCounts, order: int, ids: Ids, blocks: Numbers
) -> tuple[Singles, Singles]:
    """Compute the Kneser-Ney terms of a text's symbols without their block.

    Args:
        counts: counted grams of the text, of at least `order` symbols.
        order: order of the model, K.
        ids: (N,) the counted text.
        blocks: (N,) the block of each symbol.

    Returns:
        p_k of the symbol at each position, (N, K); and the share `passed` of p_k, (N, K). For
        START, they mean nothing.
    """
    text = ids.astype(np.int64)
    ends = counts.number(text, order)  # (N,) for each length: the gram that ends there
    opens_line = counts.keys[0] == counts.vocabulary_size  # (G_1,), next (G_2,) and so on
    probability = np.full(len(text), 1 / counts.vocabulary_size)
    by_order, shares = np.empty((2, len(text), order), dtype=np.float32)
    for k in range(1, order + 1):
        context = counts.keys[k - 1] // (counts.vocabulary_size + 1)  # (G_k,)
        level = (counts.counts if k == order else counts.continuations)[k - 1]  # (G_k,)
        known = np.flatnonzero((ends[k - 1] >= 0) & (text < counts.vocabulary_size))
        lost = known
        if k < order:
            # symbols before a gram in this block only, and each occurrence at a line's start
            opening = known[opens_line[ends[k - 1][known]]]
            lost = np.append(_last_if_one_block(ends[k], len(counts.keys[k]), blocks), opening)
            opens_line = opens_line[counts.keys[k] // (counts.vocabulary_size + 1)]
        gram_block = np.full(len(text), -1)
        pairs, gram_block[known] = np.unique(
            blocks[known] * len(level) + ends[k - 1][known], return_inverse=True
        )  # each a block and a gram in it
        removed = np.bincount(gram_block[lost], minlength=len(pairs))
        direct, passed = _terms(level, context, pairs, removed)
        here = gram_block[known]
        probability[known] = direct[here] + passed[here] * probability[known]
        by_order[:, k - 1], shares[:, k - 1] = probability, 1.0
        shares[known, k - 1] = passed[here]
    return by_order, shares


def _terms(level: Numbers, context: Numbers, pairs: Numbers, removed: Numbers) -> Terms:
    """Compute Kneser-Ney's terms of one order without blocks.

    Args:
        level: (G_k,) count of each gram.
        context: (G_k,) number of its context.
        pairs: (P,) pairs of a block and a gram, as block times G_k plus gram.
        removed: (P,) part of the gram's count that belongs to the block.

    Returns:
        direct and passed of each pair, (P,).
    """
    block, gram = np.divmod(pairs, len(level))
    left = level[gram] - removed
    # of whole contexts without a block: the sum of their counts, and the number of their grams
    contexts = int(context.max()) + 1
    each, row = np.unique(block * contexts + context[gram], return_inverse=True)
    gone = (left == 0) & (level[gram] > 0)
    total = np.bincount(context, level)[each % contexts] - np.bincount(row, removed)
    distinct = np.bincount(context, level > 0)[each % contexts] - np.bincount(row, gone)
    discount, whole = kneser_ney_discount(level), np.maximum(total, 1)
    direct = np.maximum(left - discount, 0) / whole[row]
    return direct, np.where(total > 0, discount * distinct / whole, 1.0)[row]


def _last_if_one_block(ends: Numbers, grams: int, blocks: Numbers) -> Numbers:
    """Find the last position of each gram that ends in one block only."""
    known = np.flatnonzero(ends >= 0)
    last = np.zeros(grams, dtype=np.int64)
    last[ends[known]] = known
    single = np.ones(grams, dtype=np.bool_)
    single[ends[known[blocks[known] != blocks[last[ends[known]]]]]] = False
    return last[single]
