"""Share of a model's texts that stands in the training split, against sets of strings."""

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lyricgen.api.models import WritingModel
from lyricgen.data.corpus import encode
from lyricgen.data.preparation import Corpus
from lyricgen.data.splits import Split, make_splits
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.evaluation import memorisation
from lyricgen.evaluation.memorisation import (
    BASE,
    NGRAMS,
    Overlap,
    SharedNgrams,
    distinct_ngrams,
    list_texts,
    measure,
    measure_overlap,
)
from lyricgen.training.callbacks.samples import Copying
from tests.helpers.callbacks import names, network_of
from tests.helpers.fill_models import model_of as fill_model

Layout = Literal["stream", "lines"]

letters = st.text("abc", max_size=60)


def ids(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8) - 97


def windows(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def longest(train: str, texts: list[str]) -> int:
    runs = {run for text in texts for n in range(1, len(text) + 1) for run in windows(text, n)}
    return max((len(run) for run in runs if run in train), default=0)


@given(letters, st.lists(letters, max_size=4), st.sampled_from([1, 7, 1 << 18]))
def test_shared_ngrams_equal_sets_of_strings(train: str, texts: list[str], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorisation, "CHUNK", chunk)
        shared = SharedNgrams(ids(train), 26)
        found = shared.find([ids(text) for text in texts], range(1, 13))
        for n in range(1, 13):
            known = set(windows(train, n))
            assert found[n].tolist() == [w in known for text in texts for w in windows(text, n)]
        assert shared.longest([ids(text) for text in texts]) == longest(train, texts)


def test_shares_worked_by_hand() -> None:
    shared = SharedNgrams(ids("abcdefg"), 26)
    # abcdx: abcd, bcdx. defgabc: defg, efga, fgab, gabc. ab: none.
    found = measure_overlap(shared, [ids("abcdx"), ids("defgabc"), ids("ab")], [4, 5, 7, 8])
    assert found == Overlap(3, 14, {4: 2 / 6, 5: 0.0, 7: 0.0}, longest=4)


def test_no_run_crosses_two_texts() -> None:
    shared = SharedNgrams(ids("abcdefgh"), 26)
    assert measure_overlap(shared, [ids("abcd"), ids("efgh")], [4, 5]).ngrams == {4: 1.0}
    assert shared.longest([ids("abcd"), ids("efgh")]) == 4


def test_a_whole_song_by_heart() -> None:
    numbers = np.random.default_rng(3)
    train = numbers.integers(0, 500, 300_000).astype(np.int16)  # more than one piece
    start = memorisation.CHUNK - 300
    shared = SharedNgrams(train, 501)
    found = measure_overlap(
        shared, [train[start : start + 700], numbers.integers(0, 500, 700)], [4, 12]
    )
    assert found.ngrams[12] == pytest.approx(1 / 2)
    assert found.longest == 700


def test_a_run_is_never_longer_for_being_repeated() -> None:
    shared = SharedNgrams(ids("a" * 50), 26)
    assert shared.longest([ids("a" * 49), ids("b" * 80)]) == 49
    assert shared.longest([ids("a" * 90)]) == 50
    assert shared.longest([ids("b")]) == 0
    assert shared.longest([]) == 0


def test_stated_probability_of_a_wrong_answer() -> None:
    """Windows x ≠ y agree with probability 2^(v-64) if 2^v divides Σ ±B^k of some symbol."""
    sums = np.zeros(1, np.uint64)
    for power in range(12):
        one = np.uint64(pow(BASE, power, 2**64))
        sums = np.concatenate([sums, sums + one, sums - one])
    lowest = sums[1:] & (~sums[1:] + np.uint64(1))  # the largest power of 2 that divides each
    assert lowest.min() > 0  # no sum is 0
    assert math.log2(lowest.max()) <= 64 - 47


def splits_of(text: str, layout: Layout) -> dict[str, Split]:
    corpus = encode(Corpus("test", "line" if layout == "lines" else "text", text))
    return make_splits(corpus, layout=layout, val_fraction=0.2, test_fraction=0.2, split_seed=0)


@given(st.lists(st.text("ab", max_size=9), max_size=8), st.integers(1, 4))
def test_distinct_ngrams(texts: list[str], n: int) -> None:
    every = [window for text in texts for window in windows(text, n)]
    found = distinct_ngrams([ids(text) for text in texts], n)
    assert found == (len(set(every)) / len(every) if every else None)


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_a_split_is_divided_into_texts(layout: Layout) -> None:
    text = names(40)
    corpus = encode(Corpus("test", "line" if layout == "lines" else "text", text))
    splits = splits_of(text, layout)
    found = [
        "".join(corpus.vocabulary.characters[i] for i in ids)
        for name in ("train", "val", "test")
        for ids in list_texts(splits[name])
    ]
    if layout == "stream":
        assert "".join(found) == text
    else:
        assert sorted(found) == sorted(text.split("\n")[:-1])


def pieces(split: Split, layout: Layout, vocabulary: Vocabulary) -> list[str]:
    text = vocabulary.decode(split.ids[split.ids < len(vocabulary)])
    return [text] if layout == "stream" else text.removesuffix("\n").split("\n")


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_measure_by_sets_of_strings(layout: Layout) -> None:
    splits = splits_of(names(60), layout)
    vocabulary = Vocabulary.of(names(60))
    model = WritingModel(network_of(vocabulary, layout), vocabulary, layout, lowercase=False)
    found = measure(model, splits, count=30, length=25, temperature=0.5, seed=3)
    drawn = model.generate_many([""], count=30, length=25, temperature=0.5, seed=3)
    train = pieces(splits["train"], layout, vocabulary)
    held_out = [one for name in ("val", "test") for one in pieces(splits[name], layout, vocabulary)]
    assert found.held_out is not None
    for figures, texts in ((found.generated, drawn), (found.held_out, held_out)):
        assert (figures.texts, figures.characters) == (len(texts), sum(map(len, texts)))
        for n in NGRAMS:
            every = [window for one in texts for window in windows(one, n)]
            share = [any(window in line for line in train) for window in every]
            assert figures.ngrams.get(n) == (pytest.approx(np.mean(share)) if share else None)
        assert figures.longest == max(longest(line, texts) for line in train)
    for n in (4, 8):
        each = [windows(text, n) for text in drawn]
        again = [one in some[:i] for some in each for i, one in enumerate(some)]
        assert found.repeated[n] == pytest.approx(np.mean(again))
    if layout == "stream":
        assert found.names is None
        return
    whole = [one for one in drawn if len(one) < 25]
    assert found.names is not None
    assert 0 < found.names.whole == len(whole) < 30
    assert found.names.in_train == sum(name in train for name in whole) / len(whole)
    assert found.names.in_held_out == sum(name in held_out for name in whole) / len(whole)
    assert found.names.distinct == len(set(whole)) / len(whole)


def test_measure_of_a_model_that_fills_gaps() -> None:
    vocabulary = Vocabulary.of(names(20))
    network = fill_model("lstm", vocabulary_size=len(vocabulary))
    model = WritingModel(network, vocabulary, "stream", lowercase=False)
    with pytest.raises(UserError, match="fills gaps"):
        measure(model, {}, count=1, length=5, temperature=1, seed=1)


# Figures that training logs


def figures_of(text: str, layout: Layout, drawn: list[tuple[str, str]]) -> dict[str, float]:
    corpus = encode(Corpus("test", "line" if layout == "lines" else "text", text))
    model = WritingModel(network_of(corpus.vocabulary, layout), corpus.vocabulary, layout, False)
    whole: dict[str, Any] = {"val_fraction": 0, "test_fraction": 0, "split_seed": 0}
    return Copying(model, make_splits(corpus, layout=layout, **whole), 20).figures(drawn)


def test_figures_of_a_text() -> None:
    found = figures_of(
        "abcdefghijkl\nxyz\n", "stream", [("", "abcdefgh\nabcd\n"), ("abc", "abcdz")]
    )
    # the first text has 11 fours, 5 + 1 of them copied: abcd … efgh, abcd; dz has none
    assert found == {
        "samples/copied_fraction": 0.0,
        "samples/copied_ngrams_4": 6 / 11,
        "samples/copied_ngrams_8": 1 / 7,
        "samples/copied_ngrams_12": 0.0,
        "samples/longest_copied": 8,
    }


def test_figures_of_names() -> None:
    found = figures_of("abcde\nfgh\n", "lines", [("", "abcdf"), ("", "fgh"), ("ab", "abcde")])
    assert found == {
        "samples/copied_fraction": 2 / 3,
        "samples/copied_ngrams_4": 1 / 2,
        "samples/longest_copied": 4,
        "samples/distinct_2": 7 / 8,  # ab bc cd df, fg gh, cd de
    }


def test_a_name_ends_before_the_next() -> None:
    """Neither newline nor start symbol is part of a name's n-grams."""
    found = figures_of("abcd\nefgh\n" * 4, "lines", [("", "abcdefgh")])
    assert found["samples/longest_copied"] == 4
    assert found["samples/copied_ngrams_4"] == 2 / 5


def test_share_of_held_out_names() -> None:
    splits = splits_of(names(60), "lines")
    corpus = encode(Corpus("test", "line", names(60)))
    model = WritingModel(network_of(corpus.vocabulary, "lines"), corpus.vocabulary, "lines", False)
    [held_out, *_] = [
        model.vocabulary.decode(one) for one in map(torch.from_numpy, list_texts(splits["test"]))
    ]
    [trained, *_] = [
        model.vocabulary.decode(one) for one in map(torch.from_numpy, list_texts(splits["train"]))
    ]
    found = Copying(model, splits, 50).figures([("", held_out), ("", trained), ("", trained * 2)])
    assert found["samples/in_held_out"] == pytest.approx(1 / 3)
    assert found["samples/copied_fraction"] == pytest.approx(1 / 3)


def test_no_draws_have_no_figures() -> None:
    assert figures_of("abc\nde\n", "stream", [("", "")]) == {}
    assert figures_of("abc\nde\n", "lines", []) == {}
