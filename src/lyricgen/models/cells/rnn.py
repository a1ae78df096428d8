"""Elman networks (Elman 1990): torch's own layer, and the recurrence written out."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lyricgen.models.cells.cell import Cell, LayerStep, ScratchCell, State, TorchCell, tanh
from lyricgen.models.cells.column_vectors import Step, relu, rnn_step
from lyricgen.models.options import RnnOptions


class RnnCell(Cell):
    """Attributes and steps that both layers share."""

    gates = "a"
    nonlinearity = "tanh"

    def column_step(self) -> Step:
        """The step in NumPy that computes the same."""
        return partial(rnn_step, activation=relu if self.nonlinearity == "relu" else np.tanh)

    def layer_step(self) -> LayerStep:
        """The step in place."""
        return RnnStep(self)


class Rnn(RnnCell, TorchCell, nn.RNN):  # type: ignore[misc]
    """H = tanh(X W_x + H W_h + b), or the larger of 0 and that: torch's own layer."""

    def __init__(self, options: RnnOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(options, input_size, hidden_size, nonlinearity=options.nonlinearity)


class RnnScratch(RnnCell, ScratchCell):
    """H = tanh(X W_x + H W_h + b)."""

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read T steps: (B, T, I) or ids (B, T), state from before or None for zero."""
        [hidden], outputs = self.initial_state(inputs, state), []
        for from_input in self.from_inputs(inputs):
            hidden = torch.addmm(from_input, hidden, self.hidden_weight).tanh()  # (B, H)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None],)


class RnnStep(LayerStep):
    """H = tanh(X W_x + H W_h + b), or the larger of 0 and that."""

    def __init__(self, cell: RnnCell) -> None:
        super().__init__(cell)
        self.rectified = cell.nonlinearity == "relu"

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,) = self.state
        self.totals.addmm_(hidden, self.on_state)
        if self.rectified:
            torch.clamp(self.totals, min=0, out=hidden)
        else:
            tanh(self.totals, out=hidden)
