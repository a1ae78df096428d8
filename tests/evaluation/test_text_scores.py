"""Nats of texts from Python, against the forward pass of the network, text by text."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lyricgen.api.models import WritingModel
from lyricgen.data.options import Scope
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.evaluation.own_text import own_text
from lyricgen.evaluation.text_scores import LikeLengthsSampler, score_texts
from lyricgen.models.trained_model import TrainedModel
from tests.helpers import ensembles, fill_models, hybrid_models, memory_models, ngram_models
from tests.helpers.checkpoints import VOCABULARY, model_of

TEXTS = ["ab分开", "", "a", "c" * 40, "分a" * 3, "abc分" * 700, "c分ab"]


def memory_of(layout: str, scope: Scope = "line") -> WritingModel:
    recall = memory_models.RECALL.model_copy(update={"scope": scope})
    network = hybrid_models.network_of(layout, std=0.3)
    with_memory = memory_models.network_of(network, recall, reads_hidden=True)
    return WritingModel(with_memory, VOCABULARY, layout, lowercase=False)  # type: ignore[arg-type]


MODELS: dict[str, Callable[[Any], WritingModel]] = {
    "lstm": lambda layout: model_of("lstm", layout=layout),
    "two layers": lambda layout: model_of("gru", layout=layout, layers=2, dropout=0.5),
    "mixture": hybrid_models.model_of,
    "product": lambda layout: hybrid_models.model_of(layout, combination="product", short_list=4),
    "n-grams": lambda layout: ngram_models.model_of(layout=layout),
    "arithmetic": lambda layout: ensembles.writing_model_of("arithmetic", layout),
    "geometric": lambda layout: ensembles.writing_model_of("geometric", layout, mapped=True),
    "memory": memory_of,
}


def forward_nats(model: TrainedModel, text: str) -> list[float]:
    """Nats of a text by one forward pass, in float64; nan for the first of running text."""
    lines = model.layout == "lines"
    known = "".join(one for one in text if one in model.vocabulary.characters)
    if not known:
        return [math.nan] * lines
    ids = model.vocabulary.encode(known + "\n" * lines).long()
    ids = torch.cat([torch.tensor([len(model.vocabulary)]), ids]) if lines else ids
    found = [] if lines else [math.nan]
    if len(ids) > 1:
        with torch.inference_mode():
            logits, _ = model.next_model(ids[None, :-1])
        logs = logits[0].double().log_softmax(-1)
        found += (-logs.gather(1, ids[1:, None])[:, 0]).tolist()
    return found


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("kind", MODELS)
def test_scores_are_those_of_a_forward_pass(kind: str, layout: str) -> None:
    model = MODELS[kind](layout)
    found = model.score(TEXTS)
    assert len(found) == len(TEXTS)
    for text, nats in zip(TEXTS, found, strict=True):
        assert nats.dtype == np.float64
        assert len(nats) == len(text) + (layout == "lines")
        # the n-grams do not know 开
        known = [one in model.vocabulary.characters + "\n" for one in f"{text}\n"][: len(nats)]
        np.testing.assert_allclose(nats[known], forward_nats(model, text), atol=1e-5)


def test_unknown_characters_are_left_out_and_keep_their_places() -> None:
    model = model_of()
    for text in ("Ωa😀b分", "abΩ", "ΩΩ", "Ωa"):
        [nats] = model.score([text])
        known = [one in VOCABULARY.characters for one in text]
        np.testing.assert_allclose(nats[known], forward_nats(model, text), atol=1e-5)
        assert np.isnan(nats[~np.array(known)]).all()
    scores = score_texts(model, ["Ωa😀b分", "", "ΩΩ"])
    assert scores.unknown.tolist() == [2, 0, 2]
    assert scores.left_out == "Ω😀ΩΩ"
    assert scores.characters.tolist() == [2, 0, 0]
    assert scores.totals.tolist() == [np.nansum(one) for one in scores.by_text]


def test_the_end_of_a_line_is_scored_if_the_line_has_a_character() -> None:
    model = model_of(layout="lines")
    whole, unknown, empty = model.score(["aΩ", "Ω", ""])
    assert [len(one) for one in (whole, unknown, empty)] == [3, 2, 1]
    assert np.isnan(whole).tolist() == [False, True, False]
    assert np.isnan([*unknown, *empty]).all()


def test_texts_are_prepared_as_in_training() -> None:
    model = model_of(lowercase=True)
    np.testing.assert_array_equal(model.score(["ABe\u0301"])[0], model.score(["abé"])[0])
    spaced = replace(model, options={"data": {"newline": "space"}}, vocabulary=Vocabulary(" abcdé"))
    np.testing.assert_array_equal(spaced.score(["a\r\nb"])[0], spaced.score(["a b"])[0])
    line = model_of(layout="lines")
    np.testing.assert_array_equal(line.score([" ab \n"])[0], line.score(["ab"])[0])


def test_a_line_is_scored_as_by_evaluate_text() -> None:
    for model in (model_of(layout="lines"), memory_of("lines", "split")):
        texts = ["ab分", "a", "ab分", "开ab分" * 10]
        scores = score_texts(model, texts)
        whole = own_text("\n".join(texts), "it", model).nats(model, "model")
        np.testing.assert_allclose(scores.nats, whole, atol=1e-5)


def test_pseudo_nats_of_a_model_that_fills_gaps() -> None:
    network = fill_models.model_of("gru", vocabulary_size=len(VOCABULARY))
    model = WritingModel(network, VOCABULARY, "stream", lowercase=False)
    texts = ["ab分开", "a", "", "abcd" * 10]
    for text, nats in zip(texts, model.score(texts), strict=True):
        assert len(nats) == len(text)
        if len(text) < 2:
            assert np.isnan(nats).all()
            continue
        ids = VOCABULARY.encode(text).long()
        with torch.inference_mode():
            last = torch.tensor([len(ids) - 1])
            logits, _ = network(ids[None], last, len(ids) - 1)
        expected = -logits[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        np.testing.assert_allclose(nats[1:], expected.numpy(), atol=1e-5)
    long = "ab分cd开" * 300  # read in pieces, each with the characters after it
    whole = own_text(long, "it", model).nats(model, "model")
    np.testing.assert_allclose(model.score([long])[0], whole, atol=1e-5)


def test_a_document_is_scored_to_its_end() -> None:
    vocabulary = Vocabulary("\x03\nabcd分")
    model = model_of(layout="documents", vocabulary=vocabulary)
    texts = ["ab\ncd\n\n分", "a", "", "Ω"]
    for text, nats in zip(texts, model.score([*texts[:1], " a\n", *texts[2:]]), strict=True):
        assert len(nats) == len(text) + 1
        known = "" if text == "Ω" else text
        if not known:
            assert np.isnan(nats).all()
            continue
        ids = torch.cat([torch.tensor([7]), vocabulary.encode(f"{known}\x03").long()])
        with torch.inference_mode():
            logits, _ = model.next_model(ids[None, :-1])
        expected = -logits[0].double().log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        np.testing.assert_allclose(nats, expected.numpy(), atol=1e-5)
    with pytest.raises(UserError, match=r"text 1 has the character .* which ends a text"):
        model.score(["a\x03b"])


# With memory


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("scope", ["document", "line"])
def test_a_memory_of_a_line_begins_anew_at_each_text(layout: str, scope: Scope) -> None:
    model = memory_of(layout, scope)
    once, again = model.score(["abc分" * 5] * 2)
    np.testing.assert_allclose(once, again, atol=1e-6)


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_a_memory_of_the_split_reads_on(layout: str) -> None:
    model = memory_of(layout, "split")
    text = "abc分" * 5
    alone, again = model.score([text, text])
    np.testing.assert_allclose(alone, forward_nats(model, text), atol=1e-5)
    assert np.nansum(again) < np.nansum(alone) - 1
    assert (np.abs(again - alone)[1:5] > 1e-3).all()


@pytest.mark.parametrize("scope", ["split", "document", "line"])
def test_a_text_of_several_lines_with_memory(scope: Scope) -> None:
    model = memory_of("stream", scope)
    text = "abab\nabab\n\nabab\nab"
    before = [] if scope == "split" else ["ab"]
    nats = model.score([*before, text])[-1]
    np.testing.assert_allclose(nats, forward_nats(model, text), atol=1e-5)


# Batches


def test_lines_of_like_length_are_read_together() -> None:
    draw = np.random.default_rng(0)
    lengths = torch.from_numpy(draw.integers(1, 3000, 500))
    starts = lengths.cumsum(0) - lengths
    sampler = LikeLengthsSampler(starts, lengths, 50, 0)
    read = torch.zeros(int(lengths.sum()), dtype=torch.int64)
    for index in range(len(sampler)):
        windows = sampler.windows(0, index)
        assert windows.lengths is not None
        for start, length in zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True):
            read[start : start + length] += 1
        if windows.starts_stream and windows.num_steps < 1024:
            assert windows.num_steps < 2 * int(windows.lengths.min())
    assert (read == 1).all()
    assert len(LikeLengthsSampler(starts[:0], lengths[:0], 50, 0)) == 0


# Refusals


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("ab", "texts='ab': put it in a list"),
        (["ab", 3], "texts: 3 is no text"),
        (["ab", "c\nd"], r"text 2 has the character '\\n', which ends a text of this model"),
    ],
)
def test_refusals(texts: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        model_of(layout="lines").score(texts)


def test_texts_that_can_be_read_once_are_scored() -> None:
    model = model_of(layout="lines")
    assert [len(nats) for nats in model.score(text for text in ["ab", "abc"])] == [3, 4]  # type: ignore[arg-type]


def test_a_model_without_probabilities() -> None:
    model = model_of()
    with torch.no_grad():
        model.next_model.output.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="scoring 1 texts: it predicts no probabilities"):
        model.score(["ab"])


# The next characters


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_most_probable_next_characters(kind: str, layout: str) -> None:
    model = MODELS[kind](layout)
    for prefix in ("ab分", ""):
        with torch.inference_mode():
            logits, _ = model.next_model(model.encode_prefix(prefix)[None])
        exact = np.exp(logits[0, -1].double().numpy())
        exact /= exact.sum()
        characters = zip(exact, model.vocabulary.characters, strict=True)
        expected = sorted(characters, key=lambda one: -one[0])
        for count in (1, 3, 100):
            found = model.next_characters(prefix, count)
            assert [one for one, _ in found] == [one for _, one in expected[:count]]
            np.testing.assert_allclose([p for _, p in found], [p for p, _ in expected[:count]])
    assert len(model.next_characters("a")) == min(5, len(model.vocabulary))
    assert sum(p for _, p in model.next_characters("a", 100)) == pytest.approx(1)


def test_refused_prefixes() -> None:
    model = model_of()
    for arguments, message in (
        (("Ω",), "'Ω'"),
        ((["a"],), "is no text"),
        (("a", 0), "count=0: it must be at least 1"),
        (("a", 1.0), "whole number"),
    ):
        with pytest.raises(UserError, match=message):
            model.next_characters(*arguments)  # type: ignore[arg-type]
    network = fill_models.model_of("gru", vocabulary_size=len(VOCABULARY))
    with pytest.raises(UserError, match="fills gaps"):
        WritingModel(network, VOCABULARY, "stream", lowercase=False).next_characters("a")
