"""Long short-term memory (Gers et al. 2000): torch's layer, and the recurrence written out.

I, F, O = σ(X W_x + H W_h + b), C~ = tanh(X W_xc + H W_hc + b_c), C = F∘C + I∘C~ and H = O∘tanh(C).
Each gate has its own weights. A positive initial bias of the forget gate lets a new network
remember (Jozefowicz et al. 2015); torch draws this bias around zero.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.models.cells.cell import Cell, LayerStep, ScratchCell, State, TorchCell
from lyricgen.models.cells.column_vectors import Step, lstm_step
from lyricgen.models.options import LstmOptions


class LstmStep(LayerStep):
    """Fast step of an LSTM, with one sigmoid for all gates and the candidate.

    Since tanh(x) = 2 σ(2x) - 1, the candidate is 2 S - 1, where S is the sigmoid of twice its
    total. So C = F∘C + 2 I∘S - I, and H = 2 O∘σ(2C) - O.
    """

    @override
    def step(self) -> None:
        (hidden, memory), blocks = self.state, self.blocks
        self.totals.addmm_(hidden, self.on_state)
        blocks["c"].mul_(2)
        self.totals.sigmoid_()
        self.update_memory(memory, blocks)
        torch.mul(memory, 2, out=hidden).sigmoid_()
        minus = blocks["o"].neg_()
        torch.addcmul(minus, minus, hidden, value=-2, out=hidden)

    def update_memory(self, memory: Tensor, blocks: dict[str, Tensor]) -> None:
        """Compute the next cell state in place; `blocks` holds S in place of the candidate."""
        memory.mul_(blocks["f"]).addcmul_(blocks["i"], blocks["c"], value=2).sub_(blocks["i"])


class LstmCell(Cell):
    """Base of the LSTM layers."""

    fast_step = LstmStep
    titles: ClassVar[dict[str, str]] = {
        "forget": "forget gate $f$ (1 keeps the cell state)",
        "update": "update or input gate $i$ (1 lets the candidate in)",
        "candidate": r"candidate $\tilde{c}$",
        "output": "output gate $o$ (1 shows the cell state)",
    }
    states = 2

    def __init__(self, options: LstmOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(options, input_size, hidden_size)
        self.forget_bias = options.forget_bias
        self.set_chosen_biases()

    @override
    def set_chosen_biases(self) -> None:
        if self.forget_bias is not None:
            start = self.gates.index("f") * self.hidden_size
            forget = slice(start, start + self.hidden_size)
            nn.init.constant_(self.weights().bias[forget], self.forget_bias)
            nn.init.constant_(self.weights().state_bias[forget], 0.0)

    @override
    def column_step(self) -> Step:
        return lstm_step


class TorchLstm(LstmCell, TorchCell, nn.LSTM):  # type: ignore[misc]
    """torch's LSTM layer."""

    gates = "ifco"


class ScratchLstm(LstmCell, ScratchCell):
    """An LSTM written out."""

    gates = "ifoc"

    @override
    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        [hidden, memory], outputs = self.initial_state(inputs, state), []
        for from_input in self.from_inputs(inputs):
            total = torch.addmm(from_input, hidden, self.hidden_weight)  # (B, 4·H)
            gates, candidate = torch.split(total, [3 * self.hidden_size, self.hidden_size], dim=1)
            input_gate, forget_gate, output_gate = gates.sigmoid().chunk(3, dim=1)
            candidate = candidate.tanh()
            memory = forget_gate * memory + input_gate * candidate  # (B, H)
            hidden = output_gate * memory.tanh()  # (B, H)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden[None], memory[None])
