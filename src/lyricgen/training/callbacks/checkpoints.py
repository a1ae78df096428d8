"""Checkpoints from which a run continues as if it had never stopped."""

import math
from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.runs.directories import BEST, LAST, check_there
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState, sizes
from lyricgen.training.ddp.group import Broadcast
from lyricgen.training.lightning_hooks import Observer, is_exact_point


class Checkpoints(Observer):
    """Keeps best.ckpt, of the lowest monitored loss, and last.ckpt, of the newest exact point.

    Both are saved at exact points only: after a batch that neither ends the epoch nor is
    followed by validation, after validation within an epoch, and at the end of an epoch, when
    validation, metrics, samples and schedules are done. At such a point a signal stops the run,
    too. It is the last observer, since it saves what the others have done.

    Args:
        run: whose files grow with the run and are cut back to their sizes when it is resumed.
        state: of the run.
        monitor: "val/loss" or "train/loss".
        every_n_steps: save last.ckpt within the epoch as well; None for its end only.
        interruption: tells when to stop.
    """

    def __init__(
        self,
        run: Run,
        state: RunState,
        monitor: str,
        every_n_steps: int | None,
        interruption: Interruption,
    ) -> None:
        self._run = run
        self._state = state
        self._monitor = monitor
        self._every_n_steps = every_n_steps
        self._interruption = interruption
        self._request = Broadcast()  # of the signal that rank 0 has received

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for logger in trainer.loggers:
            logger.save()
        self._state.sizes = sizes(self._run.directory)
        self._state.wall_seconds = self._run.wall_seconds

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._interruption.raise_if_requested()
        self._interruption.patient = True  # from here on a signal waits for the next exact point

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._interruption.patient = False
        self._interruption.raise_if_requested()

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        if self._is_due(trainer) and is_exact_point(trainer):
            self._save(trainer)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        improved = self._monitor == "val/loss" and self._improves()
        # also where early stopping ends the run, which is then known to be finished
        if self._is_due(trainer) or improved or trainer.should_stop:
            self._save(trainer, improved=improved)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._save(trainer, improved=self._improves())

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether last.ckpt is to be saved, for its interval or for a signal.

        Several processes know of the signal one call later.
        """
        number = self._request(self._interruption.requested or 0)
        if number and self._interruption.requested is None:
            self._interruption.requested = number
        every = self._every_n_steps
        return bool(number) or (every is not None and trainer.global_step % every == 0)

    def _improves(self) -> bool:
        loss, best = self._state.metrics.get(self._monitor, math.inf), self._state.best_loss
        self._state.best_loss = min(loss, best)
        return loss < best

    def _save(self, trainer: pl.Trainer, *, improved: bool = False) -> None:
        if trainer.is_global_zero:
            check_there(self._run.directory)
        if improved:  # first, since last.ckpt says that it is there
            trainer.save_checkpoint(self._run.checkpoints / BEST)
        trainer.save_checkpoint(self._run.checkpoints / LAST)
        self._interruption.raise_if_requested()
