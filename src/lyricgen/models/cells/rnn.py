"""Elman networks (Elman 1990): torch's layer, and the recurrence written out."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.models.cells.cell import Cell, LayerStep, ScratchCell, State, TorchCell, tanh
from lyricgen.models.cells.column_vectors import Step, relu, rnn_step
from lyricgen.models.cells.fused import Blocks, FusedSteps
from lyricgen.models.options import RnnOptions


class RnnStep(LayerStep):
    """Fast step of an Elman network: H = f(X W_x + H W_h + b), where f is tanh or relu."""

    def __init__(self, cell: "RnnCell") -> None:
        super().__init__(cell)
        self.rectified = cell.nonlinearity == "relu"

    @override
    def step(self) -> None:
        (hidden,) = self.state
        self.totals.addmm_(hidden, self.on_state)
        if self.rectified:
            torch.clamp(self.totals, min=0, out=hidden)
        else:
            tanh(self.totals, out=hidden)


class FusedTanh(FusedSteps):
    """Steps of an Elman network with tanh."""

    letters = candidate = "a"

    @override
    def run(self) -> None:
        half = self.halves[0].unbind()
        for t, total in enumerate(self.totals.unbind()):
            total.addmm_(half[t], self.scaled).sigmoid_()
            torch.sub(total, 0.5, out=half[t + 1])

    @override
    def differentiate(self) -> Blocks:
        of = super().differentiate()
        of["a"].mul_(2)
        return of

    @override
    def step_back(self, t: int, twice: list[Tensor]) -> None:
        of_total = self.of_totals[t].mul_(twice[0])
        twice[0].addmm_(of_total, self.weight.T, beta=0, alpha=2)


class FusedRelu(FusedTanh):
    """Steps of an Elman network with relu."""

    candidate = ""

    @override
    def run(self) -> None:
        half = self.halves[0].unbind()
        for t, total in enumerate(self.totals.unbind()):
            total.addmm_(half[t], self.scaled).clamp_(min=0)
            torch.mul(total, 0.5, out=half[t + 1])

    @override
    def differentiate(self) -> Blocks:
        self.of_totals = self.totals.sign().mul_(0.5)
        return self.split_blocks(self.of_totals)


class RnnCell(Cell):
    """Base of the two layers of Elman networks."""

    gates = "a"
    fast_step = RnnStep
    nonlinearity = "tanh"

    @override
    def column_step(self) -> Step:
        return partial(rnn_step, activation=relu if self.nonlinearity == "relu" else np.tanh)


class TorchRnn(RnnCell, TorchCell, nn.RNN):  # type: ignore[misc]
    """torch's Elman network: H = f(X W_x + H W_h + b), where f is tanh or relu."""

    def __init__(self, options: RnnOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(options, input_size, hidden_size, nonlinearity=options.nonlinearity)
        self.fused_steps = FusedRelu if options.nonlinearity == "relu" else FusedTanh


class ScratchRnn(RnnCell, ScratchCell):
    """An Elman network written out: H = tanh(X W_x + H W_h + b)."""

    @override
    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        [hidden], outputs = self.initial_state(inputs, state), []
        for from_input in self.from_inputs(inputs):
            hidden = torch.addmm(from_input, hidden, self.hidden_weight).tanh()  # (B, H)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None],)
