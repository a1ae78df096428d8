"""Observers that end a run early: early stopping, and pruning by a search."""

import logging
import math
from dataclasses import dataclass
from typing import Protocol

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.runs.state import RunState
from lyricgen.runs.summary import perplexity_name
from lyricgen.training.ddp.group import gather_from_processes
from lyricgen.training.lightning_hooks import Observer, epoch_number
from lyricgen.training.observer_options import EarlyStoppingOptions

log = logging.getLogger(__name__)


@dataclass(eq=False)
class EarlyStopping(Observer):
    """Ends training if the monitored loss stops falling or is not finite; logs the reason."""

    state: RunState
    monitor: str  # "val/loss", checked after each validation, or "train/loss", after each epoch
    options: EarlyStoppingOptions
    _reason: str | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.state.patience_used >= self.options.patience:  # the resumed run had stopped
            trainer.should_stop = True
            self._reason = self._out_of_patience(int(self.state.rows[-1]["epoch"]))

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._check(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        if validated or self.monitor == "train/loss":
            self._check(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._reason is not None and trainer.is_global_zero:
            log.info("early stopping: %s", self._reason)

    def _check(self, trainer: pl.Trainer) -> None:
        state, epoch = self.state, epoch_number(trainer)
        loss = state.metrics[self.monitor]
        if not math.isfinite(loss):
            reason = f"{self.monitor} is {loss} after epoch {epoch}"
        elif loss + self.options.min_delta < state.patience_loss:
            state.patience_loss, state.patience_epoch, state.patience_used = loss, epoch, 0
            return
        else:
            state.patience_used += 1
            if state.patience_used < self.options.patience:
                return
            reason = self._out_of_patience(epoch)
        if not trainer.should_stop:
            trainer.should_stop = True
            self._reason = reason

    def _out_of_patience(self, epoch: int) -> str:
        state, patience = self.state, self.options.patience
        checks = "epoch" if self.monitor == "train/loss" else "validation"
        where = f" of epoch {state.patience_epoch}" if state.patience_epoch else ""
        return (
            f"after epoch {epoch}, {self.monitor} has not fallen for {patience} "
            f"{checks}{'s' * (patience > 1)} (callbacks.early_stopping.patience); the best is "
            f"{state.patience_loss:.4f}{where}"
        )


class Trial(Protocol):
    """Connection of a run to its search."""

    def report(self, epoch: int, value: float) -> None:
        """Record the perplexity of an epoch; epochs count from 1."""

    def should_stop(self) -> bool:
        """Whether the search prunes the run."""


class NoTrial:
    """Trial of a rank above 0: only rank 0 is connected to the search."""

    def report(self, epoch: int, value: float) -> None:
        """Do nothing."""

    def should_stop(self) -> bool:
        """Return False: rank 0 decides."""
        return False


@dataclass(eq=False)
class Pruning(Observer):
    """Reports the perplexity of each epoch to the search, and ends the run if the search prunes it.

    An epoch without a perplexity of `split` is not reported. This observer comes after early
    stopping, since a stopped run is not pruned, and before `Checkpoints`, which saves the decision.
    """

    state: RunState
    trial: Trial
    split: str  # "val" or "train", whose perplexity the search compares

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.state.pruned is not None:  # the resumed run had been pruned
            trainer.should_stop = True

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        if trainer.should_stop:  # early stopping ends the epoch here
            self._report(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._report(trainer)

    def _report(self, trainer: pl.Trainer) -> None:
        metrics = self.state.metrics
        name = f"{self.split}/{perplexity_name(metrics)}"
        if name not in metrics:
            return  # an epoch without validation
        epoch = trainer.current_epoch + 1
        self.trial.report(epoch, metrics[name])
        last = trainer.should_stop or epoch == trainer.max_epochs
        if gather_from_processes(not last and self.trial.should_stop())[0]:
            self.state.pruned = (
                f"pruned at epoch {epoch}: its best {name} so far is above the median of the "
                "finished trials there"
            )
            trainer.should_stop = True
