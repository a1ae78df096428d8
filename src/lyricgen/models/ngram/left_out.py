"""Kneser-Ney distributions of a text's own positions, from counts that leave their block out.

A network that learns beside n-grams must see them as good as they are on new text. But they predict
the counted text better than new text. So the text is divided into blocks. The distributions at a
position come from the grams that end outside its block:

    highest order   c(g) is the number of occurrences outside the block
    below it        c(g) is the number of distinct symbols that stand before g outside the block

The discounts stay those of the whole text. Leaving out single occurrences instead of blocks is too
optimistic: songs and documents repeat themselves.

With the n-grams of an older model, each row joins its terms with those of the older text, of which
nothing is left out.

Shapes: N symbols in the counted text, V in the vocabulary, G_k distinct grams of k symbols; R rows
of a level, E entries in all of them, and P positions with a row; W candidates for a weight.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lyricgen.models.ngram.levels import Level
from lyricgen.models.ngram.model import (
    Entries,
    Floats,
    Ids,
    NgramCounts,
    Numbers,
    Terms,
    kneser_ney_discount,
    shares,
)
from lyricgen.models.ngram.older import WEIGHTS, JoinedCounts, compute_shares, mix

FITTED = 100_000  # most positions to which a weight is fitted
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ over the golden ratio, an odd number


@dataclass(frozen=True)
class LeftOut:
    """One level of the counted text's own positions.

    Attributes:
        level: its distributions.
        rows: (N,) the row that predicts each symbol; -1 for START, or if the context would begin
            before its line or stream.
        direct: (N,) share of the symbol itself; 0 where rows is -1.
    """

    level: Level
    rows: Numbers
    direct: Floats


def stream_blocks(ids: Ids, number: int, newline: int) -> Numbers:
    """Divide a running text into blocks of about equal length.

    A block ends after the nearest empty line, where a song or a document ends. If there is none
    within half a block, it ends after the nearest line; and within a line only if that is as long
    as a block.

    Args:
        ids: (N,) the text.
        number: number of blocks, at least 1.
        newline: id of the newline, -1 if the vocabulary has none.

    Returns:
        The block of each symbol, (N,).
    """
    equal = np.arange(1, number) * len(ids) // number  # (number - 1,) ends of equal blocks
    lines = np.flatnonzero(ids == newline) + 1
    ends, reach = equal, len(ids) // (2 * number)
    for candidates in (lines, lines[1:][np.diff(lines) == 1]):
        if len(candidates):
            after = np.searchsorted(candidates, equal)
            later = candidates[np.minimum(after, len(candidates) - 1)]
            earlier = candidates[np.maximum(after - 1, 0)]
            nearest = np.where(abs(later - equal) < abs(earlier - equal), later, earlier)
            ends = np.where(abs(nearest - equal) <= reach, nearest, ends)
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


@dataclass(frozen=True)
class _OwnLevel:
    """One level of the counted text's own positions, by the counts of the text alone.

    Attributes:
        first: (R + 1,) the first entry of each row, and the number of entries.
        entries: the grams of the rows, with the counts that are left.
        terms: (E,) share of the entry's symbol, and (R,) share of the level below.
        shorter: (R,) the row in the level below.
        rows: (N,) the row that predicts each symbol, or -1.
        symbols: (N,) the entry of each symbol, or -1.
    """

    first: Numbers
    entries: Entries
    terms: Terms
    shorter: Numbers
    rows: Numbers
    symbols: Numbers


def leave_out(counts: NgramCounts, order: int, ids: Ids, blocks: Numbers) -> Iterator[LeftOut]:
    """Compute the Kneser-Ney distributions of a text's positions without their block.

    Args:
        counts: counted grams of the text, of at least `order` symbols.
        order: order of the model.
        ids: (N,) the counted text.
        blocks: (N,) the block of each symbol.

    Yields:
        The level of each order from 1 up.
    """
    for k, own in enumerate(_leave_out(counts, order, ids, blocks), start=1):
        direct, passed = counts.join(k, own.terms, own.entries)
        known = direct > 0
        kept = np.append(0, np.cumsum(known))[own.first]  # (R + 1,)
        symbols = counts.keys[k - 1][own.entries.grams][known] % (counts.vocabulary_size + 1)
        yield LeftOut(
            Level(kept, symbols, direct[known], passed, own.shorter),
            own.rows,
            np.where(own.rows >= 0, direct[own.symbols], 0.0),
        )


def fit_weight(counts: JoinedCounts, order: int, ids: Ids, blocks: Numbers) -> None:
    """Fit the weight of the older text: the candidate with the least nats in the last positions.

    `leave_out` explains the arguments; each position leaves its block out.
    """
    last = slice(max(0, len(ids) - FITTED), len(ids))
    found = np.full((len(WEIGHTS), last.stop - last.start), 1 / counts.vocabulary_size)
    for k, own in enumerate(_leave_out(counts, order, ids, blocks), start=1):
        older, seen = counts.older[k - 1], own.rows[last] >= 0
        rows, symbols = own.rows[last][seen], own.symbols[last][seen]  # (P,)
        contexts, entry_rows, grams, left = own.entries
        count, contexts = np.bincount(entry_rows, left)[rows], contexts[rows]
        share = compute_shares(count, WEIGHTS[:, None] * older.occurrences[contexts])  # (W, P)
        direct, passed = counts.spread_rest(k, own.terms, own.entries)
        found[:, seen] *= mix(share, passed[rows], older.passed[contexts])
        found[:, seen] += mix(share, direct[symbols], older.direct[grams[symbols]])
    predicted = ids[last] < counts.vocabulary_size
    counts.weight = float(WEIGHTS[np.log(found[:, predicted]).sum(1).argmax()])


def _leave_out(counts: NgramCounts, order: int, ids: Ids, blocks: Numbers) -> Iterator[_OwnLevel]:
    width, text = counts.vocabulary_size + 1, ids.astype(np.int64)
    ends = [*counts.number(text, order)]  # (N,) for each length: the gram that ends there
    opens_line = counts.keys[0] == counts.vocabulary_size  # (G_1,), next (G_2,) and so on
    below = np.zeros(len(text), dtype=np.int64)  # (N,) rows of the level below
    for k in range(1, order + 1):
        keys, highest = counts.keys[k - 1], k == order
        context, contexts = keys // width, len(counts.keys[k - 2]) if k > 1 else 1
        level = (counts.counts if highest else counts.continuations)[k - 1]  # (G_k,)
        predicted = (ends[k - 1] >= 0) & (text < counts.vocabulary_size)  # (N,)
        gram = ends[k - 1][predicted]
        row, first, grams, own = _pair(context, contexts, gram, blocks[predicted])
        entry = np.full(len(text), -1)  # (N,) entry of each predicted symbol
        entry[predicted] = own
        lost = entry[predicted]
        if not highest:
            opening = predicted & opens_line[ends[k - 1]]
            last = _last_if_one_block(ends[k], len(counts.keys[k]), blocks)
            # symbols before a gram in this block only, and each occurrence at a line's start
            lost = np.append(entry[last], entry[opening])
            opens_line = opens_line[counts.keys[k] // width]
        left = level[grams] - np.bincount(lost[lost >= 0], minlength=len(grams))  # (E,)
        discount = kneser_ney_discount(level)
        entry_row = np.repeat(np.arange(len(first) - 1), np.diff(first))
        distinct = np.bincount(entry_row[left > 0], minlength=len(first) - 1).astype(np.float64)
        terms = shares(np.maximum(left - discount, 0.0), discount * distinct, entry_row)
        rows, shorter = np.full(len(text), -1), np.zeros_like(first[1:])
        rows[predicted], shorter[row] = row, below[predicted]
        entries = Entries(context[grams[first[:-1]]], entry_row, grams, left)
        yield _OwnLevel(first, entries, terms, shorter, rows, entry)
        below = rows


def _pair(
    context: Numbers, contexts: int, gram: Numbers, block: Numbers
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Make a row for each pair of a context and a block, with all grams that continue the context.

    Args:
        context: (G_k,) the context of each gram.
        contexts: number of contexts.
        gram: (P,) the gram at each position.
        block: (P,) the block of each position.

    Returns:
        The row of each position, (P,); the first entry of each row and the number of entries,
        (R + 1,); the gram of each entry, (E,); and the entry of each position, (P,).
    """
    pairs, row = np.unique(block * contexts + context[gram], return_inverse=True)
    begin = np.searchsorted(context, np.arange(contexts + 1))
    of_rows = pairs % contexts  # (R,)
    size = np.diff(begin)[of_rows]
    first = np.append(0, np.cumsum(size))
    grams = np.arange(first[-1]) + np.repeat(begin[of_rows] - first[:-1], size)
    return row, first, grams, first[row] + gram - begin[context[gram]]


def _last_if_one_block(ends: Numbers, grams: int, blocks: Numbers) -> Numbers:
    """Find the last position of each gram that ends in one block only."""
    known = np.flatnonzero(ends >= 0)
    last = np.zeros(grams, dtype=np.int64)
    last[ends[known]] = known
    single = np.zeros(grams, dtype=np.bool_)
    single[ends[known]] = True  # the text may lack grams of an older text
    single[ends[known[blocks[known] != blocks[last[ends[known]]]]]] = False
    return last[single]
