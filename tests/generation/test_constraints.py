"""Constraints, against plain rules for the next character, over all texts."""

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lyricgen.api.models import WritingModel
from lyricgen.errors import UserError
from lyricgen.generation.continuing import draw_uniforms
from lyricgen.generation.planning import members
from lyricgen.generation.rules import PartialTexts, no_repeat_ngram, unless_empty
from lyricgen.generation.texts import continue_prefixes, generate
from lyricgen.generation.verse import CLASSES, NO_CLASS, rhyme_classes
from lyricgen.generation.writer import text_seed
from tests.helpers.constraints import nats, random_model

# characters of a verse: three rhyme with 天, two with 人
RHYMES = {"天": 1, "山": 1, "安": 1, "人": 2, "云": 2, "东": 3, "我": 4}
VERSE = "".join(sorted(["\n", " ", *RHYMES]))
NAMES = "\nabc"


Permitted = Callable[[str, str, int], bool]


def allowed_in_verse(
    text: str,
    character: str,
    left: int,
    *,
    k: int,
    acrostic: str | None = None,
    rhyme: int = 0,
    only: str = VERSE,
) -> bool:
    """Whether a character may follow a text of lines of k characters, `rhyme` of which rhyme."""
    *whole, line = text.split("\n")
    if len(line) == k:
        return character == "\n"
    if character.isspace() or character not in only:
        return False
    if acrostic is not None and not line and character != acrostic[len(whole)]:
        return False
    if not rhyme or len(line) < k - 1:
        return True
    ends = [one[-1] for one in whole]
    if ends:
        return RHYMES.get(character) == RHYMES[ends[0]] and character not in ends
    alike = [c for c in only if RHYMES.get(c) == RHYMES[character]]
    return len(alike) >= rhyme


def allowed_in_free_lines(
    text: str, character: str, left: int, *, n: int, acrostic: str | None = None, ban: str = ""
) -> bool:
    """Whether a character may follow lines of any length, with `left` characters to come."""
    *whole, line = text.split("\n")
    if not line:
        if character.isspace() or character in ban:
            return False
        if acrostic is not None and character != acrostic[len(whole)]:
            return False
    elif character in ban:
        return False
    return can_finish(text + character, left - 1, n)


def can_finish(text: str, left: int, n: int) -> bool:
    """Whether the rest has room for the beginnings of all lines."""
    *whole, line = text.split("\n")
    if len(whole) >= n or (len(whole) == n - 1 and line):
        return True
    return left > 0 and can_finish(text + ("x" if not line else "\n"), left - 1, n)


def allowed_in_name(
    text: str,
    character: str,
    left: int,
    *,
    starts: str = "",
    most: int = 99,
    ban: str = "",
    novel: bool = False,
) -> bool:
    """Whether a character may follow a name."""
    if len(text) < len(starts):
        return character == starts[len(text)]
    if len(text) == most:
        return character == "\n"
    if character == "\n":
        return bool(text) or not novel
    return character not in ban


def ends_last_line(text: str, n: int) -> bool:
    return text.count("\n") == n


def constraints_of(model: WritingModel, prefixes: list[str], length: int | None, **options: Any):  # type: ignore[no-untyped-def]
    _, writer = continue_prefixes(model, [], length=length, **options)
    return writer.constraints(prefixes)


def check_every_text(
    model: WritingModel,
    prefixes: list[str],
    permitted: Permitted,
    ended: Callable[[str], bool] = lambda _: False,
    length: int | None = None,
    most: int = 4000,
    **options: Any,
) -> list[str]:
    """Check over all texts that constrained logits are the softmax over permitted characters.

    Return all whole texts.
    """
    characters = model.vocabulary.characters
    constraints = constraints_of(model, prefixes, length, **options)
    read = [model.encode_prefix(prefix).tolist() for prefix in prefixes]
    widest = max(map(len, read))
    nodes, complete = [(row, "") for row in range(len(prefixes))], []
    for step in range(max(constraints.lengths)):
        texts = torch.tensor(
            [
                [-1] * (widest - len(read[row])) + read[row] + [characters.index(c) for c in new]
                for row, new in nodes
            ]
        )
        logits = torch.randn(len(nodes), len(characters)) * 3
        changed = logits
        for rule in constraints.rules:
            changed = rule(
                changed, PartialTexts(texts, step, torch.tensor([row for row, _ in nodes]))
            )
        following = []
        for (row, new), before, found in zip(nodes, logits, changed, strict=True):
            text, left = prefixes[row] + new, constraints.lengths[row] - step
            may = np.array([permitted(text, c, left) for c in characters])
            assert may.any(), (text, new)
            weights = np.where(may, np.exp(before.double().numpy()), 0)
            softmax = torch.softmax(found.double(), dim=-1).numpy()
            np.testing.assert_allclose(
                softmax, weights / weights.sum(), atol=1e-7, err_msg=repr(text)
            )
            following += [(row, new + c) for c, one in zip(characters, may, strict=True) if one]
        nodes = []
        for row, new in following:
            over = ended(prefixes[row] + new) or len(new) == constraints.lengths[row]
            (complete if over else nodes).append((row, new))
        nodes = nodes[:: max(1, len(nodes) // most)]  # only some of very many
        if not nodes:
            break
    return [prefixes[row] + new for row, new in complete]


@pytest.mark.parametrize(
    ("n", "options", "prefixes"),
    [
        (2, {}, [""]),
        (2, {}, ["天人\n", "", "我", "天人\n山", "人云"]),
        (2, {"only": "天人"}, ["", "我我"]),
        (2, {"rhyme": 2}, ["", "天", "我天\n人", "人云"]),
        (3, {"rhyme": 3, "only": "天山安人云"}, ["", "东", "我天\n人", "我天\n我山"]),
        (None, {}, ["", "天人\n"]),
        (None, {"rhyme": 2}, ["", "我天\n"]),
    ],
)
def test_lines_of_one_length(n: int | None, options: dict[str, Any], prefixes: list[str]) -> None:
    texts = check_every_text(
        random_model(VERSE),
        prefixes,
        lambda *so_far: allowed_in_verse(*so_far, k=2, **options),
        length=5 if n is None else None,
        lines=n,
        line_length=2,
        rhyme="rhyme" in options,
        only=options.get("only"),
    )
    assert texts
    for text in texts if n else []:
        assert [len(line) for line in text.split("\n")] == [2] * (n or 0)


def test_a_verse_with_acrostic_length_and_rhyme() -> None:
    texts = check_every_text(
        random_model(VERSE),
        ["", "东", "东我天\n"],
        lambda *so_far: allowed_in_verse(*so_far, k=3, acrostic="东人", rhyme=2),
        acrostic="东人",
        line_length=3,
        rhyme=True,
    )
    for text in texts:
        first, second = text.split("\n")
        assert (first[0], second[0], len(first), len(second)) == ("东", "人", 3, 3)
        assert RHYMES[first[-1]] == RHYMES[second[-1]]
        assert first[-1] != second[-1]
    # two whole lines from nothing: 7 · (3 · 2 + 2 · 1) · 7 ends and middles
    assert sum(len(text) == 7 for text in set(texts)) == 7 * 8 * 7


@pytest.mark.parametrize(
    "options", [{"n": 1}, {"n": 2}, {"n": 2, "ban": "我 "}, {"n": 3, "acrostic": "天人我"}], ids=str
)
def test_lines_of_any_length(options: dict[str, Any]) -> None:
    prefixes = [""] if options["n"] == 1 else ["", "天", "天东\n"]
    texts = check_every_text(
        random_model(VERSE),
        prefixes,
        lambda *so_far: allowed_in_free_lines(*so_far, **options),
        ended=lambda text: ends_last_line(text, options["n"]),
        length=6,
        most=500,
        lines=options["n"],
        acrostic=options.get("acrostic"),
        ban=options.get("ban"),
    )
    assert any(text.endswith("\n") for text in texts)
    for text in texts if "acrostic" in options else []:
        assert [line[0] for line in text.removesuffix("\n").split("\n")] == ["天", "人", "我"]


@pytest.mark.parametrize(
    "options",
    [
        {"starts": "ab"},
        {"most": 2},
        {"ban": "b"},
        {"novel": True},
        {"starts": "ab", "most": 3, "ban": "c", "novel": True},
    ],
    ids=str,
)
def test_names(options: dict[str, Any]) -> None:
    given = {"starts": "starts_with", "most": "max_length"}
    check_every_text(
        random_model(NAMES, "lines"),
        [""] if "starts" in options else ["", "c", "ab"],
        lambda *so_far: allowed_in_name(*so_far, **options),
        ended=lambda text: text.endswith("\n"),
        length=None if "most" in options else 5,
        **{given.get(name, name): value for name, value in options.items()},
    )


@pytest.mark.parametrize(
    ("options", "member"),
    [
        ({"only": "天人"}, "天人"),
        ({"ban": "^天人"}, "天人"),
        ({"ban": r"\s东我"}, "云人天安山"),
        ({"only": "天-我", "ban": "山"}, "天安我"),
    ],
)
def test_sets_of_characters(options: dict[str, str], member: str) -> None:
    check_every_text(random_model(VERSE), [""], lambda _, c, __: c in member, length=3, **options)


def test_spaces_that_were_newlines() -> None:
    """In a corpus without newlines, spaces end lines."""
    model = random_model(VERSE.replace("\n", ""))
    [text] = model.generate_many([""], lines=3, line_length=4)
    assert [len(line) for line in text.split(" ")] == [4, 4, 4]
    [text] = model.generate_many(["天人 "], acrostic="天人我", length=40)
    assert [line[0] for line in text.split(" ")] == ["天", "人", "我"]


OPTIONS = {"lines": 2, "line_length": 3, "acrostic": "天我", "rhyme": True}


def all_verses(model: WritingModel) -> list[str]:
    """All texts that OPTIONS allow, by trying each character."""
    texts = [""]
    while len(texts[0]) < 7:
        texts = [
            text + c
            for text in texts
            for c in VERSE
            if allowed_in_verse(text, c, 0, k=3, acrostic="天我", rhyme=2)
        ]
    return texts


def test_an_exhaustive_search_finds_the_best_of_all_texts() -> None:
    model = random_model(VERSE)
    texts = sorted(all_verses(model), key=lambda text: -nats(model, "", text))
    assert len(texts) == 7 * 8 * 7
    found = generate(model, [""], beams=500, count=20, **OPTIONS)
    assert [one.text for one in found] == texts[:20]
    expected = [nats(model, "", text) for text in texts[:20]]
    np.testing.assert_allclose([one.log_probability for one in found], expected, rtol=1e-6)
    penalised = [value / ((5 + 7) / 6) ** 0.6 for value in expected]
    np.testing.assert_allclose([one.score or 0 for one in found], penalised, rtol=1e-6)


def test_an_exhaustive_search_of_lines_that_end_early() -> None:
    """Characters after the last line count neither for the score nor for its length."""
    model = random_model("\nab")
    texts = {""}
    whole: set[str] = set()
    for left in range(5, 0, -1):
        longer = {
            text + c for text in texts for c in "\nab" if allowed_in_free_lines(text, c, left, n=2)
        }
        whole |= {text for text in longer if ends_last_line(text, 2)}
        texts = longer - whole
    scores = {text: nats(model, "", text) / ((5 + len(text)) / 6) ** 1.5 for text in whole | texts}
    best = sorted(scores, key=lambda text: -scores[text])
    found = generate(model, [""], beams=300, lines=2, length=5, length_penalty=1.5)
    assert [one.text for one in found] == [
        text[:-1] if ends_last_line(text, 2) else text for text in best
    ]
    np.testing.assert_allclose(
        [one.score or 0 for one in found], sorted(scores.values())[::-1], rtol=1e-5
    )
    by_nats = [nats(model, "", text) for text in best]
    np.testing.assert_allclose([one.log_probability for one in found], by_nats, rtol=1e-5)
    perplexities = [np.exp(-one / len(text)) for one, text in zip(by_nats, best, strict=True)]
    np.testing.assert_allclose([one.perplexity for one in found], perplexities, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_draws_equal_a_loop(temperature: float) -> None:
    """Draws equal those from the masked and renormalised softmax, one by one, in NumPy."""
    model = random_model(VERSE)
    drawn = model.generate_many(["", "天"], count=3, temperature=temperature, seed=9, **OPTIONS)
    for row, found in enumerate(drawn):
        prefix, index = ["", "天"][row // 3], row % 3
        numbers = draw_uniforms("torch", [text_seed(9, prefix, index)], 7)[0]
        text = prefix
        for number in numbers[: 7 - len(prefix)].tolist():
            ids = [
                *model.encode_prefix(prefix).tolist(),
                *model.vocabulary.encode(text[len(prefix) :]),
            ]
            with torch.no_grad():
                logits = model.network(torch.tensor([ids]))[0][0, -1].double().numpy()
            may = [allowed_in_verse(text, c, 0, k=3, acrostic="天我", rhyme=2) for c in VERSE]
            logits = np.where(may, logits, -np.inf)
            if temperature == 0:
                text += VERSE[int(logits.argmax())]
                continue
            cumulative = np.exp((logits - logits.max()) / temperature).cumsum()
            text += VERSE[int((cumulative / cumulative[-1] <= number).sum())]
        assert found == text


def test_a_batch_gives_the_texts_of_each_prefix() -> None:
    model = random_model(VERSE)
    prefixes = ["", "天", "天人山\n我"]
    for strategy in ({"temperature": 0.9}, {"temperature": 0.0}, {"beams": 3}, {"top_k": 3}):
        together = model.generate_many(prefixes, count=2, **OPTIONS, **strategy)
        alone = [model.generate_many([one], count=2, **OPTIONS, **strategy) for one in prefixes]
        assert together == [text for texts in alone for text in texts]


@settings(deadline=None, max_examples=40)
@given(
    lines=st.integers(1, 4),
    width=st.integers(2, 5),
    seed=st.integers(0, 99),
    beams=st.sampled_from([None, 2]),
    repeat=st.sampled_from([None, 1, 2]),
    sets=st.sampled_from([{}, {"only": "天山安人云我"}, {"ban": "东 "}]),
    rhyme=st.booleans(),
)
def test_any_combination_of_constraints(
    lines: int, width: int, seed: int, beams: int | None, repeat: int | None,
    sets: dict[str, str], rhyme: bool,
) -> None:  # fmt: skip
    rhyme = rhyme and 2 <= lines <= 3
    chosen: dict[str, Any] = {"no_repeat_ngram": repeat, "rhyme": rhyme, **sets}
    chosen |= {"seed": seed} if beams is None else {"beams": beams}
    [text, *_] = random_model(VERSE).generate_many([""], lines=lines, line_length=width, **chosen)
    written = text.split("\n")
    assert [len(line) for line in written] == [width] * lines
    assert not set("".join(written)) & set("\n ")
    assert "only" not in sets or not set("".join(written)) - set(sets["only"])
    assert "ban" not in sets or "东" not in text
    if rhyme:
        assert len({RHYMES[line[-1]] for line in written}) == 1
        assert len({line[-1] for line in written}) == lines


def test_a_constraint_wins_over_a_ban_of_repeats() -> None:
    allowed = torch.tensor([True, True, False])
    written = PartialTexts(torch.tensor([[0, 1], [2, 2]]), 2, torch.tensor([0, 1]))
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])

    def constraint(logits: Tensor, _: PartialTexts) -> Tensor:
        return logits.masked_fill(~allowed, -torch.inf)

    changed = unless_empty([constraint], [no_repeat_ngram(1)])(logits, written)
    infinite = -torch.inf
    assert changed.tolist() == [[1.0, 2.0, infinite], [1.0, 2.0, infinite]]
    both = PartialTexts(torch.tensor([[0, 2], [2, 2]]), 2, torch.tensor([0, 1]))
    changed = unless_empty([constraint], [no_repeat_ngram(1)])(logits, both)
    assert changed.tolist() == [[infinite, 2.0, infinite], [1.0, 2.0, infinite]]


TABLE = {
    "麻": "花家他马下",
    "波": "我多车和国",
    "皆": "学月街夜雪",
    "开": "爱来海外怪",
    "微": "飞水杯谁岁",
    "豪": "高小鸟桥老",
    "尤": "走久酒有秋",
    "寒": "天山远岸泉",
    "文": "人春云心军",
    "唐": "光香阳窗长",
    "庚": "风星东雄翁",
    "齐": "你米雨去二",
    "支": "知诗日字死",
    "姑": "路树苦住出",
}


@pytest.mark.parametrize("name", list(TABLE))
def test_rhymes_by_hand(name: str) -> None:
    assert rhyme_classes(TABLE[name]).tolist() == [list(CLASSES).index(name)] * 5


def test_characters_without_a_syllable_rhyme_with_none() -> None:
    assert rhyme_classes("a1，\n ☆").tolist() == [NO_CLASS] * 6


def test_the_most_frequent_reading_decides() -> None:
    """了 is le, not liao; 着 zhe, 的 de, 都 dou, 行 xing."""
    classes = list(CLASSES)
    assert [classes[one] for one in rhyme_classes("了着的都行")] == list("波波波尤庚")


def test_rhyme_without_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    model = random_model(VERSE)
    with pytest.raises(UserError, match=re.escape("pip install 'lyricgen[rhyme]'")):
        model.generate(lines=2, line_length=2, rhyme=True)
    assert len(model.generate(lines=2, line_length=2)) == 5


@pytest.mark.parametrize(
    ("given_set", "expected"),
    [
        ("的a", "a的"),
        ("a-c", "abc"),
        ("一-龥", "一的龥"),
        ("^a-z一-龥", "\n !-A[\\]^é"),
        (r"\s", "\n "),
        ("[a]", "[]a"),
        (r"\]\\", "\\]"),
        ("!-", "!-"),
        ("a&&b", "ab"),
        ("e\u0301", "é"),
    ],
)
def test_character_sets(given_set: str, expected: str) -> None:
    characters = "\n !-A[\\]^abcé一的龥"
    found = members("--only", given_set, characters).tolist()
    assert {c for c, one in zip(characters, found, strict=True) if one} - {"&"} == set(expected)


def test_a_model_of_lower_case_knows_upper_case() -> None:
    assert members("--only", "A-B", "abc", ignore_case=True).tolist() == [True, True, False]


VERSE_REFUSED = [
    ({"lines": 0}, "lines=0"),
    ({"acrostic": ""}, "--acrostic is empty"),
    ({"only": ""}, "--only is empty"),
    ({"acrostic": "天我", "lines": 3}, "--acrostic '天我' makes 2 lines, --lines says 3"),
    ({"acrostic": "天龙"}, "--acrostic '天龙': characters that the vocabulary of 9"),
    ({"acrostic": "天 "}, "--acrostic '天 ': a line cannot begin with ' '"),
    ({"acrostic": "天我", "ban": "我"}, "--acrostic '天我' has '我', which --ban '我' forbids"),
    ({"acrostic": "天我", "only": "天人"}, "which --only '天人' forbids"),
    ({"lines": 3, "length": 4}, "--length 4 is too short for the 3 lines of --lines 3"),
    ({"acrostic": "天我人", "length": 4}, "--length 4 is too short for the 3 lines of --acrostic"),
    ({"rhyme": True}, "--rhyme needs --line-length"),
    ({"rhyme": True, "line_length": 2, "lines": 1}, "--rhyme needs two lines"),
    ({"rhyme": True, "line_length": 30}, "--rhyme needs two whole lines"),
    ({"rhyme": True, "line_length": 2, "lines": 4}, "--rhyme finds no 4 different characters"),
    ({"rhyme": True, "line_length": 2, "lines": 2, "only": "天人"}, "at most 1 lines do"),
    ({"rhyme": True, "line_length": 1, "acrostic": "天山"}, "--line-length 1"),
    ({"lines": 2, "line_length": 3, "length": 9}, "--length does not go with --lines 2 and"),
    ({"only": "龙"}, "--only '龙' leaves no character to write"),
    ({"only": "\n ", "lines": 2}, "--only '\\n ' leaves no character for the lines"),
    ({"only": "天", "ban": "天"}, "--only '天' with --ban '天' leaves no character"),
    ({"ban": "山-天"}, "--ban '山-天' is no set of characters"),
    ({"starts_with": "天"}, "--starts-with is for models of single lines"),
    ({"max_length": 3}, "--max-length is for models of single lines"),
    ({"novel": True}, "--novel is for models of single lines"),
    ({"linelength": 3}, "linelength: there is no such option"),
    ({"beams": 2, "count": 3}, "--count 3: --beams 2 finds 2"),
]


@pytest.mark.parametrize(("options", "shown"), VERSE_REFUSED, ids=str)
def test_impossible_verses_are_refused(options: dict[str, Any], shown: str) -> None:
    with pytest.raises(UserError) as caught:
        random_model(VERSE).generate_many([""], **options)
    assert shown in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "options", "shown"),
    [
        ("天天天", {"lines": 2, "line_length": 2}, "line 1 of the prefix '天天天' has 3"),
        ("天\n我", {"lines": 2, "line_length": 2}, "line 1 of the prefix '天\\n我' has 1"),
        ("天天\n我我\n", {"lines": 2, "line_length": 2}, "--lines 2: the prefix"),
        ("天天\n我我", {"lines": 2, "line_length": 2}, "is all of a text already"),
        ("天\n我\n", {"lines": 2}, "has 3 lines"),
        ("山", {"acrostic": "天我"}, "line 1 of the prefix '山' does not begin with '天'"),
        ("天\n人", {"acrostic": "天我"}, "line 2 of the prefix '天\\n人' does not begin with '我'"),
        ("天东", {"lines": 2, "line_length": 2, "rhyme": True}, "only 0 more characters rhyme"),
        ("天 \n", {"lines": 2, "line_length": 2, "rhyme": True}, "ends with no syllable"),
        ("东天\n东人", {"lines": 3, "line_length": 2, "rhyme": True}, "do not end with different"),
        ("东天\n人天", {"lines": 3, "line_length": 2, "rhyme": True}, "do not end with different"),
    ],
)
def test_prefixes_that_do_not_fit_are_refused(
    prefix: str, options: dict[str, Any], shown: str
) -> None:
    with pytest.raises(UserError) as caught:
        random_model(VERSE).generate_many(["", prefix], **options)
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "options", "shown"),
    [
        ("", {"lines": 2}, "--lines is for models of running text"),
        ("", {"line_length": 2}, "--line-length is for models of running text"),
        ("", {"acrostic": "ab"}, "--acrostic is for models of running text"),
        ("", {"rhyme": True, "line_length": 2}, "is for models of running text"),
        ("a", {"starts_with": "ab"}, "--starts-with 'ab' does not go with --prefix"),
        ("", {"starts_with": "ad"}, "'d'"),
        ("", {"starts_with": "a\n"}, "a single line"),
        ("", {"starts_with": "ab", "ban": "b"}, "--starts-with 'ab' has 'b', which --ban 'b'"),
        ("", {"starts_with": "abc", "max_length": 2}, "more than the 2 of a name"),
        ("abc", {"max_length": 2}, "--max-length 2: the prefix 'abc' has 3 characters"),
        ("", {"max_length": 2, "length": 5}, "--length does not go with --max-length"),
        ("", {"only": "\n"}, "--only '\\n' leaves no character"),
        ("", {"novel": True}, "does not say which names it has learnt"),
        ("", {"novel": True, "beams": 2}, "--novel draws names until"),
        ("", {"novel": True, "temperature": 0.0}, "--novel draws names until"),
        ("", {"novel": True, "generator": "numpy_reseeded"}, "--generator numpy_reseeded"),
    ],
)
def test_impossible_names_are_refused(prefix: str, options: dict[str, Any], shown: str) -> None:
    with pytest.raises(UserError) as caught:
        random_model(NAMES, "lines").generate_many([prefix], **options)
    assert shown in str(caught.value)


def test_lines_of_a_model_without_line_breaks_are_refused() -> None:
    with pytest.raises(UserError, match="knows no line break"):
        random_model("ab").generate(lines=2)


def test_scores_equal_those_of_one_pass() -> None:
    model = random_model(NAMES, "lines")
    texts = generate(model, ["", "ab"], count=4, length=6, seed=3)
    for one in texts:
        whole = one.text + "\n" * (len(one.text) - len(one.prefix) < 6)
        assert one.log_probability == pytest.approx(nats(model, one.prefix, whole), rel=1e-5)
        number = len(whole) - len(one.prefix)
        assert one.perplexity == pytest.approx(np.exp(-one.log_probability / number))
    assert {one.strategy for one in texts} == {"temperature 0.8"}
    assert [one.text for one in texts] == model.generate_many(["", "ab"], count=4, length=6, seed=3)
