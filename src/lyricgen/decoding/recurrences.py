"""One step of a recurrent layer, in place, for reading one character of many texts at a time.

The layers compute what those of `model/cells.py` and `model/scratch.py` do, without what a sequence
and a gradient need: all numbers lie in buffers that stay. Weights have torch's layout, G blocks of
H rows, first the gates that go through a sigmoid.

R rows, I input size, H hidden size, G gates.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.model.cells import Gru, Lstm, Rnn
from lyricgen.model.column_parameters import ORDERS
from lyricgen.model.scratch import GruScratch, LstmScratch, RnnScratch, ScratchCell


class LayerStep:
    """One layer and the states of R rows.

    Attributes:
        on_input: (G·H, I).
        bias: (G·H,), what goes with the input's share of the gates.
        state: (R, H) tensors, the hidden state first; changed in place.
        totals: (R, G·H), where the input's share is put before each step, which overwrites it.
    """

    order: ClassVar[str]  # of the gates, by their letters in `column_parameters.ORDERS`

    def __init__(self, layer: nn.Module) -> None:
        if isinstance(layer, ScratchCell):
            weights = [layer.input_weight.T, layer.hidden_weight.T, layer.bias]
            state_bias = torch.zeros_like(layer.bias)
            if isinstance(layer, GruScratch) and layer.reset_bias is not None:
                state_bias[-layer.hidden_size :] = layer.reset_bias
            weights.append(state_bias)
        else:
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            weights = [layer.get_parameter(name) for name in names]
        own = next(order for kind, order in ORDERS.items() if isinstance(layer, kind))
        places = [own.index(gate) for gate in self.order]
        ordered = (torch.cat([one.chunk(len(own))[k] for k in places]) for one in weights)
        self.on_input, self.on_state, self.bias, self.state_bias = ordered
        self.hidden_size = self.on_state.shape[1]

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state (B, H), in the first of R rows."""
        self.state = tuple(F.pad(part, (0, 0, 0, rows - len(part))) for part in state)
        self.totals = self.on_state.new_empty(rows, len(self.on_state))

    def step(self) -> None:
        """Go from the totals to the next state."""
        raise NotImplementedError


class RnnStep(LayerStep):
    """H = tanh(X W_xh + H W_hh + b), or the larger of 0 and that."""

    order = "a"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.bias += self.state_bias
        self.rectified = isinstance(layer, Rnn) and layer.nonlinearity == "relu"

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,) = self.state
        self.totals.addmm_(hidden, self.on_state.T)
        hidden.copy_(self.totals.relu_() if self.rectified else tanh_(self.totals))


class GruStep(LayerStep):
    """H = Z∘H + (1 - Z)∘H~, the reset gate R after the matrix product.

    H~ = tanh(X W_xh + b_h + R∘(H W_hh + c_h)).
    """

    order = "zrc"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        gates = 2 * self.hidden_size
        self.bias[:gates] += self.state_bias[:gates]
        self.state_bias[:gates] = 0

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state."""
        super().hold(state, rows)
        self.from_state = torch.empty_like(self.totals)

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,), gates = self.state, 2 * self.hidden_size
        torch.addmm(self.state_bias, hidden, self.on_state.T, out=self.from_state)
        self.totals[:, :gates].add_(self.from_state[:, :gates]).sigmoid_()
        update, reset, candidate = self.totals.chunk(3, dim=1)  # (R, H)
        tanh_(candidate.addcmul_(reset, self.from_state[:, gates:]))
        hidden.sub_(candidate).mul_(update).add_(candidate)


class GruBeforeStep(LayerStep):
    """H = Z∘H + (1 - Z)∘H~, the reset gate R before the matrix product.

    H~ = tanh(X W_xh + (R∘H) W_hh + b_h).
    """

    order = "zrc"

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,), gates = self.state, 2 * self.hidden_size
        self.totals[:, :gates].addmm_(hidden, self.on_state[:gates].T).sigmoid_()
        update, reset, candidate = self.totals.chunk(3, dim=1)  # (R, H)
        tanh_(candidate.addmm_(reset.mul_(hidden), self.on_state[gates:].T))
        hidden.sub_(candidate).mul_(update).add_(candidate)


class LstmStep(LayerStep):
    """C = F∘C + I∘C~ and H = O∘tanh(C)."""

    order = "ifoc"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.bias += self.state_bias

    def step(self) -> None:
        """Go from the totals to the next state."""
        hidden, memory = self.state
        self.totals.addmm_(hidden, self.on_state.T)
        self.totals[:, : 3 * self.hidden_size].sigmoid_()
        input_gate, forget_gate, output_gate, candidate = self.totals.chunk(4, dim=1)  # (R, H)
        memory.mul_(forget_gate).addcmul_(input_gate, tanh_(candidate))
        tanh_(hidden.copy_(memory)).mul_(output_gate)


def step_of(layer: nn.Module) -> LayerStep | None:
    """The step of a layer; None for one that this module does not know."""
    if isinstance(layer, GruScratch) and layer.reset_bias is None:
        return GruBeforeStep(layer)
    kinds: list[tuple[tuple[type[nn.Module], ...], type[LayerStep]]] = [
        ((Rnn, RnnScratch), RnnStep),
        ((Gru, GruScratch), GruStep),
        ((Lstm, LstmScratch), LstmStep),
    ]
    return next((step(layer) for known, step in kinds if isinstance(layer, known)), None)


def tanh_(values: Tensor) -> Tensor:
    """In place, as 2 σ(2x) - 1: torch's own takes three times as long on a CPU."""
    if values.is_cuda:
        return values.tanh_()
    return values.mul_(2).sigmoid_().mul_(2).sub_(1)
