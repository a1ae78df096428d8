"""Options for choosing characters, and refusals of faulty ones."""

import math
from typing import Any

import pytest
import torch

from lyricgen.errors import UserError
from lyricgen.generation.options import Strategy
from lyricgen.generation.rules import PartialTexts, strategy_rules
from lyricgen.options import validate


def strategy(**given: Any) -> Strategy:
    chosen: Strategy = validate(Strategy, given)
    return chosen


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "temperature 0.8"),
        ({"temperature": 0}, "greedy"),
        ({"temperature": 0.8, "top_p": 0.9}, "temperature 0.8, top_p 0.9"),
        ({"top_k": 40, "min_p": 0.05}, "temperature 0.8, top_k 40, min_p 0.05"),
        ({"temperature": 0, "no_repeat_ngram": 3}, "greedy, no_repeat_ngram 3"),
        ({"temperature": 1, "repetition_penalty": 1.2}, "temperature 1, repetition_penalty 1.2"),
        ({"beams": 5}, "beam 5"),
        ({"beams": 5, "length_penalty": 1}, "beam 5, length_penalty 1"),
    ],
)
def test_the_name_of_a_strategy(given: dict[str, Any], name: str) -> None:
    chosen = strategy(**given)
    assert chosen.name == name
    assert chosen.greedy == name.startswith("greedy")
    assert chosen.random == name.startswith("temperature")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"temperature": -0.5}, "temperature=-0.5"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 1.5}, "top_k=1.5"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"min_p": 0.0}, "min_p=0.0"),
        ({"min_p": 2.0}, "min_p=2.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
        ({"no_repeat_ngram": 0}, "no_repeat_ngram=0"),
        ({"beams": 0}, "beams=0"),
        ({"beams": 2, "length_penalty": -1.0}, "length_penalty=-1.0"),
        ({"temperature": 0, "top_k": 5}, "top_k=5 changes nothing at temperature=0"),
        ({"temperature": 0.0, "top_p": 0.5}, "top_p=0.5 changes nothing at temperature=0"),
        ({"length_penalty": 0.6}, "length_penalty=0.6 goes with a beam search"),
        ({"beams": 3, "temperature": 0.8}, "temperature=0.8 is for drawing, and beams=3"),
        ({"beams": 3, "min_p": 0.1}, "min_p=0.1 is for drawing, and beams=3"),
        ({"topk": 3}, "topk"),
    ],
    ids=str,
)
def test_faulty_options_are_refused(given: dict[str, Any], shown: str) -> None:
    with pytest.raises(UserError) as raised:
        strategy(**given)
    assert shown in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_order_of_the_rules() -> None:
    """Penalties change the model's logits; then come temperature and truncations."""
    logits = torch.tensor([[4.0, 3.0, 2.0, -1.0]])
    written = PartialTexts(torch.tensor([[0, 3, 0]]), 0, torch.tensor([0]))
    changed = logits
    chosen = strategy(temperature=0.5, repetition_penalty=2.0, no_repeat_ngram=2, top_p=0.99)
    assert len(strategy_rules(chosen)) == 4
    for rule in strategy_rules(chosen):
        changed = rule(changed, written)
    # penalised 2, 3, 2, -2; without "0 3", then doubled: 4, 6, 4: all of them within 0.99
    expected = torch.tensor([[-2.0, 0.0, -2.0, -math.inf]])
    torch.testing.assert_close(changed - changed.max(), expected)
    # at temperature 1 the nucleus of 0.5 holds only 1; before the penalty it would hold only 0
    chosen = strategy(temperature=1, repetition_penalty=2.0, top_p=0.5)
    for rule in strategy_rules(chosen):
        logits = rule(logits, written)
    assert logits.isinf().tolist() == [[True, False, True, True]]


def test_rules_without_drawing() -> None:
    assert strategy_rules(strategy(temperature=0)) == []
    assert strategy_rules(strategy(beams=4)) == []
    assert len(strategy_rules(strategy(beams=4, no_repeat_ngram=3, repetition_penalty=1.1))) == 2
