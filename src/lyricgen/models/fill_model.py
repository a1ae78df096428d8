"""The model that fills gaps: each character from those on both sides of it.

B batch, T characters to predict, K characters known after them, V vocabulary, H hidden size.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.models.cells.cell import State
from lyricgen.models.network import CharacterNetwork, RecurrentStack


class BothSides(nn.Module):
    """Two stacks, one from left to right and one from right to left, and a layer that joins them.

    The layers of one never read those of the other. In an ordinary bidirectional network of two
    or more layers (Schuster and Paliwal 1997) they do, and with the second layer's input at t + 1
    comes, through the first layer from the left, the character at t that is to be predicted.
    """

    def __init__(self, stack: Callable[[], RecurrentStack], hidden_size: int) -> None:
        super().__init__()
        self.left = stack()
        self.right = stack()
        self.join = nn.Linear(2 * hidden_size, hidden_size)


class FillModel(CharacterNetwork):
    """P(x_t | all characters before and after), from the left state at t-1 and the right at t+1.

    It is no model of a text's probability: the product over t of what it predicts is the
    pseudo-likelihood (Besag 1975), exp of its mean negative logarithm the pseudo-perplexity.
    """

    def build_recurrence(self, stack: Callable[[], RecurrentStack]) -> BothSides:
        """One stack for each side."""
        return BothSides(stack, self.architecture.hidden_size)

    def forward(
        self, characters: Tensor, lengths: Tensor, steps: int, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Predict characters 1 … T of each row, each as if it were not there.

        Args:
            characters: (B, 1 + T + K) int64 ids; the first may be V, the start of a line.
            lengths: (B,) int64, where each row's last known character stands; what comes after is
                padding.
            steps: T.
            state: (L, B, H) tensors of the left stack from the characters before, or None.

        Returns:
            Logits (B, T, V), and the left stack's state after character T - 1.
        """
        before, state = self.recurrence.left(self.features(characters[:, :steps]), state)
        hidden = torch.cat([before, self._after(characters, lengths, steps)], dim=-1)  # (B, T, 2H)
        return self.logits(torch.tanh(self.recurrence.join(hidden))), state

    def _after(self, characters: Tensor, lengths: Tensor, steps: int) -> Tensor:
        """State of the right stack after reading all characters behind each of 1 … T, (B, T, H)."""
        nothing = len(characters), 1, self.architecture.hidden_size
        after = self.output.bias.new_zeros(nothing)  # before it has read anything
        places = torch.arange(characters.shape[1], device=characters.device)
        backwards = lengths[:, None] - places[: max(0, characters.shape[1] - 2)]  # to character 2
        if backwards.shape[1]:
            read = self.features(characters.gather(1, backwards.clamp(min=0)))
            states, _ = self.recurrence.right(read, None)  # (B, T + K - 1, H)
            after = F.pad(states, (0, 0, 1, 0))
        number_read = (lengths[:, None] - places[1 : steps + 1]).clamp(min=0)  # (B, T)
        return after.gather(1, number_read[..., None].expand(-1, -1, after.shape[-1]))
