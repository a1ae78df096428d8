"""Stopping when the monitored loss no longer falls."""

import logging
import math

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.options import EarlyStoppingOptions

log = logging.getLogger(__name__)


class EarlyStopping(Observer):
    """Ends training after checks of the monitored loss in which it has not fallen.

    It says at the end of training that it has stopped the run, and why.

    Args:
        state: of the run.
        monitor: "val/loss", checked after each validation, or "train/loss", after each epoch.
        options: the number of checks, and by how much a loss has to be lower to have fallen.
    """

    def __init__(self, state: RunState, monitor: str, options: EarlyStoppingOptions) -> None:
        self._state = state
        self._monitor = monitor
        self._patience = options.patience
        self._min_delta = options.min_delta
        self._reason: str | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._state.patience_used >= self._patience:  # the run is resumed after it has stopped
            trainer.should_stop = True
            self._reason = self._out_of_patience(int(self._state.rows[-1]["epoch"]))

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._check(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        if validated or self._monitor == "train/loss":
            self._check(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._reason is not None and trainer.is_global_zero:
            log.info("early stopping: %s", self._reason)

    def _check(self, trainer: pl.Trainer) -> None:
        state, epoch = self._state, trainer.current_epoch + 1
        loss = state.metrics[self._monitor]
        if not math.isfinite(loss):
            reason = f"{self._monitor} is {loss} after epoch {epoch}"
        elif loss + self._min_delta < state.patience_loss:
            state.patience_loss, state.patience_epoch, state.patience_used = loss, epoch, 0
            return
        else:
            state.patience_used += 1
            if state.patience_used < self._patience:
                return
            reason = self._out_of_patience(epoch)
        if not trainer.should_stop:
            trainer.should_stop = True
            self._reason = reason

    def _out_of_patience(self, epoch: int) -> str:
        state, checks = self._state, "epoch" if self._monitor == "train/loss" else "validation"
        plural = "" if self._patience == 1 else "s"
        where = f" of epoch {state.patience_epoch}" if state.patience_epoch else ""
        return (
            f"after epoch {epoch}, {self._monitor} has not fallen for {self._patience} "
            f"{checks}{plural} (callbacks.early_stopping.patience); the best is "
            f"{state.patience_loss:.4f}{where}"
        )
