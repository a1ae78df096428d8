"""The epoch's figures, written down: to the loggers and to metrics.csv."""

import csv
import io
from pathlib import Path

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.files import write_atomically
from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.scored_module import NatsTotal


class EpochLog(Observer):
    """Writes the metrics once: to the loggers, and as one row of metrics.csv.

    There is a row for every epoch, and for every validation within one, with the training
    figures of the epoch so far.

    Args:
        state: of the run, which keeps the rows.
        total: nats of the training text in the epoch so far.
        path: of metrics.csv, or None for no such file.
    """

    def __init__(self, state: RunState, total: NatsTotal, path: Path | None) -> None:
        self._state = state
        self._total = total
        self._path = path

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._write()  # without the rows that were written after the checkpoint

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._state.metrics |= self._total.figures("train")
        self._add(trainer, self._state.metrics)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        figures = self._state.metrics
        if not validated:  # figures of validations before have a row of their own
            figures = {name: figures[name] for name in figures if not name.startswith("val/")}
        self._add(trainer, figures)

    def _add(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **metrics}
        self._state.rows.append(row)
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        if trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        rows = self._state.rows
        if self._path is None:
            return
        if not rows:
            self._path.unlink(missing_ok=True)
            return
        # Whole and at once: later epochs may bring columns that the first did not have.
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._path, text.getvalue())
