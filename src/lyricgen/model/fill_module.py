"""The LightningModule of a model that fills gaps.

B batch, T time steps, K characters known after them, V vocabulary.
"""

import torch
from torch import Tensor

from lyricgen.data.datamodule import IGNORED, Batch
from lyricgen.model.recurrence import State
from lyricgen.model.recurrent_module import RecurrentModule


class FillModule(RecurrentModule):
    """Trains a model to predict each character of a window from all others; see the base class.

    What it reaches is called pseudo-perplexity everywhere, since it has seen both sides of each
    character and compares with no model that reads from left to right.
    """

    figure_prefix = "pseudo_"

    def predict(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        """Logits of a batch's targets, (B, T, V), and the left stack's next state."""
        steps = batch.targets.shape[1]
        known = [batch.inputs[:, :1], batch.targets]
        lengths = (batch.targets != IGNORED).sum(dim=1)  # (B,)
        if batch.following is not None:
            known.append(batch.following)
            after = (batch.following != IGNORED).sum(dim=1)
            lengths = torch.where(lengths == steps, lengths + after, lengths)
        characters = torch.cat(known, dim=1)  # (B, 1 + T + K)
        characters = characters.masked_fill(characters == IGNORED, 0)  # padding: never read
        logits, state = self.model(characters, lengths, steps, state)
        return logits, state
