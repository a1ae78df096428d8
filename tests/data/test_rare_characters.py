"""Rare characters, which share one symbol of the vocabulary, against counts by hand."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from lyricgen.data.cache import LargeText, encode_large
from lyricgen.data.corpus import EncodedCorpus, count_ids, encode, recode
from lyricgen.data.preparation import Corpus
from lyricgen.data.vocabulary import RARE_SYMBOL, CharacterCounts, Vocabulary
from lyricgen.errors import UserError

TEXT = "aaabbbccd" + RARE_SYMBOL * 4 + "😀雨雨雨"


def vocabulary_of(text: str, min_count: int | None, end: str = "") -> Vocabulary:
    found = CharacterCounts()
    found.add(text)
    return found.vocabulary(min_count, end)


@pytest.mark.parametrize("min_count", [1, 2, 3])
def test_characters_that_occur_less_often_are_rare(min_count: int) -> None:
    counts = Counter(TEXT)
    # a replacement character of the text cannot be told from the symbol
    rare = sorted(one for one in counts if counts[one] < min_count or one == RARE_SYMBOL)
    found = vocabulary_of(TEXT, min_count)
    assert found.rare == "".join(rare)
    assert found.characters == "".join(sorted({*counts, RARE_SYMBOL} - {*rare} | {RARE_SYMBOL}))
    assert found.num_distinct == len(counts)
    assert found.charge == pytest.approx(math.log(len(rare)))
    ids = found.encode(TEXT)
    assert found.decode(ids) == "".join(RARE_SYMBOL if one in rare else one for one in TEXT)
    assert found.knows("ad雨x").tolist() == [True, True, True, False]
    assert found.list_unknown("dx") == "'x'"
    nats = torch.arange(len(TEXT), dtype=torch.float64)
    charged = [n + math.log(len(rare)) * (one in rare) for n, one in enumerate(TEXT)]
    assert found.charge_rare(nats, ids).tolist() == pytest.approx(charged)


def test_without_rare_characters_there_is_no_symbol() -> None:
    assert vocabulary_of("aabb", 2) == vocabulary_of("aabb", None) == Vocabulary("ab")
    assert Vocabulary("ab").rare_id is None
    assert Vocabulary("ab").num_distinct == 2
    nats = torch.ones(2)
    assert Vocabulary("ab").charge_rare(nats, torch.tensor([0, 1])) is nats


def test_the_end_of_lines_is_never_rare() -> None:
    assert vocabulary_of("aabb\n", 2, "\n") == Vocabulary("\nab")
    assert encode(Corpus("x", "line", "aab\nbc\n"), 2).vocabulary == Vocabulary("\nab�", "c")
    assert encode(Corpus("x", "text", "aab\nbc"), 2).vocabulary == Vocabulary("ab�", "\nc")


@pytest.mark.parametrize(("text", "min_count"), [("aab", 2), ("ab", 9)])
def test_a_text_of_rare_characters_is_refused(text: str, min_count: int) -> None:
    with pytest.raises(UserError, match=f"data.min_count={min_count}: only [01] of 2 characters"):
        vocabulary_of(text, min_count)


def test_the_digest_covers_the_rare_characters() -> None:
    digests = {encode(Corpus("x", "text", f"aabb{rare}"), 2).digest for rare in "cd"}
    assert len(digests) == 2
    plain = Corpus("x", "text", "aabb")
    assert encode(plain).digest == encode(plain, 2).digest


def test_a_text_in_the_cache_has_the_same_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))
    file = tmp_path / "a.txt"
    file.write_text(TEXT, "utf-8")
    for min_count in (2, 3, None):
        large = LargeText(file, "utf-8", "refuse", "keep", False, None, 10**6, min_count)
        mapped, held = encode_large(large, "a"), encode(Corpus("a", "text", TEXT), min_count)
        assert mapped.vocabulary == held.vocabulary
        assert mapped.digest == held.digest
        assert torch.equal(mapped.ids, held.ids)


def test_a_union_keeps_the_rare_characters_of_the_text() -> None:
    text, older = Vocabulary("ab�", "cd"), Vocabulary("bce�", "adf")
    found = text.union(older)
    assert found == Vocabulary("abe�", "cdf")  # the older model knows the c
    assert found.decode(found.encode("abcdef")) == "ab��e�"
    ids = text.encode("abcd")
    corpus = EncodedCorpus("x", "text", text, ids, count_ids(ids, 3), "digest")
    assert found.decode(recode(corpus, found).ids) == "ab��"
    assert Vocabulary("ab").union(Vocabulary("a�", "b")) == Vocabulary("ab")
    assert Vocabulary("ab�").union(Vocabulary("a�", "b")) == Vocabulary("ab�")  # a text with �
    assert Vocabulary("ab").union(Vocabulary("c")) == Vocabulary("abc")


@pytest.mark.parametrize(
    ("characters", "rare"), [("ab", "c"), ("ab�", "dc"), ("ab�", "cc"), ("ab�", "bc")]
)
def test_rare_characters_without_a_symbol_or_an_order_are_refused(
    characters: str, rare: str
) -> None:
    with pytest.raises(UserError, match="not sorted and distinct"):
        Vocabulary(characters, rare)
