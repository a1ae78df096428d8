"""Stopping when the monitored loss no longer falls, also across a resume."""

import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

log = logging.getLogger(__name__)


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's early stopping, which still knows after a resume that it has stopped the run.

    It says at the end of training that it has stopped the run, and why.
    """

    best_epoch = 0  # counted from 1
    _reason: str | None = None

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and which epoch was best."""
        return {**super().state_dict(), "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count, but keep the patience that was asked for now."""
        super().load_state_dict({**state_dict, "patience": self.patience})
        self.best_epoch = state_dict.get("best_epoch", 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again."""
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True
            self._reason = self._out_of_patience(max(self.stopped_epoch + 1, trainer.current_epoch))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check a loss that is known at the end of the epoch."""
        self._check(super().on_train_epoch_end, trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check a loss that validation has found."""
        self._check(super().on_validation_end, trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that training has stopped early, and why."""
        super().on_train_end(trainer, pl_module)
        if self._reason is not None and trainer.is_global_zero:
            log.info("early stopping: %s", self._reason)

    def _check(
        self,
        check: Callable[[pl.Trainer, pl.LightningModule], None],
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
    ) -> None:
        best, stopping = self.best_score, trainer.should_stop
        check(trainer, pl_module)
        epoch = trainer.current_epoch + 1
        if self.best_score is not best:
            self.best_epoch = epoch
        if trainer.should_stop and not stopping:
            current = float(trainer.callback_metrics[self.monitor])
            self._reason = (
                self._out_of_patience(epoch)
                if self.wait_count >= self.patience
                else f"{self.monitor} is {current} after epoch {epoch}"
            )

    def _out_of_patience(self, epoch: int) -> str:
        checks = "epoch" if self.monitor == "train/loss" else "validation"
        plural = "" if self.patience == 1 else "s"
        where = f" of epoch {self.best_epoch}" if self.best_epoch else ""
        return (
            f"after epoch {epoch}, {self.monitor} has not fallen for {self.patience} "
            f"{checks}{plural} (callbacks.early_stopping.patience); the best is "
            f"{float(self.best_score):.4f}{where}"
        )
