"""Recurrences stepped in place equal the network's forward, in every batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lyricgen.generation import stepping
from lyricgen.generation.steppers import Stepper, stepper
from lyricgen.generation.stepping import ModelStepper, RecurrentStepper
from lyricgen.models.cells.cell import Cell
from tests.helpers.networks import CELLS
from tests.helpers.stepping import PREFIXES, V, network

EACH_CELL = pytest.mark.parametrize("cell", CELLS)
EACH_INPUT = pytest.mark.parametrize("kind", ["embedding", "one_hot"])


def characters(steps: int, rows: int) -> Tensor:
    return torch.randint(V, (steps, rows), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def step_through(model: Stepper, symbols: Tensor) -> Tensor:
    """Logits (1 + T, B, V) before and after reading (T, B)."""
    logits = [model.logits.clone()]
    for each in symbols:
        model.step(each)
        logits.append(model.logits.clone())
    return torch.stack(logits)


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Compare bit for bit with MKL on AVX-512; elsewhere only up to rounding."""
    if torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


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
        found = step_through(fast, symbols)
        for row, prefix in enumerate(PREFIXES):
            expected, _ = model(torch.cat([prefix, symbols[:, row]])[None])
            torch.testing.assert_close(
                found[:, row], expected[0, len(prefix) - 1 :], rtol=1e-12, atol=1e-12
            )


@EACH_CELL
def test_single_precision(cell: str) -> None:
    model = network(cell, layers=2, tie_weights=True)
    symbols = characters(12, len(PREFIXES))
    with torch.inference_mode():
        found = step_through(stepper(model, PREFIXES, 12), symbols)
        expected = step_through(ModelStepper(model, PREFIXES), symbols)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@EACH_CELL
@EACH_INPUT
@pytest.mark.parametrize("hidden_size", [12, 33, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_text_gives_the_same_bits_in_every_batch(
    cell: str, kind: str, hidden_size: int, dtype: torch.dtype
) -> None:
    """The bits depend neither on other rows, nor on the place, nor on the table of inputs."""
    model = network(cell, dtype, input=kind, hidden_size=hidden_size, layers=2)
    symbols = characters(5, len(PREFIXES))
    with torch.inference_mode():
        together = step_through(stepper(model, PREFIXES, 1000), symbols)
        for rows in (2, 3, 4, 5, 8, 15, 16):
            for first in (0, len(PREFIXES) - rows):
                some = slice(first, first + rows)
                few = step_through(stepper(model, PREFIXES[some], 0), symbols[:, some])
                assert_same(few, together[:, some])


@EACH_CELL
@EACH_INPUT
def test_a_text_in_a_batch_of_one_differs_only_by_rounding(cell: str, kind: str) -> None:
    model = network(cell, torch.float64, input=kind, layers=2)
    symbols = characters(5, len(PREFIXES))
    with torch.inference_mode():
        together = step_through(stepper(model, PREFIXES, 1000), symbols)
        for row in (0, 1, len(PREFIXES) - 1):
            some = slice(row, row + 1)
            few = step_through(stepper(model, PREFIXES[some], 0), symbols[:, some])
            torch.testing.assert_close(few, together[:, some], rtol=1e-12, atol=1e-12)


@EACH_CELL
def test_selected_rows_go_on_alike(cell: str) -> None:
    model = network(cell, layers=2)
    symbols = characters(9, len(PREFIXES))
    kept = torch.tensor([30, 2, 2, 17, 5])
    with torch.inference_mode():
        expected = step_through(stepper(model, PREFIXES, 9), symbols)
        some = stepper(model, PREFIXES, 9)
        step_through(some, symbols[:4])
        some.select(kept)
        assert_same(step_through(some, symbols[4:, kept])[1:], expected[5:, kept])
        some = ModelStepper(model, PREFIXES)
        step_through(some, symbols[:4])
        some.select(kept)
        found = step_through(some, symbols[4:, kept])[1:]
        torch.testing.assert_close(found, expected[5:, kept], rtol=1e-4, atol=2e-5)


def test_a_table_that_is_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the table the logits are equal; only the products differ."""
    model, symbols, shapes = network(), characters(3, len(PREFIXES)), []
    addmm = torch.addmm

    def note_shape(bias: Tensor, left: Tensor, right: Tensor, **options: Any) -> Tensor:
        shapes.append(len(left))
        return addmm(bias, left, right, **options)

    monkeypatch.setattr(torch, "addmm", note_shape)
    found = step_through(stepper(model, PREFIXES, 1000), symbols)
    assert V + 1 in shapes  # a multiple of four
    shapes.clear()
    monkeypatch.setattr(stepping, "LARGEST_TABLE", V * 4 * 24 - 1)
    assert torch.equal(step_through(stepper(model, PREFIXES, 1000), symbols), found)
    assert set(shapes) == {40}


def test_a_cell_without_a_step_is_called_as_a_module() -> None:
    model = network()

    class UnknownCell(Cell):
        def __init__(self, inner: Cell) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *given: Any) -> Any:
            return self.inner(*given)

    symbols = characters(3, len(PREFIXES))
    expected = step_through(ModelStepper(model, PREFIXES), symbols)
    model.recurrence.blocks[0] = UnknownCell(model.recurrence.blocks[0])
    other = stepper(model, PREFIXES, 3)
    assert isinstance(other, ModelStepper)
    torch.testing.assert_close(step_through(other, symbols), expected)
