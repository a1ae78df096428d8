"""How fast training goes, and how large its steps are."""

import time
from typing import Any

import pytorch_lightning as pl
import torch

from lyricgen.training.callbacks.record import record
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.scored_module import ScoredModule


class Throughput(pl.Callback):
    """Training characters a second, the mean norm of the gradient, and the learning rate.

    Validation, and sampling and checkpoints at its end, are left out of the seconds.
    """

    def __init__(self) -> None:
        self.characters = 0
        self.seconds = 0.0
        self._rate: float | None = None  # of the epoch's first step; n-grams have none
        self._epoch_seconds = 0.0
        self._since: float | None = None

    @property
    def characters_per_second(self) -> float:
        """Over the whole run so far."""
        return self.characters / self.seconds if self.seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        """The clocks."""
        return {
            "characters": self.characters,
            "seconds": self.seconds,
            "rate": self._rate,
            "epoch_seconds": self._epoch_seconds + self._running(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.characters = state_dict["characters"]
        self.seconds = state_dict["seconds"]
        self._rate = state_dict["rate"]
        self._epoch_seconds = state_dict["epoch_seconds"]

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Go on within a resumed epoch."""
        del trainer
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Start the epoch's clock."""
        self._rate = trainer.optimizers[0].param_groups[0].get("lr")
        self._epoch_seconds = 0.0
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop the clock."""
        self._stop(trainer)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Go on if the epoch does; at its end, checkpoints are saved after validation."""
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch."""
        self._stop(trainer)
        if not isinstance(pl_module, ScoredModule) or not trainer.is_last_batch:
            return
        characters = pl_module.totals["train"].characters
        self.characters += characters
        self.seconds += self._epoch_seconds
        figures = {"train/chars_per_second": characters / self._epoch_seconds}
        if self._rate is not None:
            figures["train/lr"] = self._rate
        if isinstance(pl_module, RecurrentModule) and pl_module.gradient_norm_total is not None:
            steps = float(pl_module.gradient_norms)
            figures["train/grad_norm"] = float(pl_module.gradient_norm_total) / max(1.0, steps)
        record(trainer, figures)

    def _stop(self, trainer: pl.Trainer) -> None:
        if self._since is not None and trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        self._epoch_seconds += self._running()
        self._since = None

    def _running(self) -> float:
        return 0.0 if self._since is None else time.perf_counter() - self._since
