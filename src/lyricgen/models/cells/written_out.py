"""The recurrences written out, one equation a line, for readers and for trying variants.

Same interface as torch's own layers in `cells.py`. Row vectors: a layer is X W + b, the weights of
G gates side by side, G·H columns. What the inputs add to the gates is computed for all steps at
once; only what depends on the state before waits in the loop. σ is the logistic function, ∘ the
product of elements.

B batch, T time steps, I input size, H hidden size, G gates.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.models.options import GruScratchOptions, LstmScratchOptions, RnnScratchOptions
from lyricgen.models.recurrence import Cell, State


class ScratchCell(Cell):
    """The weights of G gates, and what the inputs add to them."""

    gates: ClassVar[int]
    takes_ids = True
    row_vectors = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.input_weight = nn.Parameter(torch.empty(input_size, self.gates * hidden_size))
        self.hidden_weight = nn.Parameter(torch.empty(hidden_size, self.gates * hidden_size))
        self.bias = nn.Parameter(torch.empty(self.gates * hidden_size))

    def reset_parameters(self) -> None:
        """Draw all weights as torch's recurrent layers do, from U(-1/√H, 1/√H)."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(self.hidden_size**-0.5), self.hidden_size**-0.5)
        self.set_chosen_biases()

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

    def zeros(self, inputs: Tensor) -> Tensor:
        """Initial state, (1, B, H)."""
        return self.hidden_weight.new_zeros(1, len(inputs), self.hidden_size)


class RnnScratch(ScratchCell):
    """An Elman network (Elman 1990): H = tanh(X W_x + H W_h + b)."""

    gates = 1

    def __init__(self, options: RnnScratchOptions, input_size: int, hidden_size: int) -> None:
        del options
        super().__init__(input_size, hidden_size)
        self.reset_parameters()

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read T steps: (B, T, I) or ids (B, T), state from before or None for zero."""
        (before,) = state or (self.zeros(inputs),)
        hidden, outputs = before[0], []
        for from_input in self.from_inputs(inputs):
            hidden = torch.addmm(from_input, hidden, self.hidden_weight).tanh()  # (B, H)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None],)


class GruScratch(ScratchCell):
    """Gated recurrent units (Cho et al. 2014), their weights in the order Z, R, H~.

    Z = σ(X W_xz + H W_hz + b_z), R = σ(X W_xr + H W_hr + b_r), H = Z∘H + (1 - Z)∘H~, where the
    update gate Z keeps and the reset gate R forgets. They differ in the candidate:

    - reset before the matrix product, as in the paper: H~ = tanh(X W_xh + (R∘H) W_hh + b_h);
    - reset after it, as torch and cuDNN have it: H~ = tanh(X W_xh + b_h + R∘(H W_hh + c_h)), with
      one more bias. All products with H are then independent of R.
    """

    gates = 3

    def __init__(self, options: GruScratchOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        after = options.reset == "after"
        self.reset_bias = nn.Parameter(torch.empty(hidden_size)) if after else None
        self.reset_parameters()

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read T steps: (B, T, I) or ids (B, T), state from before or None for zero."""
        (before,) = state or (self.zeros(inputs),)
        hidden, outputs = before[0], []
        # split here and not in the loop, where each slice would cost a gradient of full size
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


class LstmScratch(ScratchCell):
    """Long short-term memory with forget gates (Gers et al. 2000), in the order I, F, O, C~.

    I, F, O = σ(X W_x + H W_h + b), C~ = tanh(X W_xc + H W_hc + b_c), C = F∘C + I∘C~ and
    H = O∘tanh(C), each gate with weights of its own.
    """

    gates = 4

    def __init__(self, options: LstmScratchOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.forget_bias = options.forget_bias
        self.reset_parameters()

    def set_chosen_biases(self) -> None:
        """Set the forget gate's bias: the second quarter."""
        if self.forget_bias is not None:
            nn.init.constant_(self.bias[self.hidden_size : 2 * self.hidden_size], self.forget_bias)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read T steps: (B, T, I) or ids (B, T), state from before or None for zero."""
        before = state or (self.zeros(inputs), self.zeros(inputs))
        hidden, memory = before[0][0], before[1][0]
        outputs = []
        for from_input in self.from_inputs(inputs):
            total = torch.addmm(from_input, hidden, self.hidden_weight)  # (B, 4·H)
            gates, candidate = torch.split(total, [3 * self.hidden_size, self.hidden_size], dim=1)
            input_gate, forget_gate, output_gate = gates.sigmoid().chunk(3, dim=1)
            candidate = candidate.tanh()
            memory = forget_gate * memory + input_gate * candidate  # (B, H)
            hidden = output_gate * memory.tanh()  # (B, H)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None], memory[None])
