"""Save checkpoints from which a run continues exactly."""

import logging
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.runs.checkpoint_files import checkpoint_name, keep_best, settle_best
from lyricgen.runs.directories import BEST, LAST, check_there
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState, sync_growing_files
from lyricgen.training.ddp.group import Broadcast, gather_from_processes
from lyricgen.training.lightning_hooks import Observer, end_epoch, is_exact_point
from lyricgen.training.observer_options import CheckpointOptions

log = logging.getLogger(__name__)

OUT_OF_TIME = -1  # stands for a signal when the run's time is over


@dataclass(eq=False)
class Checkpoints(Observer):
    """Saves last.ckpt at some exact points, and the best checkpoints by the monitored loss.

    An exact point is one from which a resumed run continues exactly. Exact points come after each
    epoch, after each validation within an epoch, and after each step that neither ends its epoch
    nor precedes a validation. `every_n_steps`, signals and `max_time` take effect at the next exact
    point; a signal stops the run there. This observer is the last, since it saves the results of
    the other observers.

    If the time is over within an epoch, the run is saved, and then its epoch ends with a
    validation. A run that is resumed with more time continues as if this end had not been:
    last.ckpt is of the moment before it, and best.ckpt of that moment keeps a name of its own.
    """

    run: Run
    state: RunState  # gets the sizes of growing files; a resumed run cuts the files back to them
    monitor: str  # "val/loss" or "train/loss"
    options: CheckpointOptions
    interruption: Interruption
    max_time: float | None = None  # seconds of all lives of the run
    _signal: Broadcast = field(default_factory=Broadcast)  # sends rank 0's signal
    _over: bool = False  # whether the time is over, and last.ckpt is saved

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
        signal = self._receive()
        if (signal or self._is_due(trainer)) and is_exact_point(trainer):
            self._save(trainer, signal)
            if self._over:
                end_epoch(trainer)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        signal = self._receive()
        rank = self._rank() if self.monitor == "val/loss" else None
        # if early stopping ends the run here, the checkpoint shows that the run is finished
        if signal or self._is_due(trainer) or rank is not None or trainer.should_stop:
            self._save(trainer, signal, rank)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        rank, epoch = self._rank(), trainer.current_epoch + 1
        ends = trainer.should_stop or epoch == trainer.max_epochs
        signal = gather_from_processes(self._request())[0]
        due = bool(signal) or ends or epoch % self.options.every_n_epochs == 0
        self._save(trainer, 0 if ends else signal, rank, last=due and not self._over)

    def _request(self) -> int:
        """This process's signal, else OUT_OF_TIME if the time is over, else 0."""
        if self.interruption.requested is not None:
            return self.interruption.requested
        over = self.max_time is not None and self.run.wall_seconds >= self.max_time
        return OUT_OF_TIME if over and not self._over else 0

    def _receive(self) -> int:
        """Rank 0's signal or OUT_OF_TIME; with several processes, it arrives one call later."""
        signal = self._signal(self._request())
        if signal > 0 and self.interruption.requested is None:
            self.interruption.requested = signal
        return signal

    def _is_due(self, trainer: pl.Trainer) -> bool:
        every = self.options.every_n_steps
        return every is not None and trainer.global_step % every == 0

    def _rank(self) -> int | None:
        """Rank of the newest row among the best ones, from 0; None if it is not kept."""
        best, newest = self.state.best_rows(self.monitor), self.state.rows[-1]
        ranks = [rank for rank, row in enumerate(best[: self.options.keep_best]) if row is newest]
        self.state.best_loss = min([self.state.best_loss, *(row[self.monitor] for row in best[:1])])
        return ranks[0] if ranks else None

    def _save(
        self, trainer: pl.Trainer, signal: int, rank: int | None = None, *, last: bool = True
    ) -> None:
        """Save the newest row's checkpoint, if it has a rank among the best ones, and last.ckpt.

        If `signal` is OUT_OF_TIME, this ends the run.
        """
        over = signal == OUT_OF_TIME and not trainer.should_stop
        self.state.out_of_time = False
        folder, best = self.run.checkpoints, self.state.best_rows(self.monitor)
        names = [checkpoint_name(row) for row in best[: max(2, self.options.keep_best)]]
        if trainer.is_global_zero:
            check_there(self.run.directory)
        # saved first, since last.ckpt implies that the best checkpoints exist
        if rank == 0 and trainer.is_global_zero and len(names) > 1:
            keep_best(folder, names[1])
        if rank is not None:
            trainer.save_checkpoint(folder / (names[rank] if rank else BEST))
        if last:
            self.state.out_of_time = over
            trainer.save_checkpoint(folder / LAST)
            if trainer.is_global_zero:
                settle_best(folder, names[: self.options.keep_best])
        self.interruption.raise_if_requested()
        if over:
            trainer.should_stop = self._over = True
            ends = "trainer.max_time: %g seconds are over: the run ends after step %d"
            if trainer.is_global_zero:
                log.info(ends, self.max_time, trainer.global_step)
