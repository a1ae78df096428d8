"""A vocabulary gives characters fixed ids and decodes every encoded text."""

import os
import pickle
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lyricgen.data.corpus import EncodedCorpus, count_ids, recode
from lyricgen.data.preparation import prepare
from lyricgen.data.reading import read_text
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError

texts = st.text(st.characters(), min_size=1)


def first_characters(count: int) -> str:
    return "".join(map(chr, range(count)))


@given(text=texts)
@example(text="\ud800\udc00\ud83d\ude00🚀\0")
@example(text="\U0010ffff")
def test_decoding_returns_any_encoded_text(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert vocabulary.characters == "".join(sorted(set(text)))
    assert len(vocabulary) == len(set(text))
    assert ids.shape == (len(text),)
    assert ids.tolist() == [sorted(set(text)).index(one) for one in text]
    assert vocabulary.decode(ids) == text


def test_ids_follow_the_code_points() -> None:
    vocabulary = Vocabulary.of("不分开\n 分")
    assert vocabulary.characters == "\n 不分开"
    assert vocabulary.encode("分开\n").tolist() == [3, 4, 0]
    assert vocabulary.decode(torch.tensor([2, 3, 4])) == "不分开"


def test_texts_longer_than_a_piece_are_encoded_whole() -> None:
    text = "abc🚀" * 300_000 + "z"
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert vocabulary.characters == "abcz🚀"
    assert torch.equal(ids, torch.tensor([0, 1, 2, 4] * 300_000 + [3], dtype=torch.uint8))
    with pytest.raises(UserError, match="'y'"):
        vocabulary.encode(text + "y")


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1, torch.uint8),
        (255, torch.uint8),
        (256, torch.int16),
        (32_767, torch.int16),
        (32_768, torch.int32),
        (0x110000, torch.int32),
    ],
)
def test_ids_have_the_smallest_type_with_room_for_one_more(size: int, dtype: torch.dtype) -> None:
    vocabulary = Vocabulary(first_characters(size))
    ids = vocabulary.encode(chr(size - 1))
    assert ids.dtype == vocabulary.dtype == dtype
    assert ids.tolist() == [size - 1]
    assert torch.full((1,), size, dtype=dtype).item() == size


def test_an_empty_text_has_no_ids() -> None:
    vocabulary = Vocabulary.of("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.encode("").dtype == torch.uint8
    assert vocabulary.decode(vocabulary.encode("")) == ""


def test_vocabularies_with_equal_characters_are_equal() -> None:
    assert Vocabulary.of("cabbage") == Vocabulary("abceg")
    assert Vocabulary.of("cab") != Vocabulary.of("cabs")


def test_a_vocabulary_can_be_sent_to_another_process() -> None:
    vocabulary = Vocabulary.of("分开")
    vocabulary.encode("开")
    copy = pickle.loads(pickle.dumps(vocabulary))
    assert copy == vocabulary
    assert copy.encode("分开").tolist() == [0, 1]


@pytest.mark.parametrize("characters", ["ba", "aa", "abca", "a\n"])
def test_unsorted_or_repeated_characters_are_refused(characters: str) -> None:
    with pytest.raises(UserError, match="not sorted and distinct") as caught:
        Vocabulary(characters)
    assert str(caught.value).isprintable()


def test_an_empty_vocabulary_is_refused() -> None:
    for empty in (Vocabulary, Vocabulary.of):
        with pytest.raises(UserError, match=r"^the vocabulary is empty.*$"):
            empty("")


def test_unknown_characters_are_listed_in_printable_form() -> None:
    with pytest.raises(UserError) as caught:
        Vocabulary.of("分开").encode("不分\x1b[31m\n\u202e\ud800'不")
    message = str(caught.value)
    assert message.isprintable()
    for part in ("'不'", r"'\x1b'", r"'\n'", r"'\u202e'", r"'\ud800'", "'['", '"\'"'):
        assert part in message
    assert message.count("不") == 1
    assert "'分'" not in message


@pytest.mark.parametrize(
    ("typed", "known", "listed"),
    [
        ("'", "ab’", "\"'\" (it has '’')"),
        (",", "。，分", "',' (it has '，')"),
        ("，", ",.a", "'，' (it has ',')"),
        ("!", "！", "'!' (it has '！')"),
        ('"', "“”a", "'\"' (it has '“' or '”')"),
        ("—", "-", "'—' (it has '-')"),
        ("\u3000", " a", r"'\u3000' (it has ' ')"),
        ("\u00a0", " a", r"'\xa0' (it has ' ')"),
        ("A", "abc", "'A' (it has 'a')"),
        ("é", "É", "'é' (it has 'É')"),
        ("Ｂ", "ab", "'Ｂ' (it has 'b')"),
        ("．", "。", "'．' (it has '。')"),
        ("1", "１２", "'1' (it has '１')"),
    ],
)
def test_an_error_names_the_twin_that_is_known(typed: str, known: str, listed: str) -> None:
    vocabulary = Vocabulary.of(known)
    with pytest.raises(UserError) as caught:
        vocabulary.encode(known + typed)
    assert f"does not have: {listed}; leave" in str(caught.value)
    assert vocabulary.list_unknown(typed + "Ω") in (f"{listed}, 'Ω'", f"'Ω', {listed}")


@pytest.mark.parametrize("typed", list("Ωz?\n\x1b一;("))
def test_a_character_unlike_all_known_ones_has_no_twin(typed: str) -> None:
    assert Vocabulary.of("ab.,' \u202e：我").list_unknown(typed) == repr(typed)


def test_only_the_first_ten_unknown_characters_are_listed() -> None:
    with pytest.raises(UserError) as caught:
        Vocabulary.of("xyz").encode("lkjihgfedcbaxx")
    message = str(caught.value)
    assert all(repr(one) in message for one in "abcdefghij")
    assert "'k'" not in message
    assert " and 2 more;" in message
    assert "of 3 " in message


@pytest.mark.parametrize(
    "ids",
    [torch.tensor([0, 3]), torch.tensor([-1]), torch.tensor(1), torch.tensor([[0, 1]])],
    ids=["the start of a line", "negative", "no dimension", "two dimensions"],
)
def test_ids_outside_the_vocabulary_are_not_decoded(ids: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^ids must"):
        Vocabulary.of("abc").decode(ids)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_ids_of_any_integer_type_are_decoded(dtype: torch.dtype) -> None:
    assert Vocabulary.of("abc").decode(torch.tensor([2, 0, 1, 1], dtype=dtype)) == "cabb"


def test_encoding_a_long_text_takes_little_memory_beyond_its_ids() -> None:
    text = "0123456789abcdef" * 500_000
    tracemalloc.start()
    vocabulary = Vocabulary.of(text)
    vocabulary.encode(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Torch's own memory is not traced; one code point a character would be 32 million bytes.
    assert peak < 12_000_000


def test_encoding_runs_no_python_for_each_character() -> None:
    text = "0123456789abcdef" * 200_000
    vocabulary = Vocabulary.of(text)

    def seconds(work) -> float:  # type: ignore[no-untyped-def]
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
        return min(taken)

    number = {one: index for index, one in enumerate(vocabulary.characters)}
    in_python = seconds(lambda: [number[one] for one in text])
    assert seconds(lambda: vocabulary.encode(text)) < in_python / 2
    ids = vocabulary.encode(text)
    assert seconds(lambda: vocabulary.decode(ids)) < in_python / 2


def test_lyrics_of_the_notebooks_have_their_known_sizes() -> None:
    directory = os.environ.get("LYRICGEN_DATA")
    path = Path(directory or "") / "jaychou_lyrics.txt.zip"
    if not directory or not path.exists():
        pytest.skip(f"jaychou_lyrics.txt.zip is not in LYRICGEN_DATA={directory}")
    text = prepare(
        [read_text(path)], name="jaychou", unit="text", newline="space", max_chars=10_000
    ).text
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert len(vocabulary) == 1_027
    assert ids.dtype == torch.int16
    assert sorted(set(ids.tolist())) == list(range(1_027))


def test_a_corpus_encoded_by_another_vocabulary_is_the_same_text() -> None:
    small, larger = Vocabulary("\nab"), Vocabulary("\nab").union(Vocabulary("acd"))
    assert larger.characters == "\nabcd"
    ids = small.encode("baab\n")
    corpus = EncodedCorpus("x", "text", small, ids, count_ids(ids, 3), "digest")
    found = recode(corpus, larger)
    assert larger.decode(found.ids) == "baab\n"
    assert found.counts.tolist() == [1, 2, 2, 0, 0]
    assert found.digest == "digest"
    again = recode(found, small)
    assert torch.equal(again.ids, ids)
    assert again.counts.tolist() == [1, 2, 2]
    with pytest.raises(UserError, match="'b'"):
        recode(corpus, Vocabulary("\na"))
