"""Checkpoints from which a run goes on as if it had never stopped."""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from lyricgen.runs.interruption import Interruption
from lyricgen.runs.listing import BEST, LAST, check_there
from lyricgen.runs.resume import sizes
from lyricgen.runs.run import Run
from lyricgen.training.ddp.collectives import Broadcast
from lyricgen.training.recurrent_module import RecurrentModule


class Checkpoints(Checkpoint):
    """Keeps best.ckpt, of the lowest monitored loss, and last.ckpt, of the newest exact point.

    Both are saved at exact points only: after a batch that neither ends the epoch nor is
    followed by validation, after validation within an epoch, and at the end of an epoch, when
    validation, metrics, samples and schedules are done. From anywhere else Lightning would skip
    what was still to do. At such a point a signal stops the run, too.

    Args:
        run: whose files grow with the run and are cut back to their sizes when it is resumed.
        text: digest of the corpus, which must still be the same then.
        monitor: "val/loss" or "train/loss".
        every_n_steps: save last.ckpt within the epoch as well; None for its end only.
        interruption: tells when to stop.
    """

    def __init__(
        self,
        run: Run,
        text: str,
        monitor: str,
        every_n_steps: int | None,
        interruption: Interruption,
    ) -> None:
        self.run = run
        self.text = text
        self.monitor = monitor
        self.every_n_steps = every_n_steps
        self.best = math.inf
        self._interruption = interruption
        self._request = Broadcast()  # of the signal that rank 0 has received

    @property
    def best_path(self) -> Path | None:
        """best.ckpt, once there is one."""
        return self.run.checkpoints / BEST if math.isfinite(self.best) else None

    def state_dict(self) -> dict[str, Any]:
        """The lowest loss so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with it."""
        self.best = state_dict["best"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note how far the run's growing files have come."""
        del pl_module
        for logger in trainer.loggers:
            logger.save()
        checkpoint["run"] = {
            "text": self.text,
            "sizes": sizes(self.run.directory),
            "wall_seconds": self.run.wall_seconds,
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits for the next exact point."""
        del trainer, pl_module
        self._interruption.raise_if_requested()
        self._interruption.patient = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training is over, and so is the waiting."""
        del trainer, pl_module
        self._interruption.patient = False
        self._interruption.raise_if_requested()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        """An exact point, unless validation or the end of the epoch follows."""
        del outputs, batch, i
        stopping = self._stopping()
        if self._due(trainer) or stopping:
            # Lightning's own answer, which knows of intervals, limits and epochs without any
            loop = trainer.fit_loop.epoch_loop
            follows = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
            if not follows and not trainer.is_last_batch:
                self._save(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An exact point, unless the end of the epoch follows."""
        if trainer.state.fn != "fit" or trainer.is_last_batch:
            return
        improved = self.monitor == "val/loss" and self._improves(trainer)
        stopping = self._stopping()
        if improved or self._due(trainer) or stopping:
            self._save(trainer, pl_module, improved=improved)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An exact point, unless a validation within the epoch has ended training."""
        if trainer.is_last_batch:
            self._save(trainer, pl_module, improved=self._improves(trainer))

    def _stopping(self) -> bool:
        """Whether a signal has come; several processes know of it one call later."""
        number = self._request(self._interruption.requested or 0)
        if number and self._interruption.requested is None:
            self._interruption.requested = number
        return bool(number)

    def _due(self, trainer: pl.Trainer) -> bool:
        return self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0

    def _improves(self, trainer: pl.Trainer) -> bool:
        loss = float(trainer.callback_metrics.get(self.monitor, math.inf))
        improves = loss < self.best
        self.best = min(loss, self.best)
        return improves

    def _save(
        self, trainer: pl.Trainer, module: pl.LightningModule, *, improved: bool = False
    ) -> None:
        if isinstance(module, RecurrentModule):
            module.check_finite()
        if trainer.is_global_zero:
            check_there(self.run.directory)
        if improved:  # first, since last.ckpt says that it is there
            trainer.save_checkpoint(self.run.checkpoints / BEST)
        trainer.save_checkpoint(self.run.checkpoints / LAST)
        self._interruption.raise_if_requested()
