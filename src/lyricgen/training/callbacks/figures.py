"""Figures of a run: speed, smoothed loss, and the rows of metrics.csv."""

import csv
import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lyricgen.data.batch import world_size
from lyricgen.files import write_atomically
from lyricgen.runs.state import RunState
from lyricgen.training.ddp.group import sum_over_processes
from lyricgen.training.lightning_hooks import Observer, epoch_number, is_epoch_end
from lyricgen.training.observer_options import SmoothedLossOptions
from lyricgen.training.totals import NatsTotal

SMOOTHED_LOSS = "train/smoothed_loss"
FLUSH_EVERY = 50  # steps after which the losses are fetched from the device


@dataclass(eq=False)
class Throughput(Observer):
    """Measures the speed of training, and records the gradient norm and the learning rate.

    The speed, in characters a second, leaves out validations and the work at the end of an epoch.
    """

    state: RunState
    _since: float | None = None  # None while the clock is stopped

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.perf_counter()  # a resumed run may be within an epoch

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
        self.state.rate = rates[0] if rates else None  # n-grams have none
        self.state.epoch_seconds = 0.0
        self._since = time.perf_counter()

    @override
    def before_validation(self, trainer: pl.Trainer) -> None:
        self._stop(trainer)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._since = time.perf_counter()

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._count_epoch(trainer)
        state = self.state
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
            self.state.epoch_seconds += now - self._since
            self._since = now

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._since is not None:  # a validation has ended the run within its epoch
            self._count_epoch(trainer)

    def _count_epoch(self, trainer: pl.Trainer) -> None:
        self._stop(trainer)
        self.state.trained_characters += self.state.characters
        self.state.trained_seconds += self.state.epoch_seconds

    def _stop(self, trainer: pl.Trainer) -> None:
        if self._since is None:
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        self.state.epoch_seconds += time.perf_counter() - self._since
        self._since = None


@dataclass(eq=False)
class SmoothedLoss(Observer):
    """Logs a smoothed loss L for every step, to TensorBoard and steps.csv.

    Each step sets L to decay · L + (1 - decay) · loss. L begins with the option `start`, or with
    the first loss. The loss is nats a character, or nats a step with loss.reduction=sum. The
    metrics of an epoch get its last L.
    """

    state: RunState  # keeps L
    path: Path | None  # path of steps.csv, which grows; None for no file
    options: SmoothedLossOptions
    _losses: list[Tensor] = field(default_factory=list)  # losses of the steps since the last flush

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        self._losses.append(outputs["loss"].detach())
        if len(self._losses) == FLUSH_EVERY or is_epoch_end(trainer):
            self._flush(trainer)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._record(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._record(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._flush(trainer)  # the run may end within an epoch

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._flush(trainer)

    def _record(self, trainer: pl.Trainer) -> None:
        self._flush(trainer)
        if self.state.smoothed_loss is not None:
            self.state.metrics[SMOOTHED_LOSS] = self.state.smoothed_loss

    def _flush(self, trainer: pl.Trainer) -> None:
        if not self._losses:
            return
        first = trainer.global_step - len(self._losses) + 1
        value, rows, decay = self.state.smoothed_loss, [], self.options.decay
        value = self.options.start if value is None else value
        losses = sum_over_processes(torch.stack(self._losses)) / world_size()
        for step, loss in enumerate(losses.tolist(), start=first):
            value = decay * (loss if value is None else value) + (1 - decay) * loss
            rows.append(f"{step},{loss!r},{value!r}\n")
            for logger in trainer.loggers:
                logger.log_metrics({SMOOTHED_LOSS: value}, step=step)
        self.state.smoothed_loss = value
        self._losses.clear()
        if self.path is not None and trainer.is_global_zero:
            new = not self.path.exists()
            with self.path.open("a", encoding="utf-8") as stream:
                stream.writelines(["step,loss,smoothed_loss\n"] if new else [])
                stream.writelines(rows)


@dataclass(eq=False)
class EpochLog(Observer):
    """Writes the metrics of each epoch to the loggers, and as a row of metrics.csv.

    A validation within an epoch also gets a row, with the training figures of the epoch so far. A
    validation before the first step gets the row of epoch 0.
    """

    state: RunState  # keeps the rows
    total: NatsTotal  # total of the training split in the epoch so far
    path: Path | None  # path of metrics.csv; None for no file

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)  # without the rows that were written after the checkpoint

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self.state.metrics |= self.total.figures("train")
        self._add_row(trainer, self.state.metrics)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        figures = self.state.metrics
        if not validated:  # val/ figures come from a validation that has its own row
            figures = {name: figures[name] for name in figures if not name.startswith("val/")}
        self._add_row(trainer, figures)

    def _add_row(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        row = {"epoch": epoch_number(trainer), "step": trainer.global_step, **metrics}
        self.state.rows.append(row)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        rows = self.state.rows
        if self.path is None or not trainer.is_global_zero:
            return
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        # the whole file, since later epochs may have columns that the first did not have
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())
