"""A hybrid model stepped in place equals its forward."""

import pytest
import torch

from lyricgen.generation.steppers import stepper
from lyricgen.generation.stepping import HybridStepper, ModelStepper
from lyricgen.models.ngram import distributions
from lyricgen.models.options import Combination
from tests.helpers.checkpoints import VOCABULARY
from tests.helpers.hybrid_models import network_of
from tests.helpers.networks import CELLS

V = len(VOCABULARY)
LAYERS = [(1, False), (3, False), (3, True)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("layers", "residual"), LAYERS)
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("texts", [1, 3, 256])
def test_steps_equal_forward(
    cell: str, layers: int, residual: bool, lines: bool, texts: int
) -> None:
    layout = "lines" if lines else "stream"
    model = network_of(layout, cell=cell, layers=layers, residual=residual, std=0.3)
    check_steps(model, texts, lines=lines)


@pytest.mark.parametrize("order", [1, 2, 6])
@pytest.mark.parametrize("dense_bytes", [0, 2**9])
@pytest.mark.parametrize("texts", [1, 3])
def test_steps_of_every_order_equal_forward(
    monkeypatch: pytest.MonkeyPatch, order: int, dense_bytes: int, texts: int
) -> None:
    monkeypatch.setattr(distributions, "DENSE_BYTES", dense_bytes)
    check_steps(network_of(order=order, std=0.3), texts)


@pytest.mark.parametrize("texts", [1, 3])
def test_steps_of_a_product_equal_forward(texts: int) -> None:
    check_steps(network_of(combination="product", layers=3, residual=True, std=0.3), texts)


@pytest.mark.parametrize("combination", ["mixture", "product"])
@pytest.mark.parametrize("texts", [1, 3, 256])
def test_steps_with_a_short_list_equal_forward(combination: Combination, texts: int) -> None:
    check_steps(
        network_of("lines", combination=combination, short_list=4, std=0.3), texts, lines=True
    )


def test_steps_before_training_are_those_of_the_ngrams() -> None:
    model = network_of()
    for parameter in (*model.on_hidden.parameters(), *model.on_passed.parameters()):
        torch.nn.init.zeros_(parameter)
    text = torch.tensor([1, 0, 2, 1])
    with torch.inference_mode():
        model.eval()
        expected = model.ngram(text[None])[0][0, -1]
        found = stepper(model, [text], 1).logits[0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def check_steps(model: torch.nn.Module, texts: int, *, lines: bool = False) -> None:
    """Step through random texts, of which some are dropped, repeated and put in another order."""
    draw = torch.Generator().manual_seed(1)
    first = [V] if lines else [0]
    prefixes = [torch.tensor([*first, row % V, 3, 2][: 1 + row % 4]) for row in range(texts)]
    fast, plain = stepper(model, prefixes, 100), ModelStepper(model, prefixes)
    assert isinstance(fast, HybridStepper)
    for step in range(16):
        torch.testing.assert_close(fast.logits, plain.logits, rtol=0, atol=1e-5)
        if step == 8:
            rows = torch.randint(len(fast.logits), (max(1, texts - 1),), generator=draw)
            fast.select(rows)
            plain.select(rows)
            torch.testing.assert_close(fast.logits, plain.logits, rtol=0, atol=1e-5)
        characters = torch.randint(V, (len(fast.logits),), generator=draw)
        fast.step(characters)
        plain.step(characters)
