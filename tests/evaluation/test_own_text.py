"""A user's own text: its figures against the formula."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from lyricgen.data.splits import line_split
from lyricgen.errors import UserError
from lyricgen.evaluation.heat_page import alternatives
from lyricgen.evaluation.own_text import LONGEST_LINE, own_text
from lyricgen.models.trained_model import TrainedModel
from tests.helpers.checkpoints import model_of
from tests.helpers.own_texts import VOCABULARY, filling_model, model, nats_one_by_one, ngram_model


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_nats_of_a_running_text(cell: str) -> None:
    one = model(cell=cell)
    text = "ab 分开\ncd\n\nabcd分" * 3
    found = own_text(text, "it", one).nats(one, "model")
    np.testing.assert_allclose(found, nats_one_by_one(one, text), rtol=2e-5)


def test_nats_of_lines() -> None:
    one = model("lines")
    read = own_text("  ab\r\n\n cd开 \r分", "it", one)
    assert read.text == "ab\ncd开\n分\n"
    np.testing.assert_allclose(read.nats(one, "model"), nats_one_by_one(one, read.text), rtol=2e-5)
    assert read.characters.num_lines == 3


def test_a_text_is_normalised_as_the_corpus() -> None:
    assert own_text("ABE\u0301", "it", model(lowercase=True)).text == "abé"
    with pytest.raises(UserError, match=r"'A' \(it has 'a'\), 'B' \(it has 'b'\);"):
        own_text("ABe\u0301", "it", model())


def test_newlines_become_spaces_as_in_training() -> None:
    one = model_of(vocabulary=VOCABULARY)
    spaced = TrainedModel(
        one.network, VOCABULARY, "stream", False, {"data": {"newline": "space", "unit": "text"}}
    )
    assert own_text("ab\r\ncd\n", "it", spaced).text == "ab cd "


def test_a_list_of_lines_for_a_model_of_running_text() -> None:
    one = model_of(vocabulary=VOCABULARY)
    listed = TrainedModel(one.network, VOCABULARY, "stream", False, {"data": {"unit": "line"}})
    read = own_text(" ab \n\ncd", "it", listed)
    assert read.text == "ab\ncd\n"
    assert read.split.line_starts is None
    assert read.characters.num_lines == 2


def test_unknown_characters_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        own_text("aΩb\x1bΩ" + "".join(map(chr, range(0x4E00, 0x4E20))), "'f'", model())
    message = str(caught.value)
    assert message.startswith(
        "'f' has 35 characters that the model does not know: '\\x1b', 'Ω', '一'"
    )
    assert "and 24 more; leave them out, or say --unknown skip" in message
    assert message.isprintable()


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_unknown_characters_left_out(layout: Any) -> None:
    one = model(layout)
    read = own_text("aΩb\nΩΩ\nΩcd\n", "it", one, "skip")
    assert read.left_out == "ΩΩΩΩ"
    shown = "".join(
        character for character, known in zip(read.text, read.known, strict=True) if known
    )
    # a line without known characters is dropped
    assert shown == ("ab\n\ncd\n" if layout == "stream" else "ab\ncd\n")
    nats = read.nats(one, "model")
    np.testing.assert_allclose(nats, nats_one_by_one(one, shown), rtol=2e-5)
    assert np.isnan(read.spread(nats)).tolist() == [
        not known or (layout == "stream" and place == 0) for place, known in enumerate(read.known)
    ]
    assert read.characters.sizes.sum() == len(shown.encode())


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("text", ["Ω", "", "ΩΩ\nΩ", "\n" * 5])
def test_a_text_with_nothing_to_score_is_refused(layout: Any, text: str) -> None:
    if layout == "stream" and text == "\n" * 5:
        return
    with pytest.raises(UserError, match="at least 2"):
        own_text(text, "it", model(layout), "skip")


def test_a_line_past_the_limit_is_refused() -> None:
    with pytest.raises(UserError, match="a line of 10,001 characters"):
        own_text("ab\n" + "a" * (LONGEST_LINE + 1), "it", model("lines"))
    assert own_text("a" * LONGEST_LINE, "it", model("lines")).characters.num_lines == 1
    assert len(own_text("a" * (LONGEST_LINE + 1), "it", model()).text) == LONGEST_LINE + 1


# Alternatives


@pytest.mark.parametrize("kind", ["stream", "lines", "ngram", "fill"])
def test_alternatives_are_sorted_and_ranked(kind: str) -> None:
    one = {"ngram": ngram_model, "fill": filling_model}.get(kind, lambda: model(kind))()
    text = "ab分开\ncd\nab cd\n" * 2
    layout: Any = one.layout
    ids = VOCABULARY.encode(text)
    split = line_split(ids, VOCABULARY, layout)
    found = alternatives(one, split, "reading")
    read = own_text(text, "it", one)
    np.testing.assert_allclose(found.nats, read.nats(one, "model"), rtol=1e-6)
    scored = ~np.isnan(found.nats)
    assert scored.sum() == len(text) - (layout == "stream")
    for t in np.flatnonzero(scored):
        p = found.probabilities[t]
        assert (np.diff(p) <= 0).all()
        assert 0 < p.sum() <= 1 + 1e-6
        own = math.exp(-found.nats[t])
        if found.ranks[t] <= 5:
            assert p[found.ranks[t] - 1] == pytest.approx(own, rel=1e-5)
        else:
            assert own <= p[-1] * (1 + 1e-6)
        if found.ranks[t] == 1:
            assert p[0] == pytest.approx(own, rel=1e-5)
        if kind != "ngram":  # equal probabilities of n-grams have no order
            assert found.ids[t].tolist().count(int(ids[t])) == (found.ranks[t] <= 5)


def test_alternatives_equal_a_sorted_softmax() -> None:
    one = model()
    text = "ab分开\ncd"
    found = alternatives(one, own_text(text, "it", one).split, "reading")
    with torch.no_grad():
        logits, _ = one.network(VOCABULARY.encode(text).long()[None])  # type: ignore[call-arg]
    p = torch.softmax(logits[0].double(), -1).numpy()  # (T, V) of the characters after each
    order = np.argsort(-p, axis=1, kind="stable")
    assert found.ids[1:].tolist() == order[:-1, :5].tolist()
    sorted_p = np.take_along_axis(p, order, axis=1)
    np.testing.assert_allclose(found.probabilities[1:], sorted_p[:-1, :5], rtol=2e-6)
    ids = VOCABULARY.encode(text).tolist()
    ranks = [1 + order[t].tolist().index(ids[t + 1]) for t in range(len(text) - 1)]
    assert found.ranks.tolist() == [0, *ranks]
    assert np.isnan(found.nats[0])
