"""The language model: each character from those before it.

B batch, T time steps, V vocabulary, L layers, H hidden size.
"""

from torch import Tensor

from lyricgen.models.network import CharacterNetwork
from lyricgen.models.recurrence import State


class LanguageModel(CharacterNetwork):
    """P(next character | all before), by a recurrence from left to right."""

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            state: (L, B, H) tensors from the characters before, or None for zero.

        Returns:
            Logits (B, T, V) and the state after the last character.
        """
        hidden, state = self.recurrence(self.features(inputs), state)  # (B, T, H)
        return self.logits(hidden), state
