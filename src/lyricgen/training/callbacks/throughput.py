"""How fast training goes, and how large its steps are."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from typing_extensions import override

from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer


class Throughput(Observer):
    """Training characters a second, the mean norm of the gradient, and the learning rate.

    Validation, and samples and checkpoints at the end of an epoch, are left out of the seconds.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._since: float | None = None  # None while the clock stands still

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter()  # a resumed run may be within an epoch

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._state.rate = trainer.optimizers[0].param_groups[0].get("lr")
        self._state.epoch_seconds = 0.0
        self._since = time.perf_counter()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(trainer)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._since = time.perf_counter()

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._count(trainer)
        state = self._state
        state.metrics["train/chars_per_second"] = state.characters / state.epoch_seconds
        if state.rate is not None:
            state.metrics["train/lr"] = state.rate
        if state.gradient_norm_total is not None:
            steps = max(1.0, float(state.gradient_norms))
            state.metrics["train/grad_norm"] = float(state.gradient_norm_total) / steps

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._since is not None:
            now = time.perf_counter()
            self._state.epoch_seconds += now - self._since
            self._since = now

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._since is not None:  # a validation has ended the run within its epoch
            self._count(trainer)

    def _count(self, trainer: pl.Trainer) -> None:
        """Count the epoch so far."""
        self._stop(trainer)
        self._state.trained_characters += self._state.characters
        self._state.trained_seconds += self._state.epoch_seconds

    def _stop(self, trainer: pl.Trainer) -> None:
        if self._since is None:
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        self._state.epoch_seconds += time.perf_counter() - self._since
        self._since = None
