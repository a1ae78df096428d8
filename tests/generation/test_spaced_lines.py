"""Lines of a given length have spaces if the script has spaces between words."""

import sys

import pytest
import torch

from lyricgen.api.models import WritingModel
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.generation.verse import is_spaced
from lyricgen.models.network import LanguageModel
from tests.helpers.networks import architecture

ENGLISH, CHINESE = "\n ,.abcdefgh", "\n ，。一天山人云东我在"


def model_of(characters: str) -> WritingModel:
    """A model that draws spaces in half of all places, the other characters equally often."""
    vocabulary = Vocabulary.of(characters)
    network = LanguageModel(
        architecture("gru", vocabulary_size=len(vocabulary), start_symbol=False)
    )
    with torch.no_grad():
        network.output.weight.zero_()
        network.output.bias.zero_()
        if " " in vocabulary.characters:
            network.output.bias[vocabulary.characters.index(" ")] = 2.5
    return WritingModel(network.eval(), vocabulary, "stream", False)


def lines_of(characters: str, **options: object) -> list[str]:
    given = {"lines": 4, "line_length": 7, "temperature": 1.0, "count": 30} | options
    texts = model_of(characters).generate_many([""], **given)  # type: ignore[arg-type]
    mark = "\n" if "\n" in characters else " "
    return [line for text in texts for line in text.split(mark)]


@pytest.mark.parametrize(
    "characters", [ENGLISH, "\n абвгд", "\n가나다라", "\n \t ابتث", ENGLISH + "一"]
)
def test_scripts_with_spaces_keep_them_within_lines(characters: str) -> None:
    lines = lines_of(characters)
    assert len(lines) == 120
    assert {len(line) for line in lines} == {7}
    if " " in characters:
        assert sum(" " in line for line in lines) > 60
    assert all(line == line.strip() for line in lines)


@pytest.mark.parametrize("characters", [CHINESE, "\n กขค", "\n あいう", CHINESE + "abc", " abcdef"])
def test_other_texts_have_no_spaces_within_lines(characters: str) -> None:
    """In texts whose newlines became spaces, a space ends a line."""
    lines = lines_of(characters)
    assert {len(line) for line in lines} == {7}
    assert not any(character.isspace() for line in lines for character in line)


def test_spaces_go_with_the_other_constraints() -> None:
    lines = lines_of(ENGLISH, lines=None, acrostic="abba")
    assert [line[0] for line in lines] == list("abba") * 30
    assert any(" " in line for line in lines)
    assert all(line == line.strip() for line in lines)
    assert not any(" " in line for line in lines_of(ENGLISH, ban=" "))
    assert {len(line) for line in lines_of(ENGLISH, line_length=1)} == {1}
    assert not any(line.isspace() for line in lines_of(ENGLISH, line_length=2))


@pytest.mark.parametrize(
    ("characters", "spaced"),
    [("abc", True), ("ABCé, 一", True), ("一二三abc", False), ("一二ab中", False),
     ("123 ,.", False), ("안녕", True), ("हिन्दी", True), ("ไทย", False),
     ("日本語ひらカナ", False), ("𠀀𠀁", False)],
)  # fmt: skip
def test_the_majority_of_letters_decides(characters: str, spaced: bool) -> None:
    assert is_spaced(characters) is spaced


@pytest.mark.parametrize("installed", [True, False])
def test_a_rhyme_needs_chinese(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(UserError, match="--rhyme needs Chinese") as caught:
        model_of(ENGLISH).generate(lines=2, line_length=5, rhyme=True)
    assert "pip install" not in str(caught.value)


def test_a_list_for_generate_names_generate_many() -> None:
    model = model_of(ENGLISH)
    for wrong in (["ab"], ("a", "b"), 5, None):
        with pytest.raises(UserError, match="give one text; generate_many takes a list of them"):
            model.generate(wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"put it in a list, \['ab'\]"):
        model.generate_many("ab")  # type: ignore[arg-type]
