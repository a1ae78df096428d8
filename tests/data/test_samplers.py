"""Characters of the batches of each sampler, against the notebooks' loops and by hand."""

import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lyricgen.data.batch import IGNORED, Sampler, Windows, cut
from lyricgen.data.samplers import (
    ConsecutiveSampler,
    LineSampler,
    RandomSampler,
    StreamSampler,
    first_offset,
    order,
)
from lyricgen.errors import UserError
from lyricgen.settings import CONFIG_DIRECTORY
from tests.helpers.samplers import KINDS, sampler_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NEW_ORDER = ("random", "offset", "lines", "all random", "all offset")
STREAMS = ("consecutive", "remainder", "stream")

sizes = st.tuples(st.integers(1, 8), st.integers(1, 9))  # B, T


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> tuple[str, int, int, int, int]:
    """Draw a kind, N, B, T and a seed, with a text long enough for every kind."""
    batch_size, num_steps = draw(sizes)
    least = (batch_size + 1) * (num_steps + 1)
    length = draw(st.integers(least, least + 80))
    return draw(st.sampled_from(kinds)), length, batch_size, num_steps, draw(st.integers(0, 2**32))


def row_ranges(windows: Windows) -> list[range]:
    """Range of the positions that each row reads, without padding."""
    starts = windows.starts.tolist()
    steps = [windows.num_steps] * len(starts)
    counts = steps if windows.lengths is None else windows.lengths.tolist()
    assert all(0 <= count <= windows.num_steps for count in counts)
    return [range(start, start + n) for start, n in zip(starts, counts, strict=True)]


def epoch_of(sampler: Sampler, epoch: int = 0) -> list[Windows]:
    return [sampler.windows(epoch, index) for index in range(len(sampler))]


def plain(windows: Windows) -> tuple[object, ...]:
    lengths = None if windows.lengths is None else windows.lengths.tolist()
    return (
        windows.starts.tolist(),
        windows.num_steps,
        lengths,
        windows.starts_stream,
        windows.num_characters,
    )


def texts(windows: Windows, text: str) -> list[tuple[str, str]]:
    """Inputs and targets of every row as text."""
    return [
        (text[row.start : row.stop], text[row.start + 1 : row.stop + 1])
        for row in row_ranges(windows)
    ]


# ---- the notebooks' loops, with lists in place of their arrays


def data_iter_random(
    corpus_indices: list[int], batch_size: int, num_steps: int
) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
    num_examples = (len(corpus_indices) - 1) // num_steps
    epoch_size = num_examples // batch_size
    example_indices = list(range(num_examples))
    random.shuffle(example_indices)

    def _data(pos: int) -> list[int]:
        return corpus_indices[pos : pos + num_steps]

    for i in range(epoch_size):
        batch_indices = example_indices[i * batch_size : i * batch_size + batch_size]
        yield (
            [_data(j * num_steps) for j in batch_indices],
            [_data(j * num_steps + 1) for j in batch_indices],
        )


def data_iter_consecutive(
    corpus_indices: list[int], batch_size: int, num_steps: int
) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
    batch_len = len(corpus_indices) // batch_size
    indices = [corpus_indices[row * batch_len : (row + 1) * batch_len] for row in range(batch_size)]
    epoch_size = (batch_len - 1) // num_steps
    for i in range(epoch_size):
        first = i * num_steps
        yield (
            [row[first : first + num_steps] for row in indices],
            [row[first + 1 : first + num_steps + 1] for row in indices],
        )


def pairs(sampler: Sampler, length: int, epoch: int) -> list[tuple[list[list[int]], ...]]:
    """Batches of an epoch over the text 0 … N - 1, in the notebooks' form."""
    corpus = list(range(length))
    return [
        (
            [corpus[row.start : row.stop] for row in row_ranges(windows)],
            [corpus[row.start + 1 : row.stop + 1] for row in row_ranges(windows)],
        )
        for windows in epoch_of(sampler, epoch)
    ]


# ---- random


def test_random_windows_by_hand() -> None:
    text = LETTERS[:13]
    sampler = RandomSampler(13, 2, 3, seed=1, drop_last=True)
    assert len(sampler) == 2
    first, second = epoch_of(sampler)
    assert sorted(texts(first, text) + texts(second, text)) == [
        ("abc", "bcd"),
        ("def", "efg"),
        ("ghi", "hij"),
        ("jkl", "klm"),
    ]
    assert [first.num_characters, second.num_characters] == [6, 6]


def test_the_last_character_is_no_input() -> None:
    # 12 characters hold four windows of three, but the fourth has no last target.
    sampler = RandomSampler(12, 1, 3, seed=1, drop_last=True)
    assert sorted(row for batch in epoch_of(sampler) for row in texts(batch, LETTERS)) == [
        ("abc", "bcd"),
        ("def", "efg"),
        ("ghi", "hij"),
    ]


def test_every_epoch_draws_a_new_order() -> None:
    # Three windows, one batch of two: an epoch leaves a random window out.
    sampler = RandomSampler(12, 2, 3, seed=1, drop_last=True)
    assert len(sampler) == 1
    drawn = Counter(tuple(sampler.windows(epoch, 0).starts.tolist()) for epoch in range(600))
    assert set(drawn) == {(0, 3), (0, 6), (3, 0), (3, 6), (6, 0), (6, 3)}
    # 100 expected of each; six standard deviations of a fair draw
    assert all(abs(count - 100) < 6 * math.sqrt(600 / 6 * 5 / 6) for count in drawn.values())


def test_random_offset_by_hand() -> None:
    sampler = RandomSampler(13, 1, 3, seed=1, random_offset=True, drop_last=True)
    assert len(sampler) == 3
    offsets = Counter()
    for epoch in range(300):
        starts = sorted(start for batch in epoch_of(sampler, epoch) for start in batch.starts)
        first = int(starts[0])
        assert [int(start) for start in starts] == [first, first + 3, first + 6]
        offsets[first] += 1
    assert set(offsets) == {0, 1, 2}
    assert all(abs(count - 100) < 6 * math.sqrt(300 / 3 * 2 / 3) for count in offsets.values())


@settings(deadline=None)
@given(case=cases(("random",)), epoch=st.integers(0, 1000))
def test_random_windows_equal_those_of_the_notebook(
    case: tuple[str, int, int, int, int], epoch: int
) -> None:
    _, length, batch_size, num_steps, seed = case
    sampler = RandomSampler(length, batch_size, num_steps, seed=seed, drop_last=True)
    ours = pairs(sampler, length, epoch)
    theirs = list(data_iter_random(list(range(length)), batch_size, num_steps))
    assert len(ours) == len(theirs) == len(sampler)
    assert [len(x) for x, _ in ours] == [len(x) for x, _ in theirs]

    def windows(batches: list[tuple[list[list[int]], ...]]) -> list[tuple[list[int], list[int]]]:
        return sorted(row for x, y in batches for row in zip(x, y, strict=True))

    one_by_one = windows(list(data_iter_random(list(range(length)), 1, num_steps)))
    assert all(window in one_by_one for window in windows(ours))
    if len(one_by_one) % batch_size == 0:  # otherwise the two leave out different windows
        assert windows(ours) == windows(theirs) == one_by_one


# ---- consecutive


def test_consecutive_windows_by_hand() -> None:
    text = LETTERS[:23]  # two rows, abcdefghijk and lmnopqrstuv; w is left over
    whole = [
        [("abcd", "bcde"), ("lmno", "mnop")],
        [("efgh", "fghi"), ("pqrs", "qrst")],
    ]
    sampler = ConsecutiveSampler(23, 2, 4, drop_last=True)
    assert [texts(windows, text) for windows in epoch_of(sampler)] == whole
    # 22 targets, eleven a row: three windows that differ by one character
    with_rest = ConsecutiveSampler(23, 2, 4, drop_last=False)
    batches = epoch_of(with_rest)
    assert [texts(windows, text) for windows in batches] == [
        [("abc", "bcd"), ("lmn", "mno")],
        [("defg", "efgh"), ("opqr", "pqrs")],
        [("hijk", "ijkl"), ("stuv", "tuvw")],
    ]
    assert [windows.num_characters for windows in batches] == [6, 8, 8]
    assert [windows.starts_stream for windows in batches] == [True, False, False]


def test_rows_of_unequal_length_by_hand() -> None:
    # seven targets in two rows: three and four, the shorter one ends before the last column
    first, last = epoch_of(ConsecutiveSampler(8, 2, 3, drop_last=False))
    assert texts(first, LETTERS) == [("ab", "bc"), ("de", "ef")]
    assert texts(last, LETTERS) == [("c", "d"), ("fg", "gh")]
    assert (first.lengths, last.num_characters) == (None, 3)


def test_a_text_smaller_than_a_batch_has_fewer_rows() -> None:
    sampler = ConsecutiveSampler(8, 32, 3, drop_last=False)
    assert sampler.batch_size == 3
    assert [texts(w, LETTERS) for w in epoch_of(sampler)] == [
        [("ab", "bc"), ("cd", "de"), ("efg", "fgh")]
    ]


@settings(deadline=None)
@given(case=cases(("consecutive",)), epoch=st.integers(0, 1000))
def test_consecutive_windows_equal_those_of_the_notebook(
    case: tuple[str, int, int, int, int], epoch: int
) -> None:
    _, length, batch_size, num_steps, _ = case
    theirs = list(data_iter_consecutive(list(range(length)), batch_size, num_steps))
    assert (
        pairs(ConsecutiveSampler(length, batch_size, num_steps, drop_last=True), length, epoch)
        == theirs
    )


def targets_of(sampler: Sampler, length: int, epoch: int = 0) -> torch.Tensor:
    """Number of times that an epoch predicts each character, (N,)."""
    found = torch.zeros(length, dtype=torch.int64)
    for windows in epoch_of(sampler, epoch):
        steps = torch.arange(windows.num_steps)
        places = windows.starts[:, None] + 1 + steps
        if windows.lengths is not None:
            places = places[steps < windows.lengths[:, None]]
        found += torch.bincount(places.flatten(), minlength=length)
    return found


@pytest.mark.parametrize(
    ("kind", "lengths"),
    [
        ("remainder", range(100, 3001)),
        ("all random", range(100, 3001, 3)),
        ("all offset", range(100, 3001, 7)),
    ],
)
def test_by_default_every_character_but_the_first_is_a_target_once_an_epoch(
    kind: str, lengths: range
) -> None:
    for length in lengths:
        found = targets_of(sampler_of(kind, length, 32, 35, seed=length), length, length % 10)
        assert found[0] == 0
        assert bool((found[1:] == 1).all()), length


def test_the_shipped_samplers_drop_no_windows() -> None:
    for name in ("random", "consecutive"):
        text = (CONFIG_DIRECTORY / "sampler" / f"{name}.yaml").read_text("utf-8")
        assert yaml.safe_load(text)["drop_last"] is False


# ---- lines


def test_lines_by_hand() -> None:
    # ^ab$^c$^def$ with ^ the start symbol and $ the newline
    text = "^ab$^c$^def$"
    sampler = LineSampler(torch.tensor([0, 4, 7]), torch.tensor([3, 2, 4]), 2, shuffle="none")
    first, second = epoch_of(sampler)
    assert plain(first) == ([0, 4], 3, [3, 2], True, 5)
    assert plain(second) == ([7], 4, [4], True, 4)
    assert texts(first, text) == [("^ab", "ab$"), ("^c", "c$")]
    assert texts(second, text) == [("^def", "def$")]


def test_every_order_of_lines_is_equally_likely() -> None:
    sampler = LineSampler(torch.tensor([0, 4, 7]), torch.tensor([3, 2, 4]), 1, seed=3)
    orders = Counter(
        tuple(int(windows.starts) for windows in epoch_of(sampler, epoch)) for epoch in range(600)
    )
    assert len(orders) == 6
    assert all(abs(count - 100) < 6 * math.sqrt(600 / 6 * 5 / 6) for count in orders.values())


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    share=st.floats(0, 1),
    seed=st.none() | st.integers(0, 2**32),
    epoch=st.integers(0, 1000),
)
def test_an_epoch_serves_every_line_once_padded_to_the_longest_of_its_batch(
    lengths: list[int], share: float, seed: int | None, epoch: int
) -> None:
    batch_size = 1 + int(share * (len(lengths) - 1))
    starts = [sum(lengths[:number]) + number for number in range(len(lengths))]
    sampler = LineSampler(
        torch.tensor(starts),
        torch.tensor(lengths),
        batch_size,
        seed=seed or 0,
        shuffle="none" if seed is None else "each_epoch",
    )
    batches = epoch_of(sampler, epoch)
    served = []
    for windows in batches:
        assert windows.lengths is not None
        assert windows.num_steps == max(windows.lengths.tolist())
        served += zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)
    lines = list(zip(starts, lengths, strict=True))
    assert sorted(served) == lines
    assert seed is not None or served == lines
    assert [len(windows.starts) for windows in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1].starts) <= batch_size


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    longest=st.integers(1, 12),
    batch_size=st.integers(1, 6),
    carry_state=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_long_lines_are_cut_into_pieces_that_fit(
    lengths: list[int], longest: int, batch_size: int, carry_state: bool, epoch: int
) -> None:
    starts = [sum(lengths[:number]) + number for number in range(len(lengths))]
    sampler = LineSampler(
        torch.tensor(starts),
        torch.tensor(lengths),
        1 if carry_state else batch_size,
        seed=5,
        carry_state=carry_state,
        longest=longest,
    )
    served = [row for windows in epoch_of(sampler, epoch) for row in row_ranges(windows)]
    assert sum(map(len, served)) == sum(lengths) == sampler.num_read
    places = [place for row in sorted(served, key=lambda row: row.start) for place in row]
    assert places == [s + k for s, n in zip(starts, lengths, strict=True) for k in range(n)]
    assert all(1 <= len(row) <= longest for row in served)
    assert max(windows.num_steps for windows in epoch_of(sampler, epoch)) <= longest
    if carry_state:  # each piece continues the previous one or begins a line
        begins = {0, *starts}
        assert all(b.start in (a.stop, *begins) for a, b in itertools.pairwise(served))
        lines = [row.start for row in served if row.start in begins]
        assert sorted(lines) == starts
        whole = LineSampler(
            torch.tensor(starts), torch.tensor(lengths), 1, seed=5, carry_state=True
        )
        assert lines == [int(windows.starts) for windows in epoch_of(whole, epoch)]


def test_a_limit_changes_nothing_for_short_lines() -> None:
    starts, lengths = torch.tensor([0, 4, 7]), torch.tensor([3, 2, 4])
    free, limited = (LineSampler(starts, lengths, 2, seed=1, longest=most) for most in (None, 4))
    for epoch in range(5):
        assert [*map(plain, epoch_of(free, epoch))] == [*map(plain, epoch_of(limited, epoch))]


# ---- streams


@settings(deadline=None)
@given(length=st.integers(1, 200), num_rows=st.integers(1, 30), num_steps=st.integers(1, 40))
def test_a_stream_predicts_every_character_after_the_first_once(
    length: int, num_rows: int, num_steps: int
) -> None:
    batches = epoch_of(StreamSampler(length, num_rows, num_steps))
    read = [row_ranges(windows) for windows in batches]
    assert all(len(batch) == num_rows for batch in read)
    assert all(windows.num_steps <= num_steps for windows in batches)
    assert sum(windows.num_characters for windows in batches) == length - 1
    # each row reads one unbroken piece of text over all batches, and the rows in order make the
    # text
    in_order = [place for number in range(num_rows) for batch in read for place in batch[number]]
    assert in_order == list(range(length - 1))
    for number in range(num_rows):
        starts = [int(windows.starts[number]) for windows in batches]
        assert starts == [starts[0] + index * num_steps for index in range(len(batches))]


def test_a_stream_by_hand() -> None:
    text = LETTERS[:8]
    one_row = epoch_of(StreamSampler(8, 1, 3))
    assert [texts(windows, text) for windows in one_row] == [
        [("abc", "bcd")],
        [("def", "efg")],
        [("g", "h")],
    ]
    assert [windows.starts_stream for windows in one_row] == [True, False, False]
    # three rows of three targets would be nine: the last row has only one
    three_rows = epoch_of(StreamSampler(8, 3, 2))
    assert [texts(windows, text) for windows in three_rows] == [
        [("ab", "bc"), ("de", "ef"), ("g", "h")],
        [("c", "d"), ("f", "g"), ("", "")],
    ]
    assert [windows.num_characters for windows in three_rows] == [5, 2]


# ---- all samplers


@settings(deadline=None)
@given(case=cases(), epoch=st.integers(0, 2**31))
def test_windows_stay_within_the_text_and_do_not_overlap(
    case: tuple[str, int, int, int, int], epoch: int
) -> None:
    kind, length, batch_size, num_steps, _ = case
    sampler = sampler_of(*case)
    batches = epoch_of(sampler, epoch)
    assert batches
    read = Counter(place for windows in batches for row in row_ranges(windows) for place in row)
    assert set(read.values()) == {1}
    assert min(read) >= 0
    assert max(read) + 1 <= length - 1  # the last input has a target in the text
    assert all(windows.starts.dtype == torch.int64 for windows in batches)
    if kind in ("random", "offset"):
        windows_there = (length - (num_steps if kind == "offset" else 1)) // num_steps
        assert len(sampler) == windows_there // batch_size
        assert len(read) == len(sampler) * batch_size * num_steps
        first = min(read) % num_steps
        assert kind == "offset" or first == 0
        assert all(int(start) % num_steps == first for w in batches for start in w.starts)


@settings(deadline=None)
@given(case=cases())
def test_num_characters_counts_the_targets_that_are_not_ignored(
    case: tuple[str, int, int, int, int],
) -> None:
    ids = torch.arange(case[1], dtype=torch.int16)
    for windows in epoch_of(sampler_of(*case)):
        batch = cut(ids, windows)
        assert windows.num_characters == int((batch.targets != IGNORED).sum())
        assert batch.num_characters == windows.num_characters > 0
        assert batch.starts_stream == windows.starts_stream


@settings(deadline=None)
@given(case=cases(), epoch=st.integers(0, 5))
def test_only_streams_continue_where_the_previous_batch_ended(
    case: tuple[str, int, int, int, int], epoch: int
) -> None:
    batches = epoch_of(sampler_of(*case), epoch)
    flags = [windows.starts_stream for windows in batches]
    assert flags == [case[0] not in STREAMS or index == 0 for index in range(len(batches))]
    for before, after in itertools.pairwise(batches):
        if not after.starts_stream:
            assert (before.starts + before.num_steps).tolist() == after.starts.tolist()


@settings(deadline=None, max_examples=60)
@given(case=cases(), data=st.data())
def test_a_batch_depends_only_on_its_epoch_and_position(
    case: tuple[str, int, int, int, int], data: st.DataObject
) -> None:
    sampler = sampler_of(*case)
    calls = [(epoch, index) for epoch in range(7) for index in range(len(sampler))]
    first = {call: plain(sampler.windows(*call)) for call in calls}
    torch.manual_seed(data.draw(st.integers(0, 9)))
    before = torch.get_rng_state()
    fresh, stranger = sampler_of(*case), sampler_of(*case[:4], seed=case[4] + 1)
    for call in data.draw(st.lists(st.sampled_from(calls), min_size=1, max_size=40)):
        stranger.windows(call[0], 0)
        assert plain(fresh.windows(*call)) == first[call]
        assert plain(sampler.windows(*call)) == first[call]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_orders_differ_by_epoch_and_seed_for_samplers_that_draw(kind: str) -> None:
    def order(seed: int, epoch: int) -> tuple[object, ...]:
        return tuple(map(repr, map(plain, epoch_of(sampler_of(kind, 900, 4, 5, seed), epoch))))

    epochs = {order(1, epoch) for epoch in range(20)}
    seeds = {order(seed, 0) for seed in range(20)}
    assert (len(epochs), len(seeds)) == ((20, 20) if kind in NEW_ORDER else (1, 1))


# ---- texts too short


def refusal(make: Callable[[], Sampler]) -> str:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).isprintable()  # a single line
    return str(caught.value)


def fits(kind: str, length: int, batch_size: int, num_steps: int) -> bool:
    """Whether the text makes a batch, by the notebooks' loops."""
    if kind == "random":
        return any(data_iter_random(list(range(length)), batch_size, num_steps))
    if kind == "consecutive":
        return any(data_iter_consecutive(list(range(length)), batch_size, num_steps))
    # the offset may be T - 1, and the rest must hold B windows and one more target
    return any(data_iter_random(list(range(length - num_steps + 1)), batch_size, num_steps))


@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(KINDS[:3]),
    length=st.integers(2, 60),
    batch_size=st.integers(1, 20),
    num_steps=st.integers(1, 30),
)
def test_a_short_text_lowers_the_batch_size_and_is_refused_without_a_window(
    kind: str, length: int, batch_size: int, num_steps: int
) -> None:
    def make(length: int) -> RandomSampler | ConsecutiveSampler:
        sampler = sampler_of(kind, length, batch_size, num_steps)
        assert isinstance(sampler, RandomSampler | ConsecutiveSampler)
        return sampler

    fitting = [rows for rows in range(1, batch_size + 1) if fits(kind, length, rows, num_steps)]
    if fitting:
        sampler = make(length)
        assert sampler.batch_size == max(fitting)
        batches = epoch_of(sampler)
        assert [len(windows.starts) for windows in batches] == [max(fitting)] * len(batches)
        assert max(row.stop for windows in batches for row in row_ranges(windows)) <= length - 1
        return
    message = refusal(lambda: make(length))
    said = re.fullmatch(
        r"the training split has (\d+) characters, one window of data\.num_steps=(\d+) needs "
        r"(\d+): lower data\.num_steps, or set sampler\.drop_last=false",
        message,
    )
    assert said is not None
    has, steps_asked, needs = map(int, said.groups())
    assert (has, steps_asked) == (length, num_steps)
    assert len(make(needs)) == 1
    refusal(lambda: make(needs - 1))
    for whole in ("remainder", "all random", "all offset"):
        assert epoch_of(sampler_of(whole, length, batch_size, num_steps))


def test_fewer_lines_than_a_batch_are_one_batch() -> None:
    starts, lengths = torch.tensor([0, 4, 7]), torch.tensor([3, 2, 4])
    sampler = LineSampler(starts, lengths, 32, seed=0)
    assert sampler.batch_size == 3
    (batch,) = epoch_of(sampler)
    assert sorted(batch.starts.tolist()) == [0, 4, 7]


def test_a_single_line_makes_a_batch() -> None:
    (batch,) = epoch_of(LineSampler(torch.tensor([0]), torch.tensor([3]), 256, shuffle="none"))
    assert plain(batch) == ([0], 3, [3], True, 3)


@pytest.mark.parametrize("kind", ["random", "lines"])
def test_shuffle_once_gives_every_epoch_numpys_order(kind: str) -> None:
    numbers = list(range(40))
    np.random.seed(7)
    np.random.shuffle(numbers)
    sampler = (
        RandomSampler(81, 4, 2, seed=7, shuffle="once", drop_last=True)
        if kind == "random"
        else LineSampler(
            torch.arange(40) * 2, torch.ones(40, dtype=torch.int64), 4, seed=7, shuffle="once"
        )
    )
    for epoch in (0, 1, 9):
        starts = torch.cat([windows.starts for windows in epoch_of(sampler, epoch)])
        assert starts.tolist() == [2 * number for number in numbers]


def test_windows_without_shuffling_follow_the_text() -> None:
    batches = epoch_of(RandomSampler(81, 4, 2, seed=7, shuffle="none", drop_last=True), 3)
    assert torch.cat([windows.starts for windows in batches]).tolist() == list(range(0, 80, 2))


def test_a_state_carried_between_lines_is_zero_only_at_the_first() -> None:
    starts, lengths = torch.tensor([0, 4, 7]), torch.tensor([3, 2, 4])
    carried = LineSampler(starts, lengths, 1, seed=3, shuffle="once", carry_state=True)
    flags = [w.starts_stream for epoch in (0, 1) for w in epoch_of(carried, epoch)]
    assert flags == [True, False, False, False, False, False]
    with pytest.raises(ValueError, match="batches of 2 lines"):
        LineSampler(starts, lengths, 2, shuffle="once", carry_state=True)


def test_consecutive_windows_may_each_start_from_zero() -> None:
    carried, not_carried = (
        ConsecutiveSampler(50, 2, 5, carry_state=carry_state, drop_last=True)
        for carry_state in (True, False)
    )
    assert [w.starts_stream for w in epoch_of(carried)] == [True, False, False, False]
    assert [w.starts_stream for w in epoch_of(not_carried)] == [True] * 4
    for one, other in zip(epoch_of(carried), epoch_of(not_carried), strict=True):
        assert torch.equal(one.starts, other.starts)


@pytest.mark.parametrize("count", [1, 2, 1000, 30_011])
def test_the_shuffle_has_torchs_order_in_half_the_memory(count: int) -> None:
    """The order in int32 equals torch's in int64: a resumed run must keep its order."""
    generator = torch.Generator().manual_seed(5 * 1_000_003 + 2)
    first = int(torch.randint(7, (1,), generator=generator))
    expected = torch.randperm(count, generator=generator)
    shuffled = order(count, 5, 2, "each_epoch")
    assert (first_offset(7, 5, 2), shuffled.dtype) == (first, torch.int32)
    assert torch.equal(shuffled.long(), expected)
