"""LSTM with coupled gates: what the cell forgets makes room for the candidate.

F, O = σ(X W_x + H W_h + b), C~ = tanh(X W_xc + H W_hc + b_c), C = F∘C + (1 - F)∘C~ and
H = O∘tanh(C): an LSTM whose input gate is 1 - F (Greff et al. 2017, variant CIFG). It has three
quarters of an LSTM's weights.

Shapes: T time steps, B batch, H hidden size.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lyricgen.models.cells.cell import ScratchCell, State
from lyricgen.models.cells.column_vectors import Step, coupled_lstm_step
from lyricgen.models.cells.fused import Blocks
from lyricgen.models.cells.lstm import FusedLstm, LstmCell, LstmStep
from lyricgen.models.options import LstmOptions


class CoupledLstmStep(LstmStep):
    """Fast step of an LSTM with coupled gates."""

    @override
    def update_memory(self, memory: Tensor, blocks: dict[str, Tensor]) -> None:
        torch.lerp(blocks["c"].mul_(2).sub_(1), memory, blocks["f"], out=memory)


class FusedCoupledLstm(FusedLstm):
    """Steps of an LSTM with coupled gates."""

    letters = "foc"
    on_memory = slice(None, None, 2)

    @override
    def update_memory(self, gates: Blocks, new: Tensor, memory: Sequence[Tensor]) -> None:
        torch.lerp(new, memory[0], gates["f"], out=memory[1])

    @override
    def differentiate_memory(self, of: Blocks, memory: Tensor) -> None:
        of["f"].mul_(memory - self.new)
        of["c"].mul_(1 - self.gates["f"])


class CoupledLstm(LstmCell, ScratchCell):
    """An LSTM with coupled gates.

    With kernel=fused the recurrence is one operation; with kernel=torch it is written out.
    """

    fast_step = CoupledLstmStep
    fused_steps = FusedCoupledLstm
    gates = "foc"
    titles: ClassVar[dict[str, str]] = {
        "forget": "forget gate $f$ (1 keeps the cell state, 0 lets the candidate in)",
        **{name: LstmCell.titles[name] for name in ("candidate", "output")},
    }

    def __init__(self, options: LstmOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(options, input_size, hidden_size)
        self.kernel = options.kernel

    @override
    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        totals, start = self.from_inputs(inputs), self.initial_state(inputs, state)
        if self.kernel == "fused":
            return self.run_fused(totals, self.bias.new_empty(0), start)
        [hidden, memory], outputs = start, []
        for from_input in totals:
            total = torch.addmm(from_input, hidden, self.hidden_weight)  # (B, 3·H)
            gates, candidate = torch.split(total, [2 * self.hidden_size, self.hidden_size], dim=1)
            forget_gate, output_gate = gates.sigmoid().chunk(2, dim=1)
            memory = forget_gate * memory + (1 - forget_gate) * candidate.tanh()  # (B, H)
            hidden = output_gate * memory.tanh()  # (B, H)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None], memory[None])

    @override
    def column_step(self) -> Step:
        return coupled_lstm_step
