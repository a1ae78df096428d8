"""Trials of a search that are given up between epochs."""

from typing import Any, Protocol

import pytorch_lightning as pl

from lyricgen.models.metrics import perplexity_name
from lyricgen.training.ddp.collectives import gathered


class Trial(Protocol):
    """Messages between a run and its search."""

    def report(self, epoch: int, value: float) -> None:
        """Note the perplexity of an epoch, counted from 1."""

    def should_stop(self) -> bool:
        """Whether the run is worse than others were."""


class NoTrial:
    """Trial of a process that is not the first of its run; only the first reports to the search."""

    def report(self, epoch: int, value: float) -> None:
        """Nothing to note."""

    def should_stop(self) -> bool:
        """The first process says so."""
        return False


class Pruning(pl.Callback):
    """Reports each epoch's perplexity to the search, and ends the run where that gives it up.

    It stands after all else that ends a run, which is then finished and not given up, and before
    what saves it.

    Args:
        trial: in the search's storage.
        part: "val" or "train": whose perplexity is compared.
    """

    def __init__(self, trial: Trial, part: str) -> None:
        self.reason: str | None = None
        self._trial = trial
        self._part = part

    def state_dict(self) -> dict[str, Any]:
        """Why the run was given up, if it was."""
        return {"reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up."""
        self.reason = state_dict["reason"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again where the run is resumed after it was given up."""
        del pl_module
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch, and ask."""
        del pl_module
        metrics = trainer.callback_metrics
        value = metrics.get(f"{self._part}/{perplexity_name(metrics)}")
        if value is None:
            return  # an epoch without validation
        epoch = trainer.current_epoch + 1
        given_up = False
        if trainer.is_global_zero:
            self._trial.report(epoch, float(value))
            last = trainer.should_stop or epoch == trainer.max_epochs
            given_up = not last and self._trial.should_stop()
        if gathered(given_up)[0]:
            self.reason = (
                f"pruned at epoch {epoch}: its best {self._part}/{perplexity_name(metrics)} so "
                "far is above the median of the finished trials there"
            )
            trainer.should_stop = True
