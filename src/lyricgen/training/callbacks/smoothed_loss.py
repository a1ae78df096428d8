"""The training loss step by step, smoothed."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lyricgen.data.batch import world_size
from lyricgen.runs.state import RunState
from lyricgen.training.ddp.collectives import summed
from lyricgen.training.lightning_hooks import Observer, ends_epoch
from lyricgen.training.options import SmoothedLossOptions

NAME = "train/smoothed_loss"
EVERY = 50  # steps after which the device is asked for their losses


class SmoothedLoss(Observer):
    """Logs L = decay · L + (1 - decay) · loss of every step, to TensorBoard and steps.csv.

    The loss is the one that is minimised, so with loss.reduction=sum it is in nats a batch. The
    epoch's last value stands among its metrics. It is for watching a run whose batches differ
    much, such as one name a step; the figures of an epoch are `train/loss` and its kin.

    Args:
        state: of the run, which keeps L.
        path: of steps.csv, to which is added; None for no such file.
        options: the weight of the past, and L before the first step.
    """

    def __init__(self, state: RunState, path: Path | None, options: SmoothedLossOptions) -> None:
        self._state = state
        self._path = path
        self._options = options
        self._losses: list[Tensor] = []  # of the steps since the last were written

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        self._losses.append(outputs["loss"].detach())
        if len(self._losses) == EVERY or ends_epoch(trainer):
            self._write(trainer)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._record(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._record(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)  # where training ends within an epoch

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._write(trainer)

    def _record(self, trainer: pl.Trainer) -> None:
        self._write(trainer)
        if self._state.smoothed_loss is not None:
            self._state.metrics[NAME] = self._state.smoothed_loss

    def _write(self, trainer: pl.Trainer) -> None:
        if not self._losses:
            return
        first = trainer.global_step - len(self._losses) + 1
        value, rows, decay = self._state.smoothed_loss, [], self._options.decay
        value = self._options.start if value is None else value
        losses = summed(torch.stack(self._losses)) / world_size()
        for step, loss in enumerate(losses.tolist(), start=first):
            value = decay * (loss if value is None else value) + (1 - decay) * loss
            rows.append(f"{step},{loss!r},{value!r}\n")
            for logger in trainer.loggers:
                logger.log_metrics({NAME: value}, step=step)
        self._state.smoothed_loss = value
        self._losses.clear()
        if self._path is not None and trainer.is_global_zero:
            new = not self._path.exists()
            with self._path.open("a", encoding="utf-8") as stream:
                stream.writelines(["step,loss,smoothed_loss\n"] if new else [])
                stream.writelines(rows)
