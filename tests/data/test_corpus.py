"""Preparation of a text: one line end, composed characters, at most `max_chars`."""

import itertools
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lyricgen.data.preparation import Corpus, prepare, prepare_pieces
from lyricgen.data.reading import read_text
from lyricgen.errors import UserError


def prepare_text(text: str, **settings: object) -> str:
    return prepare([text], name="test", unit="text", **settings).text  # type: ignore[arg-type]


def prepare_list(text: str, **settings: object) -> Corpus:
    return prepare([text], name="test", unit="line", **settings)  # type: ignore[arg-type]


def refusal(text: str, *needed: str, **settings: object) -> None:
    with pytest.raises(UserError) as caught:
        prepare([text], **({"name": "songs", "unit": "text"} | settings))  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.isprintable()
    for part in needed:
        assert part in message


def published_text(name: str) -> str:
    """A text of the notebooks, from LYRICGEN_DATA; it is not in the repository."""
    directory = os.environ.get("LYRICGEN_DATA")
    if not directory or not (Path(directory) / name).exists():
        pytest.skip(f"{name} is not in LYRICGEN_DATA={directory}")
    return read_text(Path(directory) / name)


def test_a_corpus_has_a_name_a_unit_and_a_text() -> None:
    corpus = prepare(["ab\ncd"], name="songs", unit="text")
    assert corpus == Corpus("songs", "text", "ab\ncd")
    with pytest.raises(FrozenInstanceError):
        corpus.text = "other"  # type: ignore[misc]


def test_every_line_end_becomes_a_newline() -> None:
    assert prepare_text("a\r\nb\rc\nd\r\r\ne\n\r") == "a\nb\nc\nd\n\ne\n\n"


def test_each_newline_becomes_one_space() -> None:
    assert prepare_text("a\r\nb\n\nc\rd ", newline="space") == "a b  c d "


@pytest.mark.parametrize("unit", ["text", "line"])
def test_characters_are_composed(unit: str) -> None:
    decomposed = "Cafe\u0301 \u1100\u1161 \u212b"
    assert prepare([decomposed], name="x", unit=unit).text.strip() == "Café 가 Å"  # type: ignore[arg-type]


def test_compatibility_characters_are_kept() -> None:
    assert prepare_text("ﬁ ，, ² Ａ") == "ﬁ ，, ² Ａ"


def test_lower_case_is_composed_too() -> None:
    assert prepare_text("J\u030cA", lowercase=True) == "\u01f0a"
    assert prepare_text("J\u030cA") == "J\u030cA"


@pytest.mark.slow
@given(
    text=st.text(),
    newline=st.sampled_from(["keep", "space"]),
    lowercase=st.booleans(),
    max_chars=st.none() | st.integers(2, 30),
)
def test_any_running_text_follows_the_rules(
    text: str, newline: str, lowercase: bool, max_chars: int | None
) -> None:
    """The same rules written differently: line ends by splitting, the rest one by one."""
    expected = "\n".join(part for rest in text.split("\r\n") for part in rest.split("\r"))
    if lowercase:
        expected = expected.lower()
    expected = unicodedata.normalize("NFC", expected)
    if newline == "space":
        expected = "".join(" " if one == "\n" else one for one in expected)
    expected = "".join(one for place, one in enumerate(expected) if place < (max_chars or 10**9))
    try:
        found = prepare_text(text, newline=newline, lowercase=lowercase, max_chars=max_chars)
    except UserError:
        assert len(set(expected)) < 2 or not expected.strip()
    else:
        assert found == expected
        assert unicodedata.is_normalized("NFC", found)


def test_max_chars_counts_the_prepared_text() -> None:
    assert prepare_text("a\r\ne\u0301xyz", newline="space", max_chars=4) == "a éx"
    assert prepare_text("ab", max_chars=100) == "ab"


def test_lines_are_stripped_and_blank_lines_dropped() -> None:
    corpus = prepare_list("\n  Zuul \r\n\r\n\u3000想要\t\rZuul\n \n")
    assert corpus.text == "Zuul\n想要\nZuul\n"
    assert corpus.lines == ["Zuul", "想要", "Zuul"]


def test_a_last_line_end_makes_no_difference_to_a_list() -> None:
    assert prepare_list("ab\ncd") == prepare_list("ab\ncd\n")


def test_only_line_ends_end_a_line() -> None:
    assert prepare_list("a\u2028b\nc").lines == ["a\u2028b", "c"]


@pytest.mark.parametrize(
    ("max_chars", "kept"),
    [(3, ["ab"]), (6, ["ab"]), (7, ["ab", "cde"]), (8, ["ab", "cde"]), (9, ["ab", "cde", "f"])],
)
def test_max_chars_keeps_whole_lines(max_chars: int, kept: list[str]) -> None:
    assert prepare_list("ab\n\n cde\nf", max_chars=max_chars).lines == kept


@given(
    lines=st.lists(st.text("ab ", max_size=5), max_size=8), max_chars=st.none() | st.integers(2, 30)
)
def test_any_list_follows_the_rules(lines: list[str], max_chars: int | None) -> None:
    room, expected = max_chars if max_chars is not None else 10**9, []
    for line in lines:
        if line.strip():
            room -= len(line.strip()) + 1
            if room < 0:
                break
            expected.append(line.strip())
    try:
        corpus = prepare_list("\n".join(lines), max_chars=max_chars)
    except UserError:
        assert not expected
    else:
        assert corpus.lines == expected
        assert corpus.text == "".join(line + "\n" for line in expected)


def test_a_first_line_longer_than_max_chars_is_refused() -> None:
    refusal("saurus\nab", "data.max_chars=6", "'songs'", "at least 7", unit="line", max_chars=6)


@pytest.mark.parametrize("unit", ["text", "line"])
@pytest.mark.parametrize("text", ["", " \n\t\r\n\u3000", "\n"])
def test_white_space_alone_is_refused(text: str, unit: str) -> None:
    refusal(text, "only white space", "'songs'", "data.max_chars", unit=unit)


def test_white_space_alone_within_max_chars_is_refused() -> None:
    refusal(" \n abc", "only white space", "data.max_chars", max_chars=3)


def test_a_text_of_one_symbol_is_refused() -> None:
    refusal("aaaa", "'songs'", "one single symbol, 'a'")
    refusal("aaab", "one single symbol, 'a'", "data.max_chars", max_chars=3)
    refusal("\x1b\x1b", r"'\x1b'")
    assert prepare_list("a\na").text == "a\na\n"


@pytest.mark.parametrize("max_chars", [1, 0, -5])
def test_too_small_max_chars_is_refused(max_chars: int) -> None:
    refusal("abc", f"data.max_chars={max_chars} ", "at least 2", max_chars=max_chars)


def test_unknown_choices_are_refused() -> None:
    refusal("abc", "data.unit='word'", "text or line or document", unit="word")
    refusal("abc", r"data.newline='tab\n'", "keep or space", newline="tab\n")


def test_a_list_keeps_its_newlines() -> None:
    refusal("a\nb", "data.newline=space", "data.unit=line", unit="line", newline="space")


def test_lyrics_of_the_notebooks_have_their_known_sizes() -> None:
    text = published_text("jaychou_lyrics.txt.zip")
    kept = prepare_text(text)
    assert (len(kept), len(set(kept))) == (63_282, 2_583)
    first = prepare_text(text, newline="space", max_chars=10_000)
    assert (len(first), len(set(first))) == (10_000, 1_027)
    assert "\n" not in first


def test_dinosaurs_of_the_notebooks_have_their_known_sizes() -> None:
    corpus = prepare_list(published_text("dinos.txt"), lowercase=True)
    assert len(corpus.lines) == 1_536
    assert len(set(corpus.text)) == 27


# ---- in pieces

# Line ends across cuts, marks that compose and reorder, jamo, a Σ before and behind apostrophes and
# marks, letters whose lower case has more characters, characters beyond the basic plane.
NASTY = (
    "a\r\nb\r\r\n\nc\u0301\u0323e\u0323\u0301 q\u0307\u0323\r\u0301x\n\u0308\u0301 "
    "\u1100\u1161\u11a8 \uac00\u11a8 \u0938\u094d\u0928\u093c "
    "ΟΔΥΣΣΕΥΣ ΑΣ'Β ΑΣ' 'Σ Σ\u0301 ΑΣ\u0301. ΑΣ.Β AΣ1 AΣ一 一Σ AΣ\nΣA\u0345Σ "
    "J\u030c İSTANBUL I\u0307 Ⱥ\u0301 \u212b\u0301 ﬁ 🚀"
    "\U0001d15e\U0001d165 \u2126\u0345\u0301 が\u3099 ゙"
)


def prepare_whole(text: str, *, lowercase: bool, newline: str, max_chars: int | None) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = unicodedata.normalize("NFC", text.lower() if lowercase else text)
    return (text.replace("\n", " ") if newline == "space" else text)[:max_chars]


def prepare_in_pieces(text: str, cuts: list[int], **settings: object) -> str:
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[start:stop] for start, stop in itertools.pairwise(places)]
    return "".join(prepare_pieces(pieces, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("lowercase", [False, True])
def test_every_cut_of_a_nasty_text_gives_the_prepared_whole(lowercase: bool) -> None:
    kept = {"lowercase": lowercase, "newline": "keep", "max_chars": None}
    for text in (NASTY, NASTY[::-1], NASTY.replace(" ", ""), NASTY.replace(" ", "'")):
        expected = prepare_whole(text, **kept)  # type: ignore[arg-type]
        for first in range(len(text)):
            assert prepare_in_pieces(text, [first], **kept) == expected
        for size in (1, 2, 3, 5):
            assert prepare_in_pieces(text, list(range(0, len(text), size)), **kept) == expected


@given(
    text=st.text(st.sampled_from(sorted({*NASTY, *"Σ'.aA1 \u0301\u0345"})), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=8),
    lowercase=st.booleans(),
    newline=st.sampled_from(["keep", "space"]),
    max_chars=st.none() | st.integers(2, 20),
)
@settings(deadline=None, max_examples=500)
def test_any_cuts_give_the_prepared_whole(
    text: str, cuts: list[int], lowercase: bool, newline: str, max_chars: int | None
) -> None:
    options = {"lowercase": lowercase, "newline": newline, "max_chars": max_chars}
    cuts = [min(cut, len(text)) for cut in cuts]
    assert prepare_in_pieces(text, cuts, **options) == prepare_whole(text, **options)  # type: ignore[arg-type]


def test_characters_after_a_cut_never_compose_with_the_character_before() -> None:
    safe = [*" 0123456789", *map(chr, [*range(65, 91), *range(97, 123), *range(0x3400, 0xA000)])]
    for character in safe:
        for before in "aeΣ一\u1100\u0301":
            for lowercase in (False, True):
                both = (before + character).lower() if lowercase else before + character
                parts = [each.lower() if lowercase else each for each in (before, character)]
                if before == "Σ" and character.isalpha() and character.isascii():
                    continue  # another rule holds for a final sigma
                composed = [unicodedata.normalize("NFC", part) for part in parts]
                assert unicodedata.normalize("NFC", both) == "".join(composed)


def test_preparation_holds_back_one_character() -> None:
    held = []

    def pieces() -> Iterator[str]:
        for _ in range(1000):
            held.append(given_on)
            yield "飞到宇宙去\r\nand back AGAIN " * 10

    given_on = 0
    settings_ = {"newline": "keep", "lowercase": True, "max_chars": None}
    for piece in prepare_pieces(pieces(), **settings_):  # type: ignore[arg-type]
        given_on += len(piece)
    assert [read * 210 - given for read, given in enumerate(held)][1:] == [1] * 999


@pytest.mark.parametrize(
    ("piece", "lowercase"),
    [
        ("([{}])", False), ("🚀🎉", False), ("かなカナ", False), ("Дорога", False),
        ("ＡＢＣ", False), ("\u1112\u1161\u11ab", False),
        ("สวัสดี", False), ("각뷁", False), ("e\u0301", False), ("([{}])Σ", True), ("かなΣ", True),
    ],
)  # fmt: skip
def test_preparation_holds_back_few_characters_of_any_script(piece: str, lowercase: bool) -> None:
    settings_ = {"newline": "keep", "lowercase": lowercase, "max_chars": None}
    pieces = list(prepare_pieces([piece * 50] * 20, **settings_))  # type: ignore[arg-type]
    assert len(pieces) >= 20
    assert len(pieces[-1]) <= 3
    whole = piece * 1000
    expected = unicodedata.normalize("NFC", whole.lower() if lowercase else whole)
    assert "".join(pieces) == expected


def test_reading_stops_after_max_chars() -> None:
    read = []
    pieces = (read.append(number) or "ab cd " for number in range(100))  # type: ignore[func-returns-value]
    kept = prepare_pieces(pieces, newline="keep", lowercase=False, max_chars=20)
    assert "".join(kept) == "ab cd ab cd ab cd ab"
    assert len(read) == 4
