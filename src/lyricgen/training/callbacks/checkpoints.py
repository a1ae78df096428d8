"""Save checkpoints from which a run continues exactly."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.runs.directories import BEST, LAST, check_there
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState, sync_growing_files
from lyricgen.training.ddp.group import Broadcast
from lyricgen.training.lightning_hooks import Observer, is_exact_point
from lyricgen.training.options import CheckpointOptions


@dataclass(eq=False)
class Checkpoints(Observer):
    """Saves last.ckpt at some exact points, and best.ckpt when the monitored loss is lowest.

    An exact point is one from which a resumed run continues exactly. Exact points come after each
    epoch, after each validation within an epoch, and after each step that neither ends its epoch
    nor precedes a validation. `every_n_steps` and signals take effect at the next exact point; a
    signal stops the run there. This observer is the last, since it saves the results of the other
    observers.
    """

    run: Run
    state: RunState  # gets the sizes of growing files; a resumed run cuts the files back to them
    monitor: str  # "val/loss" or "train/loss"
    options: CheckpointOptions  # how many steps lie between saves within an epoch
    interruption: Interruption
    _signal: Broadcast = field(default_factory=Broadcast)  # sends rank 0's signal

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        for logger in trainer.loggers:
            logger.save()
        self.state.sizes = sync_growing_files(self.run.directory)
        self.state.wall_seconds = self.run.wall_seconds

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.interruption.raise_if_requested()
        self.interruption.patient = True  # from here on a signal waits for the next exact point

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.interruption.patient = False
        self.interruption.raise_if_requested()

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        if self._is_due(trainer) and is_exact_point(trainer):
            self._save(trainer)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        improved = self.monitor == "val/loss" and self._improves()
        # if early stopping ends the run here, the checkpoint shows that the run is finished
        if self._is_due(trainer) or improved or trainer.should_stop:
            self._save(trainer, improved=improved)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._save(trainer, improved=self._improves())

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether last.ckpt is due, by its interval or by a signal.

        With several processes, a signal takes effect one call later.
        """
        number = self._signal(self.interruption.requested or 0)
        if number and self.interruption.requested is None:
            self.interruption.requested = number
        every = self.options.every_n_steps
        return bool(number) or (every is not None and trainer.global_step % every == 0)

    def _improves(self) -> bool:
        loss, best = self.state.metrics.get(self.monitor, math.inf), self.state.best_loss
        self.state.best_loss = min(loss, best)
        return loss < best

    def _save(self, trainer: pl.Trainer, *, improved: bool = False) -> None:
        if trainer.is_global_zero:
            check_there(self.run.directory)
        if improved:  # saved first, since last.ckpt implies that best.ckpt exists
            trainer.save_checkpoint(self.run.checkpoints / BEST)
        trainer.save_checkpoint(self.run.checkpoints / LAST)
        self.interruption.raise_if_requested()
