"""The epoch's figures, written down: to the loggers and to metrics.csv."""

import csv
import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lyricgen.files import write_atomically
from lyricgen.training.callbacks.record import record
from lyricgen.training.scored_module import ScoredModule


class EpochLog(pl.Callback):
    """Writes the metrics once: to the loggers, and as one row of metrics.csv.

    There is a row for every epoch, and for every validation within one, with the training
    figures of the epoch so far.

    Args:
        path: of metrics.csv, or None for no such file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._validated_step = -1

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Forget the rows that were written after the checkpoint."""
        self.rows = list(state_dict["rows"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget them in metrics.csv, too."""
        del pl_module
        if trainer.is_global_zero:
            self._write()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row of a validation within the epoch."""
        if trainer.state.fn != "fit":
            return
        self._validated_step = trainer.global_step
        if trainer.is_last_batch:
            return
        if isinstance(pl_module, ScoredModule):
            record(trainer, pl_module.totals["train"].figures("train"))
        self._add(trainer, dict(trainer.callback_metrics))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row of the epoch."""
        del pl_module
        if not trainer.is_last_batch:
            return  # a validation within the epoch has ended training, and has its row
        figures = dict(trainer.callback_metrics)
        if self._validated_step != trainer.global_step:  # those of before have a row of their own
            figures = {name: figures[name] for name in figures if not name.startswith("val/")}
        self._add(trainer, figures)

    def _add(self, trainer: pl.Trainer, metrics: dict[str, Any]) -> None:
        figures = {name: float(value) for name, value in metrics.items()}
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **figures}
        self.rows.append(row)
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
        if trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        if not self.rows:
            self.path.unlink(missing_ok=True)
            return
        # Whole and at once: later epochs may bring columns that the first did not have.
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue())
