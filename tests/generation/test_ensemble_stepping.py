"""The steps of an ensemble equal its forward."""

import pytest
import torch

from lyricgen.generation.steppers import EnsembleStepper, stepper
from lyricgen.generation.stepping import HybridStepper, ModelStepper, RecurrentStepper
from lyricgen.models.architectures import Averaging
from tests.helpers.checkpoints import VOCABULARY
from tests.helpers.ensembles import network_of

V = len(VOCABULARY)


@pytest.mark.parametrize("combination", ["arithmetic", "geometric"])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("texts", [1, 3, 256])
@torch.inference_mode()
def test_steps_equal_forward(combination: Averaging, mapped: bool, texts: int) -> None:
    model = network_of(combination, mapped=mapped)
    draw = torch.Generator().manual_seed(1)
    prefixes = [torch.tensor([0, row % V, 3, 2][: 1 + row % 4]) for row in range(texts)]
    fast, plain = stepper(model, prefixes, 100), ModelStepper(model, prefixes)
    assert isinstance(fast, EnsembleStepper)
    kinds = [type(member) for member in fast._members]
    assert kinds == [RecurrentStepper, ModelStepper, HybridStepper]
    for step in range(12):
        torch.testing.assert_close(fast.logits, plain.logits, rtol=0, atol=2e-5)
        if step == 6:
            rows = torch.randint(len(fast.logits), (max(1, texts - 1),), generator=draw)
            fast.select(rows)
            plain.select(rows)
            torch.testing.assert_close(fast.logits, plain.logits, rtol=0, atol=2e-5)
        characters = torch.randint(V, (len(fast.logits),), generator=draw)
        fast.step(characters)
        plain.step(characters)
    fast.step(torch.full((len(fast.logits),), V))  # no character: any logits
