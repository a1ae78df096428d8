"""Beam search, against an enumeration of all texts over a tiny vocabulary."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lyricgen.errors import UserError
from lyricgen.generation import rules
from lyricgen.generation.beam import Hypothesis, beam_search
from lyricgen.generation.continuing import continue_texts
from lyricgen.generation.rules import PartialTexts, Rule
from lyricgen.generation.texts import log_probabilities
from lyricgen.models.network import LanguageModel
from tests.helpers.decoding import continue_prefixes
from tests.helpers.networks import architecture

V, LENGTH, STOP = 4, 4, 3
PREFIXES = [[V], [V, 0, 1], [V, 2], [V, 2, 2, 0]]
Allowed = Callable[[list[int], list[int]], bool]  # prefix, new characters


def network(cell: str = "gru", vocabulary_size: int = V) -> LanguageModel:
    torch.manual_seed(0)
    size = {"hidden_size": 8, "layers": 2, "vocabulary_size": vocabulary_size}
    model = LanguageModel(architecture(cell, **size)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model


def every_text(stop: int | None, stops: int) -> list[list[int]]:
    """All texts of up to LENGTH characters; the last of the stops ends a text."""
    texts = []
    for length in range(1, LENGTH + 1):
        for text in itertools.product(range(V), repeat=length):
            ends = text[-1] == stop and text.count(stop) == stops
            if (ends or length == LENGTH) and text[:-1].count(stop) < stops:
                texts.append(list(text))
    return texts


@functools.cache
def every_probability(cell: str, prefix: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """ln p of every text of up to LENGTH characters after a prefix, by the whole network."""
    found: dict[tuple[int, ...], float] = {}
    for length in range(1, LENGTH + 1):
        texts = list(itertools.product(range(V), repeat=length))
        with torch.no_grad():
            logits = network(cell)(torch.tensor([[*prefix, *text] for text in texts]))[0]
        each = logits[:, len(prefix) - 1 : -1].log_softmax(dim=-1)
        each = each.gather(-1, torch.tensor(texts)[..., None])[..., 0]
        found |= zip(texts, map(math.fsum, each.tolist()), strict=True)
    return found


def enumerate_hypotheses(
    cell: str,
    prefix: list[int],
    stop: int | None,
    stops: int,
    penalty: float,
    allowed: Allowed,
) -> list[Hypothesis]:
    nats = every_probability(cell, tuple(prefix))
    found = []
    for text in every_text(stop, stops):
        if allowed(prefix, text):
            score = nats[tuple(text)] / ((5 + len(text)) / 6) ** penalty
            found.append(Hypothesis(text[:-1] if text.count(stop) == stops else text, score))
    return sorted(found, key=lambda one: -one.score)


def repeats_no_pair(prefix: list[int], text: list[int]) -> bool:
    both = [*prefix, *text]
    pairs = list(itertools.pairwise(both))
    new = pairs[len(prefix) - 1 :]
    return all(pair not in pairs[: len(prefix) - 1 + at] for at, pair in enumerate(new))


def second_is_one(logits: Tensor, written: PartialTexts) -> Tensor:
    """Constraint: the second character is 1, after the third prefix 2."""
    if written.step != 1:
        return logits
    expected = torch.tensor([1, 1, 2, 1])[written.rows]
    return logits.masked_fill(torch.arange(V) != expected[:, None], -torch.inf)


def has_second(prefix: list[int], text: list[int]) -> bool:
    return len(text) < 2 or text[1] == (2 if prefix == PREFIXES[2] else 1)


RULED: dict[str, tuple[list[Rule], Allowed]] = {
    "none": ([], lambda prefix, text: True),
    "no pair twice": ([rules.no_repeat_ngram(2)], repeats_no_pair),
    "second": ([second_is_one], has_second),
}


@pytest.mark.parametrize(("stop", "stops"), [(None, None), (STOP, None), (STOP, [1, 2, 3, 2])])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("ruled", RULED)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_enough_beams_find_every_text(
    stop: int | None, stops: list[int] | None, penalty: float, ruled: str, cell: str
) -> None:
    model, (chosen, allowed) = network(cell), RULED[ruled]
    found = beam_search(
        model,
        [torch.tensor(prefix) for prefix in PREFIXES],
        beams=V**LENGTH,
        length=LENGTH,
        rules=chosen,
        stop=stop,
        stops=stops,
        length_penalty=penalty,
    )
    for prefix, number, hypotheses in zip(PREFIXES, stops or [1] * 4, found, strict=True):
        expected = enumerate_hypotheses(cell, prefix, stop, number, penalty, allowed)
        assert [one.ids for one in hypotheses] == [one.ids for one in expected]
        scores = [[one.score for one in many] for many in (hypotheses, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-12)


def search(model: LanguageModel, prefixes: list[list[int]], **given: Any) -> list[list[Hypothesis]]:
    options = {"beams": 3, "length": 12, "stop": STOP, **given}
    return beam_search(model, [torch.tensor(prefix) for prefix in prefixes], **options)


@pytest.mark.parametrize("stop", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("chosen", [[], [rules.no_repeat_ngram(3), rules.repetition_penalty(1.3)]])
def test_one_beam_is_greedy(stop: int | None, chosen: list[Rule]) -> None:
    model = network(vocabulary_size=5)
    prefixes = [[5], [5, 0, 1], [5, 2], [4, 4]]
    ids = [torch.tensor(prefix) for prefix in prefixes]
    greedy = continue_texts(model, ids, rules=chosen, uniforms=None, length=15, stop=stop)
    found = search(model, prefixes, beams=1, length=15, rules=chosen, stop=stop)
    assert [[one.ids for one in hypotheses] for hypotheses in found] == [[ids] for ids in greedy]


def test_a_beam_follows_its_definition() -> None:
    """A few beams equal a loop over lists."""
    model = network()
    for beams in (2, 3, 5):
        for prefix, hypotheses in zip(PREFIXES, search(model, PREFIXES, beams=beams), strict=True):
            running, complete = [(0.0, [])], []
            for _ in range(12):
                grown = []
                for total, text in running:
                    logits = model(torch.tensor([[*prefix, *text]]))[0][0, -1].log_softmax(dim=-1)
                    grown += [(total + p, [*text, c]) for c, p in enumerate(logits.tolist())]
                grown = sorted(grown, key=lambda one: -one[0])[: beams - len(complete)]
                complete += [one for one in grown if one[1][-1] == STOP]
                running = [one for one in grown if one[1][-1] != STOP]
            every = [*complete, *running]
            scored = [(total / ((5 + len(text)) / 6) ** 0.6, text) for total, text in every]
            scored.sort(key=lambda one: -one[0])
            texts = [text[:-1] if text[-1] == STOP else text for _, text in scored]
            assert [one.ids for one in hypotheses] == texts
            assert [one.score for one in hypotheses] == pytest.approx(
                [score for score, _ in scored], abs=1e-12
            )


def test_a_prefix_finds_the_same_texts_in_every_batch() -> None:
    model = network().float()
    together = search(model, PREFIXES * 3)
    assert together == together[: len(PREFIXES)] * 3
    for prefix, hypotheses in zip(PREFIXES, together, strict=False):
        assert search(model, [prefix]) == [hypotheses]


def own_scores(
    model: LanguageModel, prefix: list[int], hypotheses: list[Hypothesis]
) -> list[float]:
    """ln p of the new characters, with the stop if it ended them."""
    rows = [one.ids + [STOP] * (len(one.ids) < 12) for one in hypotheses]
    nats: list[float] = log_probabilities(model, [torch.tensor(prefix)] * len(rows), rows).tolist()
    return nats


def test_scores_are_the_models_own_lowered_by_rules() -> None:
    model = network()
    lowered = []
    for chosen in ([], [rules.repetition_penalty(2.0)]):
        found = search(model, PREFIXES, rules=chosen, length_penalty=0.0)
        for prefix, hypotheses in zip(PREFIXES, found, strict=True):
            scores = [one.score for one in hypotheses]
            if not chosen:
                assert scores == pytest.approx(own_scores(model, prefix, hypotheses), abs=1e-12)
            lowered += np.subtract(own_scores(model, prefix, hypotheses), scores).tolist()
    assert min(lowered) > -1e-12
    assert max(lowered) > 0.1


def test_more_beams_than_characters() -> None:
    """Fewer than K texts in the first step, K in the next."""
    [hypotheses] = search(network(), [[V]], beams=10, length=2, stop=None)
    assert len(hypotheses) == 10
    assert len({tuple(one.ids) for one in hypotheses}) == 10


def test_constraints_that_leave_no_character_are_refused() -> None:
    def forbid_all(logits: Tensor, written: PartialTexts) -> Tensor:
        return logits - torch.inf if written.step == 5 else logits

    with pytest.raises(UserError, match="position 6 of a text") as raised:
        search(network(), PREFIXES, rules=[forbid_all], stop=None)
    assert "\n" not in str(raised.value)
    # texts that end earlier meet no constraint
    model = network()
    with torch.no_grad():
        model.output.bias[STOP] = 9
    found = search(model, PREFIXES, rules=[forbid_all])
    assert all(len(one.ids) < 5 for many in found for one in many)


def test_longer_texts_are_favoured_by_a_length_penalty() -> None:
    model = network()
    lengths = [
        [len(many[0].ids) for many in search(model, PREFIXES, beams=20, length_penalty=penalty)]
        for penalty in (0.0, 3.0)
    ]
    assert all(short <= long for short, long in zip(*lengths, strict=True))
    assert sum(lengths[0]) < sum(lengths[1])


def test_a_beam_finds_more_probable_texts_than_greedy() -> None:
    model = network()
    greedy = continue_prefixes(model, PREFIXES, temperature=0.0, length=12)
    ids = [torch.tensor(prefix) for prefix in PREFIXES]
    found = [many[0].ids for many in search(model, PREFIXES, beams=30, stop=None)]
    gains = log_probabilities(model, ids, found) - log_probabilities(model, ids, greedy)
    assert min(gains) > -1e-9
    assert max(gains) > 0.1
