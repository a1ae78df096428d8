"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from rich import get_console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from typing_extensions import override

from lyricgen.console import ProgressBar, format_figure
from lyricgen.data.batch import world_size
from lyricgen.runs.state import RunState
from lyricgen.runs.summary import perplexity_name
from lyricgen.training.lightning_hooks import Observer, steps_per_epoch
from lyricgen.training.totals import NatsTotal

log = logging.getLogger(__name__)

SILENCE = 10.0  # seconds without a line before a line tells the step
REDRAW = 0.25  # seconds between two drawings of the bar


@dataclass(eq=False)
class ProgressReport(Observer):
    """Shows epochs, steps, perplexity and speed; it never waits for the device."""

    state: RunState
    total: NatsTotal  # total of the training split in the epoch so far
    max_steps: int | None = None  # steps of the run, if it ends before its last epoch
    _bar: ProgressBar | None = None
    _figures: str = ""
    _spoke: float = 0.0  # when the last line came
    _drawn: float = 0.0  # when the bar was drawn

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._spoke = time.monotonic()
        if trainer.is_global_zero and get_console().is_terminal:
            # without a thread that draws, which would slow the steps
            self._bar = ProgressBar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            total = (trainer.max_epochs or 1) * steps_per_epoch(trainer)
            total = min(total, self.max_steps or total)
            self._bar.add_task("", total=total, figures="")
            self._bar.start()

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        now = time.monotonic()
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        if self._bar is not None and now - self._drawn > REDRAW:
            self._drawn = now
            self._bar.update(
                self._bar.task_ids[0],
                completed=trainer.global_step,
                description=epoch,
                figures=self._figures or self._first_figures(trainer),
                refresh=True,
            )
        elif self._bar is None and now - self._spoke > SILENCE and trainer.is_global_zero:
            self._spoke = now
            steps = steps_per_epoch(trainer)
            step = trainer.global_step - trainer.current_epoch * steps
            log.info("%s: step %d of %s", epoch, step, steps)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._report(trainer, f", step {trainer.global_step}")

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._report(trainer)

    def _report(self, trainer: pl.Trainer, step: str = "") -> None:
        metrics = self.state.metrics
        name = perplexity_name(metrics)
        shown = name.replace("_", "-")
        perplexities = {
            split: format_figure(metrics[f"{split}/{name}"], 1)
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
            when = epoch if trainer.global_step else "before the first step"
            log.info("%s: %s", when, ", ".join(parts))

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()  # so that the error is readable

    def _first_figures(self, trainer: pl.Trainer) -> str:
        """Training perplexity of the first epoch so far; "" if reading it would take time."""
        # reading would wait for a GPU, or for other processes
        at_hand = trainer.strategy.root_device.type == "cpu" and world_size() == 1
        figures = self.total.figures("train") if at_hand else {}
        if not figures:
            return ""
        name = perplexity_name(figures)
        return f"{name.replace('_', '-')} train {format_figure(figures[f'train/{name}'], 1)}"

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
