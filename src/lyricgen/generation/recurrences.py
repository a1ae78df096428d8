"""One step of a recurrent layer, in place, for reading one character of many texts at a time.

The layers compute what those of `model/cells.py` and `model/scratch.py` do, on the same weights,
without what a sequence and a gradient need: all numbers lie in buffers that stay. Operations are
few, since where rows are few each costs about as much as its numbers.

R rows, I input size, H hidden size, G gates.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lyricgen.models.cells.column_parameters import ORDERS
from lyricgen.models.cells.layers import Gru, Lstm, Rnn
from lyricgen.models.cells.written_out import GruScratch, LstmScratch, RnnScratch, ScratchCell


class LayerStep(ABC):
    """One layer and the states of R rows.

    Attributes:
        on_input: (I, G·H).
        on_state: (H, G·H).
        bias: (G·H,), what goes with the input's share of the gates.
        state_bias: (G·H,), what goes with the state's share, where that is not in `bias` as well.
        state: (R, H) tensors, the hidden state first; changed in place.
        totals: (R, G·H), where the input's share is put before each step, which overwrites it.
        blocks: (R, H) of each gate, parts of it, by the letters of `column_parameters.ORDERS`.
    """

    on_input: Tensor
    on_state: Tensor
    bias: Tensor
    state_bias: Tensor

    def __init__(self, layer: nn.Module) -> None:
        self.order = next(order for kind, order in ORDERS.items() if isinstance(layer, kind))
        if isinstance(layer, ScratchCell):
            self.on_input, self.on_state = layer.input_weight, layer.hidden_weight
            self.bias, self.state_bias = layer.bias, torch.zeros_like(layer.bias)
            if isinstance(layer, GruScratch) and layer.reset_bias is not None:
                self.state_bias[-layer.hidden_size :] = layer.reset_bias
        else:
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            on_input, on_state, bias, state_bias = map(layer.get_parameter, names)
            self.on_input, self.on_state = on_input.T, on_state.T
            self.bias, self.state_bias = bias, state_bias
        self.hidden_size = len(self.on_state)

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state (B, H), in the first of R rows."""
        self.state = tuple(apart(self.on_state, rows, self.hidden_size) for _ in state)
        for buffer, part in zip(self.state, state, strict=True):
            buffer[: len(part)] = part
        self.totals = apart(self.on_state, rows, len(self.bias))
        blocks = self.totals.chunk(len(self.order), dim=1)
        self.blocks = dict(zip(self.order, blocks, strict=True))

    @abstractmethod
    def step(self) -> None:
        """Go from the totals to the next state."""


class RnnStep(LayerStep):
    """H = tanh(X W_xh + H W_hh + b), or the larger of 0 and that."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.bias = self.bias + self.state_bias
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

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state."""
        super().hold(state, rows)
        gates = 2 * self.hidden_size
        self.gates = self.totals[:, :gates]
        self.from_state = apart(self.on_state, rows, len(self.bias))
        self.to_gates, self.to_candidate = self.from_state.tensor_split([gates], dim=1)

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,), candidate = self.state, self.blocks["c"]
        torch.addmm(self.state_bias, hidden, self.on_state, out=self.from_state)
        self.gates.add_(self.to_gates).sigmoid_()
        tanh(candidate.addcmul_(self.blocks["r"], self.to_candidate), out=candidate)
        hidden.sub_(candidate).mul_(self.blocks["z"]).add_(candidate)


class GruBeforeStep(LayerStep):
    """H = Z∘H + (1 - Z)∘H~, the reset gate R before the matrix product.

    H~ = tanh(X W_xh + (R∘H) W_hh + b_h).
    """

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state."""
        super().hold(state, rows)
        gates = 2 * self.hidden_size
        self.gates = self.totals[:, :gates]
        self.gates_on_state, self.candidate_on_state = self.on_state.tensor_split([gates], dim=1)

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden,), candidate = self.state, self.blocks["c"]
        self.gates.addmm_(hidden, self.gates_on_state).sigmoid_()
        candidate.addmm_(self.blocks["r"].mul_(hidden), self.candidate_on_state)
        tanh(candidate, out=candidate)
        hidden.sub_(candidate).mul_(self.blocks["z"]).add_(candidate)


class LstmStep(LayerStep):
    """C = F∘C + I∘C~ and H = O∘tanh(C).

    By tanh(x) = 2 σ(2x) - 1 all gates and the candidate go through one sigmoid; where that of the
    candidate is S, C = F∘C + 2 I∘S - I, and H = 2 O∘σ(2C) - O.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.bias = self.bias + self.state_bias

    def step(self) -> None:
        """Go from the totals to the next state."""
        (hidden, memory), blocks = self.state, self.blocks
        self.totals.addmm_(hidden, self.on_state)
        blocks["c"].mul_(2)
        self.totals.sigmoid_()
        memory.mul_(blocks["f"]).addcmul_(blocks["i"], blocks["c"], value=2).sub_(blocks["i"])
        torch.mul(memory, 2, out=hidden).sigmoid_()
        minus = blocks["o"].neg_()
        torch.addcmul(minus, minus, hidden, value=-2, out=hidden)


def step_of(layer: nn.Module) -> LayerStep | None:
    """The step of a layer; None for one that this module does not know, or of a derived class."""
    if type(layer) is GruScratch and layer.reset_bias is None:
        return GruBeforeStep(layer)
    step = STEPS.get(type(layer))
    return None if step is None else step(layer)


STEPS: dict[type[nn.Module], Callable[[nn.Module], LayerStep]] = {
    Rnn: RnnStep,
    RnnScratch: RnnStep,
    Gru: GruStep,
    GruScratch: GruStep,
    Lstm: LstmStep,
    LstmScratch: LstmStep,
}


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
