"""A model with a memory stepped in place equals its forward."""

import pytest
import torch

from lyricgen.data.options import RecallOptions, Scope
from lyricgen.generation.steppers import MemoryStepper, stepper
from lyricgen.models.memory_model import MemoryModel
from tests.helpers import checkpoints, hybrid_models
from tests.helpers.memory_models import network_of

SYMBOLS = 3  # few, so that contexts come again


def memory_of(cell: str, size: int, scope: Scope) -> MemoryModel:
    hybrid, _, cell = cell.rpartition(" ")
    network = (
        hybrid_models.network_of(cell=cell, std=0.3, layers=2, residual=True)
        if hybrid
        else checkpoints.model_of(cell).next_model
    )
    options = RecallOptions(recent=4, orders=(1, 2, 3, 5), occurrences=3, size=size, scope=scope)
    return network_of(network, options, reads_hidden=bool(hybrid))


@pytest.mark.parametrize("cell", ["hybrid lstm", "hybrid gru_scratch", "gru_scratch", "lstm"])
@pytest.mark.parametrize("size", [1000, 7])
@pytest.mark.parametrize("scope", ["split", "document", "line"])
@pytest.mark.parametrize("texts", [1, 6])
@torch.inference_mode()
def test_steps_equal_forward(cell: str, size: int, scope: Scope, texts: int) -> None:
    model = memory_of(cell, size, scope)
    draw = torch.Generator().manual_seed(1)
    read = [torch.randint(SYMBOLS, (1 + 4 * row,), generator=draw) for row in range(texts)]
    fast = stepper(model, read, 40)
    assert isinstance(fast, MemoryStepper)
    for step in range(40):
        expected = torch.cat([model(text[None])[0][:, -1] for text in read])
        torch.testing.assert_close(fast.logits, expected, rtol=0, atol=1e-5)
        if step == 20:
            rows = torch.randint(len(read), (max(1, texts - 1),), generator=draw)
            fast.select(rows)
            read = [read[row] for row in rows.tolist()]
        characters = torch.randint(SYMBOLS, (len(read),), generator=draw)
        fast.step(characters)
        read = [torch.cat([text, one[None]]) for text, one in zip(read, characters, strict=True)]


@torch.inference_mode()
def test_a_long_text_takes_no_more_memory() -> None:
    model = memory_of("lstm", 7, "split")
    fast = stepper(model, [torch.tensor([1])], 200)
    for _ in range(200):
        fast.step(torch.tensor([2]))
    assert isinstance(fast, MemoryStepper)
    widths = {value.shape[1] for name, value in vars(fast).items() if name in ("_text", "_alike")}
    assert max(widths) <= 2 * (7 + 5)  # the size and the longest context, twice


@torch.inference_mode()
def test_a_text_without_a_next_character_stops_no_other() -> None:
    """The id V stands for no character; only its own text has arbitrary logits then."""
    model = memory_of("lstm", 1000, "split")
    nothing = model.vocabulary_size
    fast = stepper(model, [torch.tensor([1, 2]), torch.tensor([1, 2])], 20)
    alone = stepper(model, [torch.tensor([1, 2])], 20)
    for character in (1, 2, 1, 2, 1):
        fast.step(torch.tensor([nothing, character]))
        alone.step(torch.tensor([character]))
        torch.testing.assert_close(fast.logits[1:], alone.logits, rtol=0, atol=1e-5)
    fast.select(torch.empty(0, dtype=torch.int64))
