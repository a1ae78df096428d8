"""The recurrences, torch's own layers, and the table of all.

A cell is one layer; the stack of them is `stack.RecurrentStack`. The ones written out
stand in `scratch.py`. B batch, T time steps, H hidden size.
"""

import torch
from torch import Tensor, nn

from lyricgen.models.cells.written_out import GruScratch, LstmScratch, RnnScratch
from lyricgen.models.options import GruOptions, LstmOptions, RnnOptions
from lyricgen.models.recurrence import Cell, State


class Rnn(nn.RNN, Cell):
    """An Elman network (Elman 1990): H = tanh(X W_xh + H W_hh + b), torch's own layer."""

    def __init__(self, options: RnnOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(
            input_size,
            hidden_size,
            nonlinearity=options.nonlinearity,
            batch_first=True,
        )

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:  # type: ignore[override]
        """Read T steps: (B, T, input), state from before or None for zero."""
        output, hidden = super().forward(inputs, None if state is None else state[0])
        return output, (hidden,)


class Gru(nn.GRU, Cell):
    """Gated recurrent units, torch's own layer: the reset gate acts after the matrix product.

    Cho et al. 2014 apply it before; see torch.nn.GRU.
    """

    def __init__(self, options: GruOptions, input_size: int, hidden_size: int) -> None:
        del options
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:  # type: ignore[override]
        """Read T steps: (B, T, input), state from before or None for zero."""
        output, hidden = super().forward(inputs, None if state is None else state[0])
        return output, (hidden,)


class Lstm(nn.LSTM, Cell):
    """Long short-term memory with forget gates (Gers et al. 2000), torch's own layer.

    A positive initial bias of the forget gate lets a new network remember (Jozefowicz et al.
    2015); torch's own is about zero.
    """

    def __init__(self, options: LstmOptions, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)
        self.forget_bias = options.forget_bias
        self.set_chosen_biases()

    def set_chosen_biases(self) -> None:
        """Set the forget gate's bias: the second quarter of torch's two biases, which add up."""
        if self.forget_bias is None:
            return
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        with torch.no_grad():
            for name, bias in self.named_parameters():
                if name.startswith("bias_"):
                    bias[forget] = self.forget_bias if name.startswith("bias_ih") else 0.0

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:  # type: ignore[override]
        """Read T steps: (B, T, input), state from before or None for zero."""
        output, (hidden, cell) = super().forward(
            inputs, None if state is None else (state[0], state[1])
        )
        return output, (hidden, cell)


CELLS: dict[str, type[Cell]] = {
    "rnn": Rnn,
    "gru": Gru,
    "lstm": Lstm,
    "rnn_scratch": RnnScratch,
    "gru_scratch": GruScratch,
    "lstm_scratch": LstmScratch,
}
