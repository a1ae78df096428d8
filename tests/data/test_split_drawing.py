"""Drawing of three splits that cover the corpus without overlap."""

import logging
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lyricgen.data.splits import split_lines, split_text
from lyricgen.errors import UserError

fractions = st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).filter(lambda two: sum(two) < 1)
names = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=60)


def refusal(split, *arguments: object) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError) as caught:
        split(*arguments)
    assert str(caught.value).isprintable()
    return str(caught.value)


@given(length=st.integers(0, 100_000), shares=fractions)
def test_ranges_tile_the_text_in_order(length: int, shares: tuple[float, float]) -> None:
    try:
        ranges = split_text(length, *shares)
    except UserError:
        assume(False)
    positions = [place for start, stop in ranges for place in (start, stop)]
    assert positions == sorted(positions)
    assert positions[0] == 0
    assert positions[-1] == length
    assert positions[1:-1:2] == positions[2::2]
    sizes = [stop - start for start, stop in ranges]
    assert sizes[0] >= 2
    for size, share in zip(sizes[1:], shares, strict=True):
        assert (size == 0) == (share == 0)
        assert size in {0, 2} or abs(size - length * share) <= 0.5


def test_the_lyrics_have_their_known_split() -> None:
    assert split_text(63_282, 0.1, 0.1) == ((0, 50_626), (50_626, 56_954), (56_954, 63_282))
    assert split_text(100, 0.29, 0) == ((0, 71), (71, 100), (100, 100))
    assert split_text(100, 0, 0.5) == ((0, 50), (50, 50), (50, 100))
    assert split_text(10_000, 0, 0) == ((0, 10_000), (10_000, 10_000), (10_000, 10_000))


def test_no_held_out_split_is_longer_than_allowed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert split_text(10_000, 0.1, 0.1, 1000) == split_text(10_000, 0.1, 0.1)
        assert not caplog.messages
        assert split_text(10_000, 0.1, 0.05, 600) == ((0, 8_900), (8_900, 9_500), (9_500, 10_000))
        assert split_text(10_000, 0.9, 0, 2) == ((0, 9_998), (9_998, 10_000), (10_000, 10_000))
    assert len(caplog.messages) == 2
    assert "data.max_held_out=600 is less than the 1000 characters" in caplog.messages[0]


def test_held_out_lines_have_at_most_the_allowed_characters() -> None:
    lines = [f"{number:03}" for number in range(50)] * 2  # four characters each, with the newline
    train, val, test = split_lines(lines, 0.2, 0.04, 3, 19)
    assert [len(split) for split in (train, val, test)] == [88, 8, 4]
    assert [len(split) for split in split_lines(lines, 0.2, 0.04, 3, 1)] == [96, 2, 2]
    longer = split_lines(lines, 0.2, 0.04, 3)
    assert set(val) <= set(longer[1])
    assert sorted([*train, *val, *test]) == list(range(100))


def test_a_held_out_split_has_at_least_two_characters() -> None:
    assert split_text(10, 0.01, 0.01) == ((0, 6), (6, 8), (8, 10))


@given(lines=names, shares=fractions, seed=st.integers(0, 5))
def test_lines_are_split_without_leaks(
    lines: list[str], shares: tuple[float, float], seed: int
) -> None:
    try:
        splits = split_lines(lines, *shares, seed)
    except UserError:
        assume(False)
    assert sorted(index for split in splits for index in split) == list(range(len(lines)))
    assert all(split == sorted(split) for split in splits)
    train, val, test = ({lines[index] for index in split} for split in splits)
    assert not train & val and not train & test and not val & test
    assert train
    for distinct, share in zip((val, test), shares, strict=True):
        assert (not distinct) == (share == 0)
        ideal = len(set(lines)) * share
        assert len(distinct) <= 1 or abs(len(distinct) - ideal) <= 0.5


def test_repeats_are_kept() -> None:
    lines = ["a", "b", "a", "c", "b", "a"] * 3
    splits = split_lines(lines, 0.3, 0.3, 0)
    assert all(len({lines[index] for index in split}) == 1 for split in splits)
    assert sum(
        (Counter(lines[index] for index in split) for split in splits), Counter()
    ) == Counter(lines)


def test_the_seed_chooses_among_all_lines() -> None:
    lines = [str(number) for number in range(20)]
    assert split_lines(lines, 0.1, 0.1, 7) == split_lines(lines, 0.1, 0.1, 7)
    drawn = Counter(index for seed in range(300) for index in split_lines(lines, 0.1, 0.1, seed)[1])
    # 600 draws over 20 lines: 30 each, with a standard deviation of about five.
    assert len(drawn) == 20
    assert 8 < min(drawn.values()) <= max(drawn.values()) < 55


@pytest.mark.slow
def test_the_split_does_not_depend_on_the_order_of_hashes() -> None:
    program = (
        "from lyricgen.data.splits import split_lines;"
        "print(split_lines([f'name{n % 40}' for n in range(100)], 0.2, 0.2, 3))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert printed == {f"{split_lines([f'name{n % 40}' for n in range(100)], 0.2, 0.2, 3)}\n"}


@pytest.mark.parametrize(
    "shares", [(-0.1, 0.0), (0.0, -0.1), (0.5, 0.5), (1.0, 0.0), (0.9, 0.2), (float("nan"), 0.0)]
)
def test_impossible_fractions_are_refused(shares: tuple[float, float]) -> None:
    for message in (
        refusal(split_text, 100, *shares),
        refusal(split_lines, ["a", "b", "c"], *shares, 0),
    ):
        assert f"data.val_fraction={shares[0]} " in message
        assert f"data.test_fraction={shares[1]}" in message
        assert "below 1" in message


@pytest.mark.parametrize(
    ("length", "shares", "left"),
    [(0, (0.0, 0.0), 0), (1, (0.0, 0.0), 1), (3, (0.1, 0.0), 1), (10, (0.45, 0.45), None)],
)
def test_a_text_with_nothing_left_to_train_on_is_refused(
    length: int, shares: tuple[float, float], left: int | None
) -> None:
    if left is None:  # 4 and 4 of 10 leave two: just enough
        assert split_text(length, *shares)[0] == (0, 2)
        return
    message = refusal(split_text, length, *shares)
    assert f"leave {left} of {length} characters" in message
    assert "at least 2" in message


@pytest.mark.parametrize(("lines", "left"), [([], 0), (["a", "a"], 0), (["a", "b", "a"], 0)])
def test_a_list_with_nothing_left_to_train_on_is_refused(lines: list[str], left: int) -> None:
    message = refusal(split_lines, lines, 0.1, 0.1, 0)
    assert f"leave {left} of {len(np.unique(lines))} distinct lines" in message
    assert "at least 1" in message
