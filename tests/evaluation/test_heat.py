"""The page of surprisal, read back as a browser would."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.evaluation.heat_page import alternatives, heat_page, sign
from lyricgen.evaluation.own_text import own_text
from lyricgen.evaluation.style import DARK, LEVELS, LIGHT, choose_level, contrast, levels
from lyricgen.models.trained_model import TrainedModel
from tests.helpers import hybrid_models
from tests.helpers.checkpoints import model_of
from tests.helpers.own_texts import filling_model, ngram_model
from tests.helpers.own_texts import model as small_model
from tests.helpers.pages import Page

NASTY = "\t\n \"&'<>ab\u0301\u200b\u202e\u3000分\U0001f600"


def page_of(model: TrainedModel, text: str, source: str = "a text") -> str:
    return heat_page(model, own_text(text, "it", model, "skip"), "some.ckpt", source)


def test_every_character_with_its_colour_and_figures() -> None:
    model = small_model()
    text = "ab分开 cd\n\nabcd分" * 3
    page = Page(page_of(model, text))
    read = own_text(text, "it", model)
    found = alternatives(model, read.split, "reading")
    bits = found.nats / math.log(2)
    assert [tag for tag, _, _ in page.cells] == ["i"] * len(text)
    shown = "".join("\n" if "n" in kind.split() else inside for _, kind, inside in page.cells)
    assert shown == text
    assert page.between.count("\n") == text.count("\n")
    most = max(4, math.ceil(1.5 * math.log2(len(model.vocabulary))))
    assert [kind.split()[0] for _, kind, _ in page.cells] == [
        "r" if math.isnan(one) else f"c{choose_level(one, most)}" for one in bits
    ]
    figures = page.figures
    assert figures["size"] == len(model.vocabulary)
    labels = figures["labels"]
    assert [labels[one] for one in figures["own"]] == [sign(one) for one in text]
    np.testing.assert_array_equal(figures["bits"], bits.astype("f4"))
    assert figures["ranks"].tolist() == found.ranks.tolist()
    others = [sign(model.vocabulary.characters[k]) for k in found.ids.flatten()]
    assert [labels[k] for k in figures["ids"]] == others
    np.testing.assert_array_equal(
        figures["probabilities"], found.probabilities.astype("f4").flatten()
    )


def test_facts_of_the_header() -> None:
    model = small_model()
    text = "ab分开 cd\n" * 4
    words = Page(page_of(model, text, "the song <b>, 'x'")).texts
    nats = own_text(text, "it", model).nats(model, "model")
    total, scored = np.nansum(nats), len(text) - 1
    assert f"{math.exp(total / scored):,.2f}" in words
    assert f"{total / scored / math.log(2):.3f}" in words
    assert f"{total / math.log(2) / len(text[1:].encode()):.3f}" in words
    assert f"{scored:,}" in words
    assert "the song <b>, 'x'" in words
    assert "gru 1x12 · some.ckpt" in words


def test_no_character_steers_the_page() -> None:
    vocabulary = Vocabulary("".join(sorted(NASTY)))
    model = model_of("rnn", vocabulary=vocabulary)
    html = page_of(model, NASTY + NASTY)
    page = Page(html)
    shown = [inside for _, kind, inside in page.cells]
    expected = [{"\n": "", "\u3000": "\u3000", "\t": "\t", " ": " "}.get(c, sign(c)) for c in NASTY]
    assert shown[: len(NASTY)] == shown[len(NASTY) :]
    assert sorted(shown[: len(NASTY)]) == sorted(expected)
    assert {"U+202E", "U+200B", "◌\u0301", "<", '"'} <= set(shown)
    assert set(page.tags) == set(Page(page_of(small_model(), "ab")).tags)
    assert html.count(">&lt;</i>") == html.count(">&amp;</i>") == html.count(">&#34;</i>") == 2
    for character in "\u202e\u200b":
        assert character not in html
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, flags=re.S)
    assert len(scripts) == 2
    assert "<" not in scripts[0]


def test_words_around_the_text_are_escaped() -> None:
    model = small_model()
    name = "</title><script>alert(1)</script>\x1b"
    html = heat_page(model, own_text("ab", name, model), name, name)
    assert set(Page(html).tags) == set(Page(page_of(model, "ab")).tags)
    assert html.count("<script") == 2
    assert "\x1b" not in html


def test_a_text_that_looks_like_the_template() -> None:
    vocabulary = Vocabulary("".join(sorted("{}datex")))
    page = Page(page_of(model_of("rnn", vocabulary=vocabulary), "{{data}}{{text}}"))
    assert "".join(inside for _, _, inside in page.cells) == "{{data}}{{text}}"


def test_characters_that_were_left_out_are_marked() -> None:
    page = Page(page_of(small_model(), "aΩb<\u202e"))
    assert [tag for tag, _, _ in page.cells] == ["i", "s", "i", "s", "s"]
    assert [inside for _, _, inside in page.cells] == ["a", "Ω", "b", "<", "U+202E"]
    figures = page.figures
    assert [figures["labels"][one] for one in figures["own"]] == ["a", "Ω", "b", "<", "U+202E"]
    assert np.isnan(figures["bits"]).tolist() == [True, True, False, True, True]
    assert figures["ranks"][1] == 0
    at = page.texts.index("left out")
    assert page.texts[at + 1] == "3"


@pytest.mark.parametrize("kind", ["lines", "ngram", "fill"])
def test_models_of_every_kind(kind: str) -> None:
    model = {"ngram": ngram_model, "fill": filling_model}.get(kind, lambda: small_model("lines"))()
    page = Page(page_of(model, "ab\ncd\n分开\n"))
    words = " ".join(page.texts)
    assert len(page.cells) == 9
    assert np.isnan(page.figures["bits"]).sum() == (kind != "lines")
    assert ("pseudo-perplexity" in words) == (kind == "fill")
    assert ("on both sides" in words) == (kind == "fill")


@pytest.mark.parametrize("combination", ["mixture", "product"])
@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_weights_of_a_hybrid_model(layout: str, combination: str) -> None:
    """At each character stand the weights of the distributions that predicted it."""
    model = hybrid_models.model_of(layout, combination=combination)
    network: Any = model.network
    text = "ab分\ncdé\n开开\n"
    page = Page(page_of(model, f"{text[:-1]}Ω\n"))
    assert page.figures["parts"] == ["1-gram", "2-gram", "3-gram", "network"]
    weights = page.figures["weights"].reshape(-1, 4)
    assert not weights[-2].any()  # Ω is left out
    lines = text.splitlines(keepends=True) if layout == "lines" else [text]
    expected: list[Any] = []
    for line in lines:
        ids = model.vocabulary.encode(line).long()[None]
        if layout == "lines":
            ids = F.pad(ids, (1, 0), value=len(model.vocabulary))
        else:
            expected.append([np.nan] * 4)
        with torch.no_grad():
            hidden, _ = network.network.recurrence(network.network.features(ids[:, :-1]), None)
        contexts, _ = network.ngram.contexts(ids[:, :-1], None)
        levels = zip(contexts, network.ngram.model.terms, strict=True)
        terms = torch.from_numpy(np.array([passed[number[0]] for number, (_, passed) in levels]))
        logits = hidden[0] @ network.on_hidden.weight.T + network.on_hidden.bias
        logits = logits + terms.T.float() @ network.on_passed.weight.T
        added = logits + torch.tensor([0.0, 0.0, 1.0, 0.0])  # to the highest order
        expected += (logits.softmax(-1) if combination == "mixture" else added).tolist()
    np.testing.assert_allclose(np.delete(weights, -2, axis=0), expected, rtol=1e-4, atol=1e-6)
    assert "what the n-grams and the network weigh" in " ".join(page.texts)
    assert Page(page_of(small_model(), "ab")).figures["parts"] == []


def test_nothing_is_fetched() -> None:
    html = page_of(small_model(), "ab分开")
    assert "default-src 'none'" in html
    assert not re.search(r"(https?:)?//\w|\bsrc=|\bhref=|url\(|@import|\bfetch\(|\bimport\b", html)


def test_a_long_text_stays_small() -> None:
    model = small_model()
    html = page_of(model, "ab分开 cd\n" * 2500)
    assert len(html.encode()) < 2_500_000


@pytest.mark.parametrize("stops", [LIGHT, DARK])
def test_characters_are_legible_on_every_colour(stops: str) -> None:
    found = levels(stops)
    assert len(found) == len({one.ground for one in found}) == LEVELS
    assert min(contrast(one.ground, one.ink) for one in found) >= 4.5
    each = stops.split()
    assert (found[0].ground, found[-1].ground) == (each[0], each[-1])


def test_contrast_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_levels_of_a_scale() -> None:
    found = [choose_level(bits, 16) for bits in (0, 0.49, 0.5, 15.9, 16, 400)]
    assert found == [0, 0, 1, 31, 31, 31]


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\u202f"])
def test_invisible_spaces_are_named(space: str) -> None:
    assert sign(space) == f"U+{ord(space):04X}"
