"""Long short-term memory (Gers et al. 2000): torch's layer, and the recurrence written out.

I, F, O = σ(X W_x + H W_h + b), C~ = tanh(X W_xc + H W_hc + b_c), C = F∘C + I∘C~ and H = O∘tanh(C).
Each gate has its own weights. A positive initial bias of the forget gate lets a new network
remember (Jozefowicz et al. 2015); torch draws this bias around zero.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.models.cells.cell import Cell, LayerStep, ScratchCell, State, TorchCell
from lyricgen.models.cells.column_vectors import Step, lstm_step
from lyricgen.models.cells.fused import Blocks, FusedSteps
from lyricgen.models.options import LstmOptions, LstmScratchOptions


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


class FusedLstm(FusedSteps):
    """Steps of an LSTM."""

    letters = "ifco"
    candidate = "c"
    on_memory = slice(3)  # gates that act on the cell state

    @override
    def run(self) -> None:
        # halves of the candidate and of tanh(C)
        self.new, self.shown = self.totals.new_empty(2, *self.halves[0][1:].shape)
        hidden, memory = (half.unbind() for half in self.halves)
        new, shown = self.new.unbind(), self.shown.unbind()
        gates = {letter: gate.unbind() for letter, gate in self.gates.items()}
        for t, total in enumerate(self.totals.unbind()):
            total.addmm_(hidden[t], self.scaled).sigmoid_()
            torch.sub(gates["c"][t], 0.5, out=new[t])
            self.update_memory({x: gate[t] for x, gate in gates.items()}, new[t], memory[t : t + 2])
            torch.mul(memory[t + 1], 4, out=shown[t]).sigmoid_().sub_(0.5)
            torch.mul(gates["o"][t], shown[t], out=hidden[t + 1])

    def update_memory(self, gates: Blocks, new: Tensor, memory: Sequence[Tensor]) -> None:
        """Compute the half of a cell state, the second of `memory`, from the one before it."""
        torch.mul(memory[0], gates["f"], out=memory[1]).addcmul_(gates["i"], new)

    @override
    def differentiate(self) -> Blocks:
        of, output = super().differentiate(), self.gates["o"]
        self.differentiate_memory(of, self.halves[1][:-1])
        of["o"].mul_(self.shown)
        of["c"].mul_(2)
        # factors of the gradient of H in that of C
        self.through = (self.shown * self.shown).mul_(-4).add_(1).mul_(output)
        return of

    def differentiate_memory(self, of: Blocks, memory: Tensor) -> None:
        """Multiply the factors of the gates that act on the cell state, but for 2 of the candidate.

        Args:
            of: factors of all steps.
            memory: halves of the cell states before the steps, (T, B, H).
        """
        of["i"].mul_(self.new)
        of["f"].mul_(memory)
        of["c"].mul_(self.gates["i"])

    @override
    def step_back(self, t: int, twice: list[Tensor]) -> None:
        of_hidden, of_memory = twice
        of_memory.addcmul_(of_hidden, self.through[t])
        of_total = self.of_totals[t]
        blocks = of_total.view(len(of_total), len(self.letters), -1)
        blocks[:, self.letters.index("o")].mul_(of_hidden)
        blocks[:, self.on_memory].mul_(of_memory[:, None])
        of_memory.mul_(self.gates["f"][t])
        of_hidden.addmm_(of_total, self.weight.T, beta=0, alpha=2)


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

    def __init__(
        self, options: LstmOptions | LstmScratchOptions, input_size: int, hidden_size: int
    ) -> None:
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
    fused_steps = FusedLstm


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
