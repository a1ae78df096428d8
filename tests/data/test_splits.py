"""Splits of a corpus: the content of each, and the starts of its lines."""

from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lyricgen.data.corpus import encode
from lyricgen.data.preparation import Corpus
from lyricgen.data.splits import Layout, Split, make_splits
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError

LETTERS = "abcdefghijklmnopqrstuvwxyz"

shares = st.tuples(st.floats(0, 0.6), st.floats(0, 0.39))
names = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=40)


def splits_of(
    text: str,
    unit: str,
    layout: Layout = "stream",
    val: float = 0.0,
    test: float = 0.0,
    split_seed: int = 0,
) -> tuple[Vocabulary, dict[str, Split]]:
    corpus = encode(Corpus("a text", unit, text))  # type: ignore[arg-type]
    return corpus.vocabulary, make_splits(
        corpus,
        layout=layout,
        val_fraction=val,
        test_fraction=test,
        split_seed=split_seed,
    )


def spell(vocabulary: Vocabulary, split: Split) -> str:
    """Text of a split, with ^ for the start symbol."""
    return "".join([*vocabulary.characters, "^"][number] for number in split.ids.tolist())


# ---- documents


def test_documents_by_hand() -> None:
    vocabulary, splits = splits_of("a\nb\x03c\x03\nd\n\x03", "document", "documents")
    assert vocabulary.characters == "\x03\nabcd"
    assert spell(vocabulary, splits["train"]) == "^a\nb\x03^c\x03^\nd\n\x03"
    assert splits["train"].line_starts is not None
    assert splits["train"].line_starts.tolist() == [0, 5, 8]
    assert splits["train"].line_lengths.tolist() == [4, 2, 4]
    assert spell(vocabulary, Split(splits["train"].last(7), None)) == "^c\x03^\nd\n\x03"


def test_documents_are_held_out_as_a_whole() -> None:
    """Every document is in one split with its repeats, though all lines of them are equal."""
    documents = [f"{letter}\nla\nla" for letter in LETTERS[:20]] * 2
    text = "".join(f"{one}\x03" for one in documents)
    vocabulary, splits = splits_of(text, "document", "documents", val=0.2, test=0.1)
    found = {
        name: split.text(vocabulary).removesuffix("\x03").split("\x03")
        for name, split in splits.items()
    }
    assert {name: len(each) for name, each in found.items()} == {"train": 28, "val": 8, "test": 4}
    assert Counter(one for each in found.values() for one in each) == Counter(documents)
    assert len({one for each in found.values() for one in set(each)}) == 20
    assert sum(len(set(each)) for each in found.values()) == 20


# ---- running text


def test_running_text_by_hand() -> None:
    vocabulary, splits = splits_of("abracadabra" * 10, "text", val=0.2, test=0.1)
    assert list(splits) == ["train", "val", "test"]
    # 110 characters: 22 for validation, 11 for the test
    assert spell(vocabulary, splits["train"]) == "abracadabra" * 7
    assert spell(vocabulary, splits["val"]) == "abracadabra" * 2
    assert spell(vocabulary, splits["test"]) == "abracadabra"
    assert splits["test"].ids.tolist() == [0, 1, 4, 0, 2, 0, 3, 0, 1, 4, 0]
    for split in splits.values():
        assert split.ids.dtype == torch.uint8
        assert split.line_starts is None


@settings(deadline=None)
@given(text=st.text("ab \n", min_size=2, max_size=300), fractions=shares)
def test_running_text_is_cut_into_contiguous_splits(
    text: str, fractions: tuple[float, float]
) -> None:
    try:
        vocabulary, splits = splits_of(text, "text", "stream", *fractions)
    except UserError:
        assume(False)
    assert "".join(spell(vocabulary, split) for split in splits.values()) == text
    held_out = [name for name, share in zip(("val", "test"), fractions, strict=True) if share]
    assert list(splits) == ["train", *held_out]
    for name, share in zip(("val", "test"), fractions, strict=True):
        if share:
            size = len(splits[name].ids)
            assert size == 2 or abs(size - share * len(text)) <= 0.5


def test_splits_without_a_fraction_are_absent() -> None:
    for unit, text in (("text", LETTERS), ("line", "\n".join([*LETTERS, ""]))):
        for fractions, there in (
            ((0.0, 0.0), ["train"]),
            ((0.2, 0.0), ["train", "val"]),
            ((0.0, 0.2), ["train", "test"]),
            ((0.2, 0.2), ["train", "val", "test"]),
        ):
            assert list(splits_of(text, unit, "stream", *fractions)[1]) == there


# ---- lines


def test_lines_by_hand() -> None:
    vocabulary, splits = splits_of("ab\nc\n", "line", "lines")
    assert vocabulary.characters == "\nabc"
    (split,) = splits.values()
    assert split.ids.tolist() == [4, 1, 2, 0, 4, 3, 0]  # V a b \n V c \n
    assert split.ids.dtype == torch.uint8
    assert split.line_starts is not None
    assert split.line_starts.tolist() == [0, 4]
    assert split.line_starts.dtype == torch.int64
    assert split.line_lengths.tolist() == [3, 2]
    assert split.text(vocabulary) == "ab\nc\n"


@pytest.mark.parametrize(
    ("max_chars", "kept"),
    [
        (1, "^c\n"),
        (2, "^c\n"),
        (4, "^c\n"),
        (5, "^ab\n^c\n"),
        (6, "^ab\n^c\n"),
        (9, "^def\n^ab\n^c\n"),
    ],
)
def test_last_returns_whole_lines(max_chars: int, kept: str) -> None:
    vocabulary, splits = splits_of("def\nab\nc\n", "line", "lines")
    assert spell(vocabulary, Split(splits["train"].last(max_chars), None)) == kept


@pytest.mark.parametrize(
    ("max_chars", "kept"), [(1, "a"), (3, "bra"), (11, "abracadabra"), (50, "abracadabra")]
)
def test_last_returns_the_last_characters_of_running_text(max_chars: int, kept: str) -> None:
    vocabulary, splits = splits_of("abracadabra", "text")
    assert spell(vocabulary, Split(splits["train"].last(max_chars), None)) == kept


def test_lines_as_running_text_by_hand() -> None:
    _, splits = splits_of("ab\nc\n", "line", "stream")
    (split,) = splits.values()
    assert split.ids.tolist() == [1, 2, 0, 3, 0]
    assert split.line_starts is None
    with pytest.raises(ValueError, match="no lines"):
        _ = split.line_lengths


@settings(deadline=None)
@given(
    lines=names,
    fractions=shares,
    split_seed=st.integers(0, 5),
    layout=st.sampled_from(["lines", "stream"]),
)
def test_every_line_is_whole_in_one_split(
    lines: list[str], fractions: tuple[float, float], split_seed: int, layout: Layout
) -> None:
    text = "".join(line + "\n" for line in lines)
    try:
        vocabulary, splits = splits_of(text, "line", layout, *fractions, split_seed=split_seed)
    except UserError:
        assume(False)
    start = "^" if layout == "lines" else ""
    found = {}
    for name, split in splits.items():
        laid_out = spell(vocabulary, split)
        found[name] = laid_out.replace("^", "").removesuffix("\n").split("\n")
        assert laid_out == "".join(start + line + "\n" for line in found[name])
        assert found[name] == [line for line in lines if line in found[name]]  # in their order
        if layout == "stream":
            assert split.line_starts is None
            continue
        assert split.line_starts is not None
        first = [place for place, symbol in enumerate(laid_out) if symbol == "^"]
        assert split.line_starts.tolist() == first
        assert split.line_lengths.tolist() == [len(line) + 1 for line in found[name]]
    assert Counter(line for split in found.values() for line in split) == Counter(lines)
    assert sum(len(set(split)) for split in found.values()) == len(set(lines))
    distinct = len(set(lines))
    for name, share in zip(("val", "test"), fractions, strict=True):
        assert (name in splits) == (share > 0)
        if share:
            size = len(set(found[name]))
            assert size == 1 or abs(size - share * distinct) <= 0.5


def test_only_the_split_seed_chooses_the_lines() -> None:
    text = "".join(f"{one}{two}\n" for one in LETTERS for two in LETTERS)

    def val_of(split_seed: int) -> str:
        vocabulary, splits = splits_of(text, "line", "lines", 0.1, split_seed=split_seed)
        return spell(vocabulary, splits["val"])

    drawn = [val_of(split_seed) for split_seed in range(5)]
    assert len(set(drawn)) == 5
    torch.manual_seed(7)
    assert [val_of(split_seed) for split_seed in range(5)] == drawn


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (255, torch.uint8),
        (256, torch.int16),
        (32_767, torch.int16),
        (32_768, torch.int32),
    ],
)
def test_the_start_symbol_fits_beside_every_vocabulary(size: int, dtype: torch.dtype) -> None:
    line = "".join(chr(0x100 + number) for number in range(size - 1))
    vocabulary, splits = splits_of(f"{line}\n{line[-1]}\n", "line", "lines")
    assert len(vocabulary) == size
    ids = splits["train"].ids
    assert ids.dtype == dtype
    assert ids.tolist() == [size, *range(1, size), 0, size, size - 1, 0]
    assert splits["train"].line_lengths.tolist() == [size, 2]


def test_fractions_that_leave_nothing_to_train_on_are_refused() -> None:
    for unit, text in (("text", "abc"), ("line", "a\nb\n")):
        with pytest.raises(UserError) as caught:
            splits_of(text, unit, "stream", 0.4, 0.4)
        assert str(caught.value).isprintable()
        assert "data.val_fraction=0.4 and data.test_fraction=0.4" in str(caught.value)
