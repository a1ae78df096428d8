"""The LightningModule of a model that fills gaps.

B batch, T time steps, K characters known after them, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from lyricgen.data.datamodule import IGNORED, Batch
from lyricgen.metrics import NatsTotal
from lyricgen.model.module import LanguageModelModule
from lyricgen.model.recurrence import State


class FillModule(LanguageModelModule):
    """Trains a model to predict each character of a window from all others; see the base class.

    What it reaches is called pseudo-perplexity everywhere, since it has seen both sides of each
    character and compares with no model that reads from left to right.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.totals = {part: NatsTotal("pseudo_") for part in self.totals}

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
