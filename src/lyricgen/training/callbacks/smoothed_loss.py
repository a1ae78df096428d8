"""The training loss step by step, smoothed."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lyricgen.data.batch import world_size
from lyricgen.training.callbacks.record import record
from lyricgen.training.ddp.collectives import summed

NAME = "train/smoothed_loss"
EVERY = 50  # steps after which the device is asked for their losses


class SmoothedLoss(pl.Callback):
    """Logs L = decay · L + (1 - decay) · loss of every step, to TensorBoard and steps.csv.

    The loss is the one that is minimised, so with loss.reduction=sum it is in nats a batch. The
    epoch's last value stands among its metrics. It is for watching a run whose batches differ
    much, such as one name a step; the figures of an epoch are `train/loss` and its kin.

    Args:
        path: of steps.csv, to which is added; None for no such file.
        decay: weight of the past.
        start: L before the first step; None for the first loss.
    """

    def __init__(self, path: Path | None, *, decay: float, start: float | None) -> None:
        self.path = path
        self.decay = decay
        self.value = start
        self._losses: list[Tensor] = []  # of the steps since the last were written

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the loss; write from time to time."""
        del pl_module
        self._losses.append(outputs["loss"].detach())
        if len(self._losses) == EVERY or trainer.is_last_batch:
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average among the metrics of a validation within the epoch."""
        del pl_module
        if trainer.state.fn == "fit":
            self._record(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average among the epoch's metrics."""
        del pl_module
        self._record(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is left where training ends within an epoch."""
        del pl_module
        self._write(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write what is not yet (`state_dict` has no Trainer to do it with); keep the average."""
        del pl_module
        self._write(trainer)
        checkpoint["smoothed_loss"] = self.value

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with it."""
        del trainer, pl_module
        self.value = checkpoint.get("smoothed_loss", self.value)

    def _record(self, trainer: pl.Trainer) -> None:
        self._write(trainer)
        if self.value is not None:
            record(trainer, {NAME: self.value})

    def _write(self, trainer: pl.Trainer) -> None:
        if not self._losses:
            return
        first = trainer.global_step - len(self._losses) + 1
        rows = []
        losses = summed(torch.stack(self._losses)) / world_size()
        for step, loss in enumerate(losses.tolist(), start=first):
            past = loss if self.value is None else self.value
            self.value = self.decay * past + (1 - self.decay) * loss
            rows.append(f"{step},{loss!r},{self.value!r}\n")
            for logger in trainer.loggers:
                logger.log_metrics({NAME: self.value}, step=step)
        self._losses.clear()
        if self.path is not None and trainer.is_global_zero:
            new = not self.path.exists()
            with self.path.open("a", encoding="utf-8") as stream:
                stream.writelines(["step,loss,smoothed_loss\n"] if new else [])
                stream.writelines(rows)
