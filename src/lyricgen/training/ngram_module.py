"""The LightningModule of n-grams: trained in one step, by counting.

B batch, T time steps, N characters in the training split.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import optim
from typing_extensions import override

from lyricgen.data.batch import Batch
from lyricgen.models.cells.cell import State
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.runs.state import RunState
from lyricgen.training.scored_module import ScoredModule

SCORED = 2**20  # characters of the training split that are scored at once


class NgramModule(ScoredModule):
    """Counts the n-grams of the training split in one step, then scores that split with them.

    Args:
        model: changed in place.
        card: plain values that a checkpoint carries to say what it holds.
        state: of the run.
    """

    def __init__(self, model: NgramLanguageModel, card: dict[str, Any], state: RunState) -> None:
        super().__init__(model, card, state)
        self.model: NgramLanguageModel = model
        self.automatic_optimization = False  # there is no gradient

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Count and score a text, (1, N - 1) inputs with the targets after them."""
        text = torch.cat([batch.inputs[:, :1], batch.targets], dim=1)  # (1, N)
        self.optimizers().step(lambda: self.model.count(text[0]))  # type: ignore[union-attr]
        state: State | None = None
        pairs = zip(
            torch.split(batch.inputs, SCORED, dim=1),
            torch.split(batch.targets, SCORED, dim=1),
            strict=True,
        )
        for inputs, targets in pairs:
            nats, state = self.model.nats(inputs, targets, state)
            predicted = targets < self.model.vocabulary_size  # no start of a line
            self.totals["train"].add(nats[predicted], int(predicted.sum()))

    @override
    def configure_optimizers(self) -> optim.Optimizer:
        return Closure()


class Closure(optim.Optimizer):
    """Does nothing but what it is given to do; Lightning counts its steps as any optimizer's."""

    def __init__(self) -> None:
        super().__init__([torch.zeros(0)], {})  # torch insists on a parameter

    @override
    def step(self, closure: Callable[[], Any]) -> None:  # type: ignore[override]
        closure()
