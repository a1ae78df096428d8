"""The epoch's losses, perplexities and bits per character."""

import math
from typing import Any

import pytorch_lightning as pl

from lyricgen.training.callbacks.record import record
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.scored_module import ScoredModule


class Perplexity(pl.Callback):
    """Reads each part's total of nats at its end: loss, perplexity, bits per character."""

    def __init__(self) -> None:
        self._restored: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the epoch's figures so far."""
        del pl_module
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint["metrics"] = metrics

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take them up once Lightning has cleared its own."""
        del trainer, pl_module
        self._restored = checkpoint["metrics"]

    def on_fit_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Put them back."""
        record(trainer, self._restored)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Forget the figures of the epoch before, so that none is taken for this one's."""
        trainer.callback_metrics.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the training part."""
        self._record(trainer, pl_module, "train")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the validation part."""
        self._record(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the test part."""
        self._record(trainer, pl_module, "test")

    @staticmethod
    def _record(trainer: pl.Trainer, module: pl.LightningModule, part: str) -> None:
        if not isinstance(module, ScoredModule):
            return
        figures = module.totals[part].figures(part)
        loss = figures.get(f"{part}/loss", 0.0)
        if trainer.state.fn != "fit" or math.isfinite(loss):
            record(trainer, figures)
        elif isinstance(module, RecurrentModule):
            raise module.diverged(f"{part}/loss is {loss} at step {trainer.global_step}")
