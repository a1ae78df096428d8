"""Recurrences stepped in place equal the network's own forward, whatever else is in the batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lyricgen.generation import stepping
from lyricgen.generation.stepping import ModelStepper, RecurrentStepper, Stepper, stepper
from lyricgen.models.cells.cell import Cell
from tests.helpers.networks import CELLS
from tests.helpers.stepping import PREFIXES, V, network

EACH_CELL = pytest.mark.parametrize("cell", CELLS)
EACH_INPUT = pytest.mark.parametrize("kind", ["embedding", "one_hot"])


def characters(steps: int, rows: int) -> Tensor:
    return torch.randint(V, (steps, rows), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def stepped(model: Stepper, symbols: Tensor) -> Tensor:
    """Logits (1 + T, B, V) before and after reading (T, B)."""
    logits = [model.logits.clone()]
    for each in symbols:
        model.step(each)
        logits.append(model.logits.clone())
    return torch.stack(logits)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    """Bit for bit where that was found to hold: other libraries and processors promise nothing."""
    if torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


@EACH_CELL
@EACH_INPUT
@pytest.mark.parametrize(("layers", "residual"), [(1, False), (2, False), (2, True), (3, True)])
@pytest.mark.parametrize("table", [False, True])
def test_steps_equal_forward(
    cell: str, kind: str, layers: int, residual: bool, table: bool
) -> None:
    model = network(cell, torch.float64, input=kind, layers=layers, residual=residual)
    symbols = characters(12, len(PREFIXES))
    with torch.inference_mode():
        fast = stepper(model, PREFIXES, 1000 if table else 0)
        assert isinstance(fast, RecurrentStepper)
        found = stepped(fast, symbols)
        for row, prefix in enumerate(PREFIXES):
            wanted, _ = model(torch.cat([prefix, symbols[:, row]])[None])
            torch.testing.assert_close(
                found[:, row], wanted[0, len(prefix) - 1 :], rtol=1e-12, atol=1e-12
            )


@EACH_CELL
def test_single_precision(cell: str) -> None:
    model = network(cell, layers=2, tie_weights=True)
    symbols = characters(12, len(PREFIXES))
    with torch.inference_mode():
        found = stepped(stepper(model, PREFIXES, 12), symbols)
        wanted = stepped(ModelStepper(model, PREFIXES), symbols)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


@EACH_CELL
@EACH_INPUT
@pytest.mark.parametrize("hidden_size", [12, 33, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_text_gives_the_same_bits_in_every_batch(
    cell: str, kind: str, hidden_size: int, dtype: torch.dtype
) -> None:
    """Among few, among many, at any place, and whether the input's share comes from a table."""
    model = network(cell, dtype, input=kind, hidden_size=hidden_size, layers=2)
    symbols = characters(5, len(PREFIXES))
    with torch.inference_mode():
        together = stepped(stepper(model, PREFIXES, 1000), symbols)
        for rows in (2, 3, 4, 5, 8, 15, 16):
            for first in (0, len(PREFIXES) - rows):
                some = slice(first, first + rows)
                few = stepped(stepper(model, PREFIXES[some], 0), symbols[:, some])
                assert_same(few, together[:, some])


@EACH_CELL
@EACH_INPUT
def test_a_text_alone_is_as_close_as_rounding_goes(cell: str, kind: str) -> None:
    model = network(cell, torch.float64, input=kind, layers=2)
    symbols = characters(5, len(PREFIXES))
    with torch.inference_mode():
        together = stepped(stepper(model, PREFIXES, 1000), symbols)
        for row in (0, 1, len(PREFIXES) - 1):
            some = slice(row, row + 1)
            few = stepped(stepper(model, PREFIXES[some], 0), symbols[:, some])
            torch.testing.assert_close(few, together[:, some], rtol=1e-12, atol=1e-12)


@EACH_CELL
def test_some_go_on(cell: str) -> None:
    model = network(cell, layers=2)
    symbols = characters(9, len(PREFIXES))
    kept = torch.tensor([30, 2, 2, 17, 5])
    with torch.inference_mode():
        wanted = stepped(stepper(model, PREFIXES, 9), symbols)
        some = stepper(model, PREFIXES, 9)
        stepped(some, symbols[:4])
        some.select(kept)
        assert_same(stepped(some, symbols[4:, kept])[1:], wanted[5:, kept])
        some = ModelStepper(model, PREFIXES)
        stepped(some, symbols[:4])
        some.select(kept)
        found = stepped(some, symbols[4:, kept])[1:]
        torch.testing.assert_close(found, wanted[5:, kept], rtol=1e-4, atol=2e-5)


def test_a_table_that_is_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same logits come either way; only the products differ."""
    model, symbols, shapes = network(), characters(3, len(PREFIXES)), []
    addmm = torch.addmm

    def noted(bias: Tensor, left: Tensor, right: Tensor, **options: Any) -> Tensor:
        shapes.append(len(left))
        return addmm(bias, left, right, **options)

    monkeypatch.setattr(torch, "addmm", noted)
    found = stepped(stepper(model, PREFIXES, 1000), symbols)
    assert V + 1 in shapes  # a multiple of four
    shapes.clear()
    monkeypatch.setattr(stepping, "LARGEST_TABLE", V * 4 * 24 - 1)
    assert torch.equal(stepped(stepper(model, PREFIXES, 1000), symbols), found)
    assert set(shapes) == {40}


def test_a_cell_without_a_step_is_called_itself() -> None:
    model = network()

    class Other(Cell):
        def __init__(self, inner: Cell) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *given: Any) -> Any:
            return self.inner(*given)

    symbols = characters(3, len(PREFIXES))
    wanted = stepped(ModelStepper(model, PREFIXES), symbols)
    model.recurrence.blocks[0] = Other(model.recurrence.blocks[0])
    other = stepper(model, PREFIXES, 3)
    assert isinstance(other, ModelStepper)
    torch.testing.assert_close(stepped(other, symbols), wanted)
