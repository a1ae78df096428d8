"""Kneser-Ney distributions of a text's own positions, from counts without their block."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lyricgen.models.ngram.left_out import leave_out, line_blocks, stream_blocks
from lyricgen.models.ngram.levels import Level, whole_levels
from lyricgen.models.ngram.model import Floats, NgramCounts, Numbers, smooth_counts

V, ORDER = 4, 4


def counts_without(ids: Numbers, blocks: Numbers, block: int) -> list[Counter[tuple[int, ...]]]:
    """Kneser-Ney's counts of each order from grams that end outside a block, by dictionaries."""
    occurrences: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(ORDER + 1)]
    for end in range(len(ids)):
        for k in range(1, min(ORDER, end + 1) + 1):
            gram = tuple(ids[end - k + 1 : end + 1])
            if V not in gram[1:] and blocks[end] != block:
                occurrences[k][gram] += 1
    found = []
    for k in range(1, ORDER + 1):
        counted = Counter(gram[1:] for gram in occurrences[k + 1]) if k < ORDER else Counter()
        for gram, number in occurrences[k].items():
            if k == ORDER or gram[0] == V:
                counted[gram] = number
        found.append(Counter({gram: n for gram, n in counted.items() if gram[-1] != V}))
    return found


def discounts(ids: Numbers) -> list[float]:
    found = []
    for counted in counts_without(ids, np.zeros(len(ids), dtype=np.int64), block=1):
        once, twice = (list(counted.values()).count(number) for number in (1, 2))
        found.append(once / (once + 2 * twice) if once and twice else 0.5)
    return found


def row_distributions(levels: list[Level], rows: list[int]) -> list[Floats]:
    """Each order's distribution after a context, from the rows of the levels."""
    found = [np.full(V, 1 / V)]
    for level, row in zip(levels, rows, strict=True):
        p = found[-1].copy()
        if row >= 0:
            entries = slice(level.first[row], level.first[row + 1])
            p *= level.passed[row]
            p[level.symbols[entries]] += level.direct[entries]
        found.append(p)
    return found[1:]


@pytest.mark.parametrize("lines", [False, True])
def test_distributions_equal_counts_by_dictionaries(lines: bool) -> None:
    draw = np.random.default_rng(1)
    ids = draw.integers(0, V, 300)
    blocks = np.arange(300) * 3 // 300
    if lines:
        ids[::6] = V
        blocks = line_blocks(ids, 3, V)
    made = list(leave_out(NgramCounts(ids, V, ORDER), ORDER, ids, blocks))
    by_hand = discounts(ids)
    compared = 0
    for block in range(3):
        counted = counts_without(ids, blocks, block)
        for end in np.flatnonzero((blocks == block) & (ids < V)):
            expected = np.full(V, 1 / V)
            own = 1 / V
            found = row_distributions([one.level for one in made], [one.rows[end] for one in made])
            for k, (counts, discount) in enumerate(zip(counted, by_hand, strict=True)):
                context = tuple(ids[max(0, end - k) : end])
                after = {gram[-1]: n for gram, n in counts.items() if gram[:-1] == context}
                if after and len(context) == k and V not in context[1:]:
                    total = sum(after.values())
                    expected = discount * len(after) / total * expected
                    for symbol, number in after.items():
                        expected[symbol] += max(number - discount, 0) / total
                np.testing.assert_allclose(found[k], expected, rtol=1e-12, atol=1e-15)
                row = made[k].rows[end]
                own = own * (made[k].level.passed[row] if row >= 0 else 1) + made[k].direct[end]
                assert own == pytest.approx(expected[ids[end]], rel=1e-12)
                compared += 1
    assert compared > 900


def test_shorter_rows_are_those_of_the_level_below() -> None:
    ids = np.random.default_rng(2).integers(0, V, 200)
    made = list(leave_out(NgramCounts(ids, V, ORDER), ORDER, ids, np.arange(200) // 50))
    for below, level in pairwise(made):
        known = level.rows >= 0
        shorter = level.level.shorter[level.rows[known]]
        np.testing.assert_array_equal(shorter, below.rows[known])


def test_whole_levels_equal_the_model() -> None:
    ids = np.append(V, np.random.default_rng(3).integers(0, V, 400))
    ids[::9] = V
    model = smooth_counts(NgramCounts(ids, V, ORDER), ORDER, "kneser_ney")
    levels = whole_levels(model)
    contexts = model.contexts(ids)
    whole = model.distributions(contexts)
    for position in range(len(ids)):
        rows = [int(numbers[position]) for numbers in contexts]
        found = row_distributions(levels, rows)[-1]
        np.testing.assert_allclose(found, whole[position], rtol=1e-12)
        for below, row, shorter in zip(rows, rows[1:], levels[1:], strict=False):
            assert row < 0 or shorter.shorter[row] == below


def test_blocks_of_running_text_end_at_empty_lines() -> None:
    ids = np.ones(1000, dtype=np.int64)
    # empty lines end at 141 and 361, of which 141 is nearer to 249; lines end at 490 and 640
    ids[[140, 141, 245, 360, 361, 490, 640]] = 0
    assert np.flatnonzero(np.diff(stream_blocks(ids, 4, newline=0))).tolist() == [141, 490, 640]
    assert np.flatnonzero(np.diff(stream_blocks(ids, 4, -1))).tolist() == [249, 499, 749]
    assert np.flatnonzero(np.diff(stream_blocks(ids[:3], 9, 0))).size <= 2


@given(lengths=st.lists(st.integers(1, 90), min_size=20, max_size=60), number=st.integers(2, 9))
def test_no_block_cuts_a_song_that_is_shorter_than_a_block(lengths: list[int], number: int) -> None:
    songs = [[*[1] * length, 0, 0] for length in lengths]  # of one line each
    ids = np.array([symbol for song in songs for symbol in song])
    song_ends = {*(np.cumsum([len(song) for song in songs]) - 1).tolist()}
    cuts = np.flatnonzero(np.diff(stream_blocks(ids, number, newline=0))).tolist()
    assume(max(map(len, songs)) < len(ids) // number)
    assert {*cuts} <= song_ends
    assert len(cuts) == number - 1


@given(lengths=st.lists(st.integers(1, 90), min_size=20, max_size=60), number=st.integers(2, 9))
def test_no_block_cuts_a_line_that_is_shorter_than_a_block(lengths: list[int], number: int) -> None:
    ids = np.array([symbol for length in lengths for symbol in [*[1] * length, 0]])
    assume(max(lengths) + 1 < len(ids) // number)
    cuts = np.flatnonzero(np.diff(stream_blocks(ids, number, newline=0)))
    assert len(cuts) == number - 1
    assert not ids[cuts].any()


def test_equal_lines_come_into_one_block() -> None:
    lines = np.random.default_rng(4).integers(0, 5, (3000, 4))
    ids = np.column_stack([np.full(3000, 5), lines]).ravel()
    blocks = line_blocks(ids, 4, 5).reshape(3000, 5)
    assert (blocks == blocks[:, :1]).all()
    by_line: dict[tuple[int, ...], int] = {}
    for line, block in zip(map(tuple, lines.tolist()), blocks[:, 0].tolist(), strict=True):
        assert by_line.setdefault(line, block) == block
    assert min(np.bincount(list(by_line.values()), minlength=4)) > 0.2 * len(by_line)
