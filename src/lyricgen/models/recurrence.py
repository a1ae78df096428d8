"""Types of every recurrence: its state and its call.

B batch, T time steps, I input size, V vocabulary, H hidden size, L layers.
"""

from typing import ClassVar

from torch import Tensor, nn

# (L, B, H) tensors: the hidden state alone, or hidden and cell state for an LSTM
State = tuple[Tensor, ...]


class Cell(nn.Module):
    """One layer: (B, T, I) features and a state of (1, B, H) tensors -> (B, T, H), next state.

    It is built from its options, I and H, and called with the features and the state, None for
    zero.
    """

    # whether int64 character ids (B, T) are read as the one-hot vectors that they stand for, and
    # V, the start of a line, as the zero vector
    takes_ids: ClassVar[bool] = False
    # whether its matrices are (inputs, outputs), to be multiplied by row vectors
    row_vectors: ClassVar[bool] = False

    def set_chosen_biases(self) -> None:
        """Set the initial biases that are options of the cell, however the others are drawn."""
