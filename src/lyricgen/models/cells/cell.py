"""Base classes of the cells: a layer of torch's or one written out, and its step in place.

B batch, R rows of texts, T time steps, I input size, V vocabulary, H hidden size, G gates, L
layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.errors import UserError
from lyricgen.models.cells.column_vectors import Step

# (L, B, H) tensors: the hidden state alone, or hidden and cell state for an LSTM
State = tuple[Tensor, ...]


class Weights(NamedTuple):
    """Weights of G gates side by side, for row vectors; writing into these views changes the layer.

    torch's layers have two biases, one beside each matrix. They add up, except in the candidate of
    a GRU whose reset gate comes between them.
    """

    on_input: Tensor  # (I, G·H)
    on_state: Tensor  # (H, G·H)
    bias: Tensor  # (G·H,)
    state_bias: Tensor  # (G·H,), or of the last gates alone, or empty

    @property
    def whole_state_bias(self) -> Tensor:
        """The bias beside the state's matrix, (G·H,), zero where the layer has none."""
        return F.pad(self.state_bias, (len(self.bias) - len(self.state_bias), 0))


class Cell(nn.Module):
    """One layer: (B, T, I) features and a state of (1, B, H) tensors -> (B, T, H), next state.

    It is built from its options, I and H, and called with the features and the state, None for
    zero. Its parameters begin with the input's matrix, then the state's.
    """

    hidden_size: int
    # a letter for each gate, in the order of the weights; the names in `column_vectors` have it
    gates: ClassVar[str]
    # titles of the gates in a picture, by the names that `column_vectors.Activations` has for them
    titles: ClassVar[dict[str, str]] = {}
    # tensors of a state
    states: ClassVar[int] = 1
    # whether int64 character ids (B, T) are read as the one-hot vectors that they stand for, and
    # V, the start of a line, as the zero vector
    takes_ids: ClassVar[bool] = False
    # whether its matrices are (inputs, outputs), to be multiplied by row vectors
    row_vectors: ClassVar[bool] = False

    def set_chosen_biases(self) -> None:
        """Set the initial biases that are options of the cell, however the others are drawn."""

    def weights(self) -> Weights:
        """Views of the weights."""
        raise NotImplementedError

    def column_step(self) -> Step:
        """The step in NumPy that computes the same."""
        raise UserError(f"the cell {type(self).__name__} has no step in NumPy for --gates to show")

    def layer_step(self) -> "LayerStep | None":
        """The step in place; without one, generation calls the layer itself: slower, but right."""
        return None


class TorchCell(Cell):
    """A recurrent layer of torch's own, which stands behind this class among the bases."""

    def __init__(self, options: object, input_size: int, hidden_size: int, **given: Any) -> None:
        del options
        super().__init__(input_size, hidden_size, batch_first=True, **given)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read T steps: (B, T, I), state from before or None for zero."""
        given = state[0] if state is not None and len(state) == 1 else state
        output, after = super().forward(inputs, given)
        return output, after if isinstance(after, tuple) else (after,)

    def weights(self) -> Weights:
        """Views of the weights."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        on_input, on_state, bias, state_bias = map(self.get_parameter, names)
        return Weights(on_input.T, on_state.T, bias, state_bias)


class ScratchCell(Cell):
    """A recurrence written out, one equation a line, for readers and for trying variants.

    Row vectors: a layer is X W + b, the weights of G gates side by side. What the inputs add to the
    gates is computed for all steps at once; only what depends on the state before waits in the
    loop. In the equations σ is the logistic function, ∘ the product of elements.
    """

    takes_ids = True
    row_vectors = True

    def __init__(self, options: object, input_size: int, hidden_size: int) -> None:
        del options
        super().__init__()
        self.hidden_size = hidden_size
        columns = len(self.gates) * hidden_size
        self.input_weight = self.draw_parameter(input_size, columns)
        self.hidden_weight = self.draw_parameter(hidden_size, columns)
        self.bias = self.draw_parameter(columns)

    def draw_parameter(self, *shape: int) -> nn.Parameter:
        """Draw a parameter as torch's recurrent layers do, from U(-1/√H, 1/√H)."""
        bound = self.hidden_size**-0.5
        return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))

    def initial_state(self, inputs: Tensor, state: State | None) -> list[Tensor]:
        """State before the first step, (B, H) tensors: the one given, or zero."""
        if state is None:
            return [self.hidden_weight.new_zeros(len(inputs), self.hidden_size)] * self.states
        return [part[0] for part in state]

    def from_inputs(self, inputs: Tensor) -> Tensor:
        """X W_x + b of all steps, time first: (B, T, I), or ids (B, T) -> (T, B, G·H).

        A one-hot vector times a matrix is a row of the matrix, so for ids rows are taken.
        """
        if inputs.is_floating_point():
            return inputs.transpose(0, 1) @ self.input_weight + self.bias
        ids, last = inputs.T, len(self.input_weight) - 1
        rows = F.embedding(ids.clamp(max=last), self.input_weight)  # (T, B, G·H)
        is_character = (ids <= last).to(rows.dtype)[..., None]  # 0 for the start of a line
        return torch.addcmul(self.bias, is_character, rows)

    def weights(self) -> Weights:
        """Views of the weights."""
        return Weights(self.input_weight, self.hidden_weight, self.bias, self.bias.new_empty(0))


class LayerStep(ABC):
    """One layer that reads a character of many texts at a time, and the states of R rows.

    It computes what the layer does, without what a sequence and a gradient need: all numbers lie in
    buffers that stay. Operations are few, since where rows are few each costs about as much as its
    numbers.

    Attributes:
        on_input: (I, G·H).
        on_state: (H, G·H).
        bias: (G·H,), what goes with the input's share of the gates.
        state: (R, H) tensors, the hidden state first; changed in place.
        totals: (R, G·H), where the input's share is put before each step, which overwrites it.
        blocks: (R, H) of each gate, parts of the totals, by the letters of `Cell.gates`.
    """

    def __init__(self, cell: Cell) -> None:
        weights = cell.weights()
        self.gates = cell.gates
        self.on_input, self.on_state = weights.on_input, weights.on_state
        self.bias = weights.bias + weights.whole_state_bias

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Go on from a state (B, H), in the first of R rows."""
        self.state = tuple(zeros_with_gaps(self.on_state, rows, len(self.on_state)) for _ in state)
        for buffer, part in zip(self.state, state, strict=True):
            buffer[: len(part)] = part
        self.totals = zeros_with_gaps(self.on_state, rows, len(self.bias))
        blocks = self.totals.chunk(len(self.gates), dim=1)
        self.blocks = dict(zip(self.gates, blocks, strict=True))

    @abstractmethod
    def step(self) -> None:
        """Go from the totals to the next state."""


def zeros_with_gaps(like: Tensor, rows: int, width: int) -> Tensor:
    """Zeros (rows, width) of a tensor's type, with gaps between the rows.

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
