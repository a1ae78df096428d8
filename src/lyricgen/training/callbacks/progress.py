"""How far the run is: a bar on a terminal, plain lines elsewhere."""

import logging
import time
from typing import Any

import pytorch_lightning as pl
from rich import get_console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from typing_extensions import override

from lyricgen.console import ProgressBar, rounded
from lyricgen.data.batch import world_size
from lyricgen.models.metrics import perplexity_name
from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.totals import NatsTotal

log = logging.getLogger(__name__)

SILENCE = 10.0  # seconds after which a plain line says that the run is alive


class ProgressReport(Observer):
    """Epochs, steps, perplexity and speed; nothing here asks the device for a number.

    Args:
        state: of the run.
        total: nats of the training text in the epoch so far.
        max_steps: after which the run ends, where that may be before its epochs do.
    """

    def __init__(self, state: RunState, total: NatsTotal, max_steps: int | None = None) -> None:
        self._state = state
        self._total = total
        self._max_steps = max_steps
        self._bar: ProgressBar | None = None
        self._task = TaskID(0)
        self._figures = ""
        self._spoke = time.monotonic()
        self._drawn = 0.0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and get_console().is_terminal:
            # a thread that draws would slow the steps it draws over
            self._bar = ProgressBar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            total = (trainer.max_epochs or 1) * int(trainer.num_training_batches)
            total = min(total, self._max_steps or total)
            self._task = self._bar.add_task("", total=total, figures="")
            self._bar.start()

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        now = time.monotonic()
        if self._bar is not None and now - self._drawn > 0.25:
            self._drawn = now
            figures = self._figures or self._running(trainer)
            self._bar.update(
                self._task,
                completed=trainer.global_step,
                description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
                figures=figures,
                refresh=True,
            )
        elif self._bar is None and now - self._spoke > SILENCE and trainer.is_global_zero:
            self._spoke = now
            log.info(
                "epoch %d/%s: step %d of %s",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                trainer.global_step - trainer.current_epoch * int(trainer.num_training_batches),
                trainer.num_training_batches,
            )

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._say(trainer, f", step {trainer.global_step}")

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._say(trainer)

    def _say(self, trainer: pl.Trainer, step: str = "") -> None:
        metrics = self._state.metrics
        name = perplexity_name(metrics)
        shown = name.replace("_", "-")
        perplexities = {
            split: rounded(metrics[f"{split}/{name}"], 1)
            for split in ("train", "val")
            if f"{split}/{name}" in metrics
        }
        # short, since a terminal of 80 columns has to show the bar as well
        self._figures = f"{shown} {', '.join(' '.join(each) for each in perplexities.items())}"
        self._spoke = time.monotonic()
        if trainer.is_global_zero:
            parts = [f"{split} {shown} {value}" for split, value in perplexities.items()]
            if "train/chars_per_second" in metrics and not step:
                parts.append(f"{metrics['train/chars_per_second']:,.0f} characters/s")
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{step}"
            log.info("%s: %s", epoch, ", ".join(parts))

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()  # so that the error is readable

    def _running(self, trainer: pl.Trainer) -> str:
        """The first epoch's training perplexity so far."""
        # elsewhere than on the CPU, reading it would be waiting for the device, and among several
        # processes for the others
        at_hand = trainer.strategy.root_device.type == "cpu" and world_size() == 1
        figures = self._total.figures("train") if at_hand else {}
        name = perplexity_name(figures)
        if not figures:
            return ""
        return f"{name.replace('_', '-')} train {rounded(figures[f'train/{name}'], 1)}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
