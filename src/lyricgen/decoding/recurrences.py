"""One step of a recurrent layer, in place, for reading one character of many texts at a time.

The layers compute what those of `model/cells.py` and `model/scratch.py` do, without what a sequence
and a gradient need: all numbers lie in buffers that stay. The gates that go through a sigmoid come
first among the G blocks of columns.

R rows, I input size, H hidden size, G gates.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lyricgen.model.cells import Gru, Lstm, Rnn
from lyricgen.model.column_parameters import ORDERS
from lyricgen.model.scratch import GruScratch, LstmScratch, RnnScratch, ScratchCell


class LayerStep:
    """One layer and the states of R rows.

    Attributes:
        on_input: (I, G·H).
        on_state: (H, G·H).
        bias: (G·H,), what goes with the input's share of the gates.
        state: (R, H) tensors, the hidden state first; changed in place.
        totals: (R, G·H), where the input's share is put before each step, which overwrites it.
        gates: (R, (G-1)·H), the part of it that goes through a sigmoid.
        blocks: G tensors (R, H), all parts of it.
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
        ordered = [torch.cat([one.chunk(len(own))[k] for k in places]) for one in weights]
        # matrix products with few rows are fastest where each column's numbers follow each other
        self.on_input, self.on_state = ordered[0].T, ordered[1].T
        self.bias, self.state_bias = ordered[2:]
        self.hidden_size = len(self.on_state)

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state (B, H), in the first of R rows."""
        self.state = tuple(apart(self.on_state, rows, self.hidden_size) for _ in state)
        for buffer, part in zip(self.state, state, strict=True):
            buffer[: len(part)] = part
        self.totals = apart(self.on_state, rows, len(self.bias))
        self.gates = self.totals[:, : -self.hidden_size]
        self.blocks = self.totals.chunk(len(self.order), dim=1)

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
        self.totals.addmm_(hidden, self.on_state)
        if self.rectified:
            torch.clamp(self.totals, min=0, out=hidden)
        else:
            tanh(self.totals, out=hidden)


class GruStep(LayerStep):
    """H = Z∘H + (1 - Z)∘H~, the reset gate R after the matrix product.

    H~ = tanh(X W_xh + b_h + R∘(H W_hh + c_h)).
    """

    order = "zrc"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.bias[: -self.hidden_size] += self.state_bias[: -self.hidden_size]
        self.state_bias[: -self.hidden_size] = 0

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state."""
        super().hold(state, rows)
        self.from_state = apart(self.on_state, rows, len(self.bias))
        self.from_state_parts = self.from_state.tensor_split([2 * self.hidden_size], dim=1)

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,), (update, reset, candidate) = self.state, self.blocks
        to_gates, to_candidate = self.from_state_parts
        torch.addmm(self.state_bias, hidden, self.on_state, out=self.from_state)
        self.gates.add_(to_gates).sigmoid_()
        tanh(candidate.addcmul_(reset, to_candidate), out=candidate)
        hidden.sub_(candidate).mul_(update).add_(candidate)


class GruBeforeStep(LayerStep):
    """H = Z∘H + (1 - Z)∘H~, the reset gate R before the matrix product.

    H~ = tanh(X W_xh + (R∘H) W_hh + b_h).
    """

    order = "zrc"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.to_gates, self.to_candidate = self.on_state.tensor_split([2 * self.hidden_size], dim=1)

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,), (update, reset, candidate) = self.state, self.blocks
        self.gates.addmm_(hidden, self.to_gates).sigmoid_()
        tanh(candidate.addmm_(reset.mul_(hidden), self.to_candidate), out=candidate)
        hidden.sub_(candidate).mul_(update).add_(candidate)


class LstmStep(LayerStep):
    """C = F∘C + I∘C~ and H = O∘tanh(C)."""

    order = "ifoc"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.bias += self.state_bias

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden, memory), (input_gate, forget_gate, output_gate, candidate) = (
            self.state,
            self.blocks,
        )
        self.totals.addmm_(hidden, self.on_state)
        self.gates.sigmoid_()
        memory.mul_(forget_gate).addcmul_(input_gate, tanh(candidate, out=candidate))
        tanh(memory, out=hidden).mul_(output_gate)


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


def apart(like: Tensor, rows: int, width: int) -> Tensor:
    """Zeros (rows, width) of a type, with gaps between the rows.

    A function of all numbers then goes row by row. Where the rows follow each other it takes 16
    numbers at a time, whatever rows they are of, and what is left over by other instructions, which
    round otherwise: a result would depend on the number of rows.
    """
    return like.new_zeros(rows, width + 16 + -width % 16)[:, :width]


def tanh(values: Tensor, out: Tensor) -> Tensor:
    """The hyperbolic tangent; `out` may be `values` themselves."""
    if values.is_cuda:
        return torch.tanh(values, out=out)
    # torch's own takes three times as long as this equation on a CPU
    return torch.mul(values, 2, out=out).sigmoid_().mul_(2).sub_(1)
