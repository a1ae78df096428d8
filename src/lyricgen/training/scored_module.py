"""Base of the LightningModules: totals of nats, and evaluation.

B batch, T time steps.
"""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from typing_extensions import override

from lyricgen.data.batch import Batch
from lyricgen.models.cells.cell import State
from lyricgen.models.metrics import loss_figures
from lyricgen.models.model import Model
from lyricgen.runs.state import RunState
from lyricgen.training.ddp.collectives import summed


class NatsTotal:
    """Total nats over total characters, in float64 on the device, read once an epoch.

    Perplexity is exp(total / characters): never a mean of batch means, never a mean of
    exponentials. Where several processes train, each adds the nats of its own rows and the
    characters of the whole batch.

    Args:
        prefix: of the names of its perplexity and bits: "pseudo_" where characters are predicted
            from both sides.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.reset()

    def reset(self) -> None:
        """Start a new epoch."""
        self.nats: Tensor | None = None
        self.characters = 0

    def add(self, nats: Tensor, characters: int) -> None:
        """Add a batch.

        Args:
            nats: of its characters, or their total; any shape.
            characters: how many they are, those of other processes' rows included.
        """
        nats = nats.detach()
        if nats.device.type == "mps":  # it has no float64
            nats = nats.cpu()
        nats = nats.double().sum()
        self.nats = nats if self.nats is None else self.nats + nats
        self.characters += characters

    def figures(self, split: str) -> dict[str, float]:
        """Loss in nats per character, perplexity and bits per character; empty without text.

        The nats of all processes are summed, so each has to call it.

        Args:
            split: "train", "val" or "test", the first half of the metrics' names.
        """
        if self.nats is None or self.characters == 0:
            return {}
        return loss_figures(split, float(summed(self.nats)) / self.characters, self.prefix)


class ScoredModule(pl.LightningModule):
    """Keeps each split's total of nats, scores the held-out ones, and records the figures.

    Validation and test carry a state of their own, which belongs to a stream of characters as it
    does in training. The totals count plain nats.

    Args:
        model: the network.
        card: plain values that a checkpoint carries to say what it holds.
        state: of the run, which a checkpoint carries too, and whose metrics get the figures.
    """

    def __init__(self, model: Model, card: dict[str, Any], state: RunState) -> None:
        super().__init__()
        self.model = model
        self.card = card
        self.run_state = state
        self.totals = {split: NatsTotal(model.metric_prefix) for split in ("train", "val", "test")}
        self._evaluation_state: State | None = None

    def evaluate(self, batch: Batch, split: str) -> Tensor:
        """Score a batch that continues the one before it, and add it to a total.

        Returns:
            Nats of each character, (B, T), zero where there is only padding.
        """
        state = None if batch.starts_stream else self._evaluation_state
        nats, self._evaluation_state = self.model.score(batch, state)
        self.totals[split].add(nats, batch.num_characters)
        return nats

    def record(self, split: str) -> None:
        """Add a split's figures to the metrics."""
        self.run_state.metrics |= self.totals[split].figures(split)

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.evaluate(batch, "val")

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.evaluate(batch, "test")

    @override
    def on_train_epoch_start(self) -> None:
        self.totals["train"].reset()
        self.run_state.metrics.clear()  # so that none is taken for a figure of this epoch

    @override
    def on_validation_epoch_start(self) -> None:
        self.totals["val"].reset()

    @override
    def on_test_epoch_start(self) -> None:
        self.totals["test"].reset()

    @override
    def on_train_epoch_end(self) -> None:
        self.run_state.characters = self.totals["train"].characters
        self.record("train")

    @override
    def on_validation_epoch_end(self) -> None:
        self.record("val")

    @override
    def on_test_epoch_end(self) -> None:
        self.record("test")

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["lyricgen"] = self.card
        checkpoint["run"] = vars(self.run_state)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.run_state.restore(checkpoint)
