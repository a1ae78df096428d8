"""Trials of a search that are given up between epochs."""

from typing import Protocol

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.models.metrics import perplexity_name
from lyricgen.runs.state import RunState
from lyricgen.training.ddp.collectives import gathered
from lyricgen.training.lightning_hooks import Observer


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


class Pruning(Observer):
    """Reports each epoch's perplexity to the search, and ends the run where that gives it up.

    It stands after all else that ends a run, which is then finished and not given up, and before
    what saves it.

    Args:
        state: of the run, which keeps why it was given up.
        trial: in the search's storage.
        split: "val" or "train": whose perplexity is compared.
    """

    def __init__(self, state: RunState, trial: Trial, split: str) -> None:
        self._state = state
        self._trial = trial
        self._split = split

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._state.pruned is not None:  # the run is resumed after it was given up
            trainer.should_stop = True

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        if trainer.should_stop:  # early stopping ends the epoch here
            self._report(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._report(trainer)

    def _report(self, trainer: pl.Trainer) -> None:
        metrics = self._state.metrics
        name = f"{self._split}/{perplexity_name(metrics)}"
        if name not in metrics:
            return  # an epoch without validation
        epoch = trainer.current_epoch + 1
        given_up = False
        if trainer.is_global_zero:
            self._trial.report(epoch, metrics[name])
            last = trainer.should_stop or epoch == trainer.max_epochs
            given_up = not last and self._trial.should_stop()
        if gathered(given_up)[0]:
            self._state.pruned = (
                f"pruned at epoch {epoch}: its best {name} so far is above the median of the "
                "finished trials there"
            )
            trainer.should_stop = True
