"""Gated recurrent units (Cho et al. 2014): torch's layer, and the recurrence written out.

Z = σ(X W_xz + H W_hz + b_z), R = σ(X W_xr + H W_hr + b_r), H = Z∘H + (1 - Z)∘H~. On the right, H is
the previous state; `ScratchCell` explains the symbols. An update gate Z of 1 keeps the state, a
reset gate R of 0 hides it from the candidate H~. The candidate has two forms:

- reset before the matrix product, as in the paper: H~ = tanh(X W_xh + (R∘H) W_hh + b_h);
- reset after it, as in torch and cuDNN: H~ = tanh(X W_xh + b_h + R∘(H W_hh + c_h)), with a second
  bias c_h.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.models.cells.cell import (
    Cell,
    LayerStep,
    ScratchCell,
    State,
    TorchCell,
    Weights,
    tanh,
    zeros_with_gaps,
)
from lyricgen.models.cells.column_vectors import Step, gru_step
from lyricgen.models.cells.fused import Blocks, FusedSteps
from lyricgen.models.options import GruScratchOptions


class GruStep(LayerStep):
    """Fast step of gated recurrent units, with either form of the candidate."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell)
        weights = cell.weights()
        self.resets_after = len(weights.state_bias) > 0
        if self.resets_after:  # the reset gate acts between the two biases
            self.bias, self.state_bias = weights.bias, weights.whole_state_bias

    @override
    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        super().hold(state, rows)
        gates = 2 * len(self.on_state)  # columns of both gates, which precede the candidate
        self.both_gates = self.totals[:, :gates]
        self.gates_on_state, self.candidate_on_state = self.on_state.tensor_split([gates], dim=1)
        self.from_state = zeros_with_gaps(self.on_state, rows, len(self.bias))
        self.to_gates, self.to_candidate = self.from_state.tensor_split([gates], dim=1)

    @override
    def step(self) -> None:
        (hidden,), reset, candidate = self.state, self.blocks["r"], self.blocks["c"]
        if self.resets_after:
            torch.addmm(self.state_bias, hidden, self.on_state, out=self.from_state)
            self.both_gates.add_(self.to_gates).sigmoid_()
            candidate.addcmul_(reset, self.to_candidate)
        else:
            self.both_gates.addmm_(hidden, self.gates_on_state).sigmoid_()
            candidate.addmm_(reset.mul_(hidden), self.candidate_on_state)
        tanh(candidate, out=candidate)
        hidden.sub_(candidate).mul_(self.blocks["z"]).add_(candidate)


class FusedGru(FusedSteps):
    """Steps of gated recurrent units, in which the reset gate acts after the matrix product."""

    letters = "rzc"
    candidate = "c"

    @override
    def run(self) -> None:
        # twice the candidate's product with the state, and half of the candidate
        self.doubled, self.new = self.totals.new_empty(2, *self.halves[0][1:].shape)
        to_gates, to_candidate = self.scaled.tensor_split([2 * len(self.scaled)], dim=1)
        both_gates, _ = self.split(self.totals)
        doubled_bias = 2 * self.state_bias
        half, doubled, new = (each.unbind() for each in (self.halves[0], self.doubled, self.new))
        reset, update, candidate = (gate.unbind() for gate in self.gates.values())
        for t, gates in enumerate(both_gates.unbind()):
            gates.addmm_(half[t], to_gates).sigmoid_()
            torch.addmm(doubled_bias, half[t], to_candidate, out=doubled[t])
            candidate[t].addcmul_(reset[t], doubled[t]).sigmoid_()
            torch.sub(candidate[t], 0.5, out=new[t])
            torch.lerp(new[t], half[t], update[t], out=half[t + 1])

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Split (…, 3·H) into views for both gates and for the candidate."""
        both_gates, candidate = values.tensor_split([2 * len(self.weight)], dim=-1)
        return both_gates, candidate

    @override
    def differentiate(self) -> Blocks:
        of = super().differentiate()
        of["c"].mul_(1 - self.gates["z"])
        of["r"].mul_(self.doubled).mul_(of["c"])
        of["z"].mul_(self.halves[0][:-1] - self.new)
        of["c"].mul_(2)
        # gradient of the candidate's product with the state
        self.of_product = torch.empty_like(self.new)
        return of

    @override
    def step_back(self, t: int, twice: list[Tensor]) -> None:
        [of_hidden] = twice
        of_total = self.of_totals[t]
        of_total.view(len(of_total), 3, -1).mul_(of_hidden[:, None])
        of_gates, of_candidate = self.split(of_total)
        torch.mul(of_candidate, self.gates["r"][t], out=self.of_product[t])
        from_gates, from_candidate = self.split(self.weight)
        of_hidden.mul_(self.gates["z"][t]).addmm_(of_gates, from_gates.T, alpha=2)
        of_hidden.addmm_(self.of_product[t], from_candidate.T, alpha=2)

    @override
    def of_parameters(self) -> tuple[Tensor, Tensor]:
        of_weight = torch.empty_like(self.weight)
        of_both_gates, of_candidate = self.split(of_weight)
        self.product_over_steps(self.split(self.of_totals)[0], of_both_gates)
        self.product_over_steps(self.of_product, of_candidate)
        return of_weight, self.of_product.sum((0, 1))


class GruCell(Cell):
    """Base of the two layers of gated recurrent units."""

    fast_step = GruStep
    titles: ClassVar[dict[str, str]] = {
        "update": "update gate $z$ (1 keeps the hidden state)",
        "reset": "reset gate $r$ (0 hides the hidden state from the candidate)",
        "candidate": r"candidate $\tilde{h}$",
    }

    @override
    def column_step(self) -> Step:
        return gru_step


class TorchGru(GruCell, TorchCell, nn.GRU):  # type: ignore[misc]
    """torch's gated recurrent units, in which the reset gate acts after the matrix product."""

    gates = "rzc"
    fused_steps = FusedGru
    inner_biases = 1


class ScratchGru(GruCell, ScratchCell):
    """Gated recurrent units written out, with either form of the candidate."""

    gates = "zrc"

    def __init__(self, options: GruScratchOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(options, input_size, hidden_size)
        self.reset_bias = self.draw_parameter(hidden_size) if options.reset == "after" else None

    @override
    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        [hidden], outputs = self.initial_state(inputs, state), []
        # split before the loop: in the loop, each slice would need a gradient of full size
        sizes = [2 * self.hidden_size, self.hidden_size]
        gate_weight, candidate_weight = torch.split(self.hidden_weight, sizes, dim=1)
        gate_inputs, candidate_inputs = torch.split(self.from_inputs(inputs), sizes, dim=2)
        for gate_input, candidate_input in zip(gate_inputs, candidate_inputs, strict=True):
            gates = torch.addmm(gate_input, hidden, gate_weight).sigmoid()  # (B, 2·H)
            update, reset = gates.chunk(2, dim=1)
            if self.reset_bias is None:
                candidate = torch.addmm(candidate_input, reset * hidden, candidate_weight).tanh()
            else:
                from_state = torch.addmm(self.reset_bias, hidden, candidate_weight)
                candidate = (candidate_input + reset * from_state).tanh()
            hidden = update * hidden + (1 - update) * candidate  # (B, H)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None],)

    @override
    def weights(self) -> Weights:
        weights = super().weights()
        return weights if self.reset_bias is None else weights._replace(state_bias=self.reset_bias)
