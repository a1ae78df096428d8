"""A corpus as ids: its text and the counts of its characters."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lyricgen.data import corpus
from lyricgen.data.corpus import count_ids, encode
from lyricgen.data.preparation import Corpus
from lyricgen.data.splits import make_splits


@given(text=st.text(min_size=1))
def test_encoding_keeps_the_text_and_counts_its_characters(text: str) -> None:
    encoded = encode(Corpus("songs", "text", text))
    assert (encoded.name, encoded.unit, len(encoded)) == ("songs", "text", len(text))
    assert encoded.vocabulary.decode(encoded.ids) == text
    counted = [text.count(character) for character in encoded.vocabulary.characters]
    assert encoded.counts.tolist() == counted
    assert text.lstrip().startswith(encoded.decode_opening(1000))
    assert bool(encoded.decode_opening(1000)) == bool(text.strip())


def test_opening_skips_leading_white_space() -> None:
    encoded = encode(Corpus("songs", "text", " \n" * 2000 + "分开"))
    assert encoded.decode_opening(1000) == "分开"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_counting_in_pieces_skips_ids_outside_the_vocabulary(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(corpus, "_CHUNK", 7)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 12, 100)).to(dtype)
    counts = count_ids(ids, 10)  # 10 and 11 are outside the vocabulary
    assert counts.dtype == torch.int64
    np.testing.assert_array_equal(counts, np.bincount(ids.numpy(), minlength=12)[:10])
    assert count_ids(ids[:0], 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("fractions", [(0.0, 0.0), (0.2, 0.0), (0.1, 0.3)])
@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("unit", ["text", "line"])
def test_character_counts_of_each_split_equal_a_direct_count(
    unit: str, layout: str, fractions: tuple[float, float]
) -> None:
    if (unit, layout) == ("text", "lines"):
        pytest.skip("running text has no lines")
    text = "".join(f"line {number}\n" for number in range(50))
    corpus = encode(Corpus("a text", unit, text))  # type: ignore[arg-type]
    val, test = fractions
    splits = make_splits(corpus, layout=layout, val_fraction=val, test_fraction=test, split_seed=0)  # type: ignore[arg-type]
    size = len(corpus.vocabulary)
    for split in splits.values():
        counted = np.bincount(split.ids.numpy(), minlength=size + 1)[:size]
        np.testing.assert_array_equal(split.character_counts(size), counted)
