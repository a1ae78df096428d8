"""Base classes of the cells: a layer of torch or a layer written out, and its step in place.

B batch, R rows (one text each), T time steps, I input size, V vocabulary, H hidden size, G gates,
L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.errors import UserError
from lyricgen.models.cells.column_vectors import Step

# (L, B, H) tensors: the hidden state, and for an LSTM the cell state after it
State = tuple[Tensor, ...]


class Weights(NamedTuple):
    """Weights of G gates side by side, for row vectors: views, through which a layer is changed.

    torch's layers have two biases, one beside each matrix. The biases are added, except in the
    candidate of a GRU whose reset gate acts between them.
    """

    on_input: Tensor  # (I, G·H)
    on_state: Tensor  # (H, G·H)
    bias: Tensor  # (G·H,)
    state_bias: Tensor  # (G·H,), or of the last gates only, or empty

    @property
    def whole_state_bias(self) -> Tensor:
        """Bias beside the state's matrix, (G·H,), zero for gates without such a bias."""
        return F.pad(self.state_bias, (len(self.bias) - len(self.state_bias), 0))


class Cell(nn.Module):
    """One layer: (B, T, I) features and a state of (1, B, H) tensors -> (B, T, H), next state.

    A cell is built from its options, I and H. A state of None is zero. The first parameters are the
    input's matrix and the state's matrix.
    """

    hidden_size: int
    # a letter for each gate, in the order of the weights; names in `column_vectors` contain it
    gates: ClassVar[str]
    # titles of the gates in a plot, by their names in `column_vectors.Activations`
    titles: ClassVar[dict[str, str]] = {}
    # number of tensors in a state
    states: ClassVar[int] = 1
    # whether the cell also reads int64 character ids (B, T): an id stands for its one-hot vector,
    # V, the start of a line, for the zero vector
    takes_ids: ClassVar[bool] = False
    # whether its matrices are (inputs, outputs), for products with row vectors
    row_vectors: ClassVar[bool] = False
    # the step of the layer in place; without it, generation calls the layer, which is slower
    fast_step: "ClassVar[type[LayerStep] | None]" = None

    def set_chosen_biases(self) -> None:
        """Set the initial biases that are options of the cell, however the others are drawn."""

    def weights(self) -> Weights:
        """Views of the weights."""
        raise NotImplementedError

    def column_step(self) -> Step:
        """The equivalent step in NumPy.

        Raises:
            UserError: the cell has none.
        """
        raise UserError(f"the cell {type(self).__name__} has no step in NumPy for --gates to show")


class TorchCell(Cell):
    """A recurrent layer of torch; a subclass has the layer's class as its last base."""

    def __init__(self, options: object, input_size: int, hidden_size: int, **given: Any) -> None:
        del options
        super().__init__(input_size, hidden_size, batch_first=True, **given)

    @override
    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        given = state[0] if state is not None and len(state) == 1 else state
        output, after = super().forward(inputs, given)
        return output, after if isinstance(after, tuple) else (after,)

    @override
    def weights(self) -> Weights:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        on_input, on_state, bias, state_bias = map(self.get_parameter, names)
        return Weights(on_input.T, on_state.T, bias, state_bias)


class ScratchCell(Cell):
    """A recurrence written out, one equation a line, to read and to try variants.

    Vectors are rows: a layer is X W + b, with the weights of G gates side by side. Products with
    the inputs are computed for all steps at once, before the loop over products with the state. In
    the equations σ is the logistic function, ∘ the product of elements.
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
        """Draw a parameter from U(-1/√H, 1/√H), as torch's recurrent layers do."""
        bound = self.hidden_size**-0.5
        return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))

    def initial_state(self, inputs: Tensor, state: State | None) -> list[Tensor]:
        """State before the first step, (B, H) tensors; zero for None. Do not change it in place."""
        if state is None:
            return [self.hidden_weight.new_zeros(len(inputs), self.hidden_size)] * self.states
        return [part[0] for part in state]

    def from_inputs(self, inputs: Tensor) -> Tensor:
        """Compute X W_x + b of all steps, time first: (B, T, I), or ids (B, T) -> (T, B, G·H).

        A one-hot vector times a matrix is a row of the matrix, so an id takes its row.
        """
        if inputs.is_floating_point():
            return inputs.transpose(0, 1) @ self.input_weight + self.bias
        ids, last = inputs.T, len(self.input_weight) - 1
        rows = F.embedding(ids.clamp(max=last), self.input_weight)  # (T, B, G·H)
        is_character = (ids <= last).to(rows.dtype)[..., None]  # 0 for the start of a line
        return torch.addcmul(self.bias, is_character, rows)

    @override
    def weights(self) -> Weights:
        return Weights(self.input_weight, self.hidden_weight, self.bias, self.bias.new_empty(0))


class LayerStep(ABC):
    """One layer that reads one character of R texts at a time, without sequences and gradients.

    It computes the same as the layer, but all numbers lie in buffers that are used again. It uses
    few operations: with few rows, starting an operation takes about as long as its arithmetic.
    Build and use it under `torch.inference_mode` or `torch.no_grad`; build it anew when the weights
    have changed.

    Attributes:
        on_input: (I, G·H).
        on_state: (H, G·H).
        bias: (G·H,), to be added to the input's share of the gates.
        state: (R, H) tensors, the hidden state first; changed in place. `hold` makes it, as it
            makes `totals` and `blocks`.
        totals: (R, G·H); the caller writes the input's share before each step, and the step
            overwrites it.
        blocks: (R, H) of each gate, views of the totals, by the letters of `Cell.gates`.
    """

    def __init__(self, cell: Cell) -> None:
        weights = cell.weights()
        self.gates = cell.gates
        self.on_input, self.on_state = weights.on_input, weights.on_state
        self.bias = weights.bias + weights.whole_state_bias

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Copy a state, (B, H) tensors, into the first B of R = `rows` rows; the rest is zero."""
        self.state = tuple(zeros_with_gaps(self.on_state, rows, len(self.on_state)) for _ in state)
        for buffer, part in zip(self.state, state, strict=True):
            buffer[: len(part)] = part
        self.totals = zeros_with_gaps(self.on_state, rows, len(self.bias))
        blocks = self.totals.chunk(len(self.gates), dim=1)
        self.blocks = dict(zip(self.gates, blocks, strict=True))

    @abstractmethod
    def step(self) -> None:
        """Compute the next state from the totals; `hold` has to be called first."""


def zeros_with_gaps(like: Tensor, rows: int, width: int) -> Tensor:
    """Make zeros (rows, width) of the type and on the device of `like`, with gaps between rows.

    The gaps make elementwise functions go row by row. On rows without gaps they take 16 numbers at
    a time across rows, and the remaining numbers with other instructions, which round differently:
    a result would depend on the number of rows.
    """
    return like.new_zeros(rows, width + 16 + -width % 16)[:, :width]


def tanh(values: Tensor, out: Tensor) -> Tensor:
    """Write the hyperbolic tangent of `values` to `out`, which may be `values`; return `out`."""
    if values.is_cuda:
        return torch.tanh(values, out=out)
    # on a CPU, torch.tanh takes three times as long as this equation
    return torch.mul(values, 2, out=out).sigmoid_().mul_(2).sub_(1)
