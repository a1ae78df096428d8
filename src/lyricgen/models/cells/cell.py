"""Base classes of the cells and of their fast steps.

Shapes: B batch, R rows (one text each), T time steps, I input size, V vocabulary, H hidden size, G
gates, L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.errors import UserError
from lyricgen.models.cells.fused import FusedSteps, Recurrence
from lyricgen.models.options import KernelOptions

# (L, B, H) tensors: the hidden state, and for an LSTM the cell state after it
State = tuple[Tensor, ...]


class Weights(NamedTuple):
    """Views of a layer's weights, with G gates side by side, for products with row vectors.

    Writing to the views changes the layer. torch's layers have two biases, one for each matrix.
    They are added, except in the candidate of a GRU whose reset gate acts between them.
    """

    on_input: Tensor  # (I, G·H)
    on_state: Tensor  # (H, G·H)
    bias: Tensor  # (G·H,)
    state_bias: Tensor  # (G·H,), or of the last gates only, or empty

    @property
    def whole_state_bias(self) -> Tensor:
        """Bias of the state's matrix for all gates, (G·H,); zero for gates that have none."""
        return F.pad(self.state_bias, (len(self.bias) - len(self.state_bias), 0))


class Cell(nn.Module):
    """Base of all recurrent layers.

    A cell is built from its options, I and H. A call takes features, (B, T, I), and a state, (1, B,
    H) tensors, or None for zero. It returns the outputs, (B, T, H), and the next state. The first
    two parameters of a cell are the matrix for the input and the matrix for the state.
    """

    hidden_size: int
    # a letter for each gate, in the order of the weights; part of names in `column_vectors`
    gates: ClassVar[str]
    # titles of the gates in a plot, by their names in `column_vectors.Activations`
    titles: ClassVar[dict[str, str]] = {}
    # number of tensors in a state
    states: ClassVar[int] = 1
    # whether the cell also reads int64 ids (B, T): an id stands for its one-hot vector, and V, the
    # start of a line, for the zero vector
    takes_ids: ClassVar[bool] = False
    # whether its matrices are (inputs, outputs), for products with row vectors
    row_vectors: ClassVar[bool] = False
    # class of the fast step; without it, generation calls the layer, which is slower
    fast_step: "ClassVar[type[LayerStep] | None]" = None
    # class of the steps with kernel=fused
    fused_steps: type[FusedSteps]

    def set_chosen_biases(self) -> None:
        """Set the initial biases that are options of the cell."""

    def weights(self) -> Weights:
        """Return views of the weights."""
        raise NotImplementedError

    def column_step(self) -> Callable[..., Any]:
        """Find the `Step` of `column_vectors` that computes the same as the cell.

        Raises:
            UserError: the cell has no such step.
        """
        raise UserError(f"the cell {type(self).__name__} has no step in NumPy for --gates to show")

    def initial_state(self, inputs: Tensor, state: State | None) -> list[Tensor]:
        """Return the initial state, (B, H) tensors, zeros for None; do not change it in place."""
        if state is None:
            zeros = self.weights().on_state.new_zeros(len(inputs), self.hidden_size)
            return [zeros] * self.states
        return [part[0] for part in state]

    def run_fused(
        self, totals: Tensor, state_bias: Tensor, state: list[Tensor]
    ) -> tuple[Tensor, State]:
        """Run the recurrence as one operation, which overwrites `totals`.

        Args:
            totals: (T, B, G·H) products with the input plus bias.
            state_bias: bias of the state inside a gate, or empty.
            state: the initial state, (B, H) tensors.

        Returns:
            Outputs, (B, T, H), and the last state, (1, B, H) tensors.
        """
        weight = self.weights().on_state
        # autocast computes the products with the input in half precision, but no operation in place
        totals = totals.to(weight.dtype).contiguous()
        outputs, *after = Recurrence.apply(  # type: ignore[no-untyped-call]
            self.fused_steps, totals, weight, state_bias, *state
        )
        return outputs.transpose(0, 1), tuple(part[None] for part in after)


class TorchCell(Cell):
    """Base of cells that are layers of torch; a subclass names torch's class as its last base.

    With kernel=fused, training computes the same by `run_fused`; torch's layers are faster without
    gradients.
    """

    # gates at the end of the weights in which the state's bias is added to the product alone
    inner_biases: ClassVar[int] = 0

    def __init__(
        self, options: KernelOptions, input_size: int, hidden_size: int, **given: Any
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first=True, **given)
        self.kernel = options.kernel

    @override
    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        if self.kernel == "fused" and torch.is_grad_enabled():
            totals, state_bias = self.from_inputs(inputs)
            return self.run_fused(totals, state_bias, self.initial_state(inputs, state))
        given = state[0] if state is not None and len(state) == 1 else state
        output, after = super().forward(inputs, given)
        return output, after if isinstance(after, tuple) else (after,)

    def from_inputs(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the products with the input plus bias, (T, B, G·H), from features (B, T, I).

        Returns:
            The products, and the part of the state's bias that they leave out.
        """
        weights, inner = self.weights(), self.inner_biases * self.hidden_size
        outer_bias, inner_bias = weights.state_bias.tensor_split([len(weights.bias) - inner])
        bias = weights.bias + F.pad(outer_bias, (0, inner))
        features = inputs.transpose(0, 1).flatten(0, 1)  # (T·B, I)
        totals = torch.addmm(bias, features, weights.on_input)
        return totals.view(inputs.shape[1], inputs.shape[0], -1), inner_bias

    @override
    def weights(self) -> Weights:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        # not get_parameter, which refuses a matrix that weight drop has put in its place
        on_input, on_state, bias, state_bias = (getattr(self, name) for name in names)
        return Weights(on_input.T, on_state.T, bias, state_bias)


class ScratchCell(Cell):
    """Base of cells that are written out equation by equation, to read and to change.

    Vectors are rows, as in X W + b, and the weights of the G gates stand side by side. The products
    with the inputs of all steps are computed before the loop over the steps. In the equations σ is
    the logistic function and ∘ the product of elements.
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

    def from_inputs(self, inputs: Tensor) -> Tensor:
        """Compute X W_x + b of all steps, (T, B, G·H), from features (B, T, I) or ids (B, T).

        An id stands for a one-hot vector, whose product with a matrix is a row of the matrix. The
        id V, the start of a line, stands for the zero vector.
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
    """Base of fast steps, by which a layer reads one character of R texts at a time.

    A step computes the same as the layer, without gradients. It writes into buffers that it keeps,
    and needs few operations, which saves much time where R is small. Use it under
    `torch.inference_mode` or `torch.no_grad`. Make a new one when the weights have changed.

    Attributes:
        on_input: matrix for the input, (I, G·H).
        on_state: matrix for the state, (H, G·H).
        bias: (G·H,), for the caller to add to the product with the input.
        state: (R, H) tensors, the hidden state first; made by `hold`, changed by each step.
        totals: (R, G·H), made by `hold`. Before each step the caller writes the product with the
            input plus `bias` into it; the step overwrites it.
        blocks: views of `totals`, (R, H) for each letter of `Cell.gates`.
    """

    def __init__(self, cell: Cell) -> None:
        weights = cell.weights()
        self.gates = cell.gates
        self.on_input, self.on_state = weights.on_input, weights.on_state
        self.bias = weights.bias + weights.whole_state_bias

    def hold(self, state: Sequence[Tensor], rows: int) -> None:
        """Make buffers of R = `rows` rows; copy a state, (B, H) tensors, into the first B rows."""
        self.state = tuple(zeros_with_gaps(self.on_state, rows, len(self.on_state)) for _ in state)
        for buffer, part in zip(self.state, state, strict=True):
            buffer[: len(part)] = part
        self.totals = zeros_with_gaps(self.on_state, rows, len(self.bias))
        blocks = self.totals.chunk(len(self.gates), dim=1)
        self.blocks = dict(zip(self.gates, blocks, strict=True))

    @abstractmethod
    def step(self) -> None:
        """Compute the next state from `totals`; call `hold` before the first step."""


def zeros_with_gaps(like: Tensor, rows: int, width: int) -> Tensor:
    """Make zeros, (rows, width), with gaps between the rows in memory.

    The gaps make elementwise functions treat each row by itself. Without gaps, the number of rows
    could change how numbers are rounded. `like` gives type and device.
    """
    return like.new_zeros(rows, width + 16 + -width % 16)[:, :width]


def tanh(values: Tensor, out: Tensor) -> Tensor:
    """Write the hyperbolic tangent of `values` to `out`, which may be `values`; return `out`."""
    if values.is_cuda:
        return torch.tanh(values, out=out)
    # on a CPU, torch.tanh takes three times as long as this equation
    return torch.mul(values, 2, out=out).sigmoid_().mul_(2).sub_(1)
