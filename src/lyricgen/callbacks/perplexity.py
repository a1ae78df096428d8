"""The epoch's figures: losses, perplexities, speed and gradient norm, and where they go."""

import csv
import io
import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lyricgen.files import write_atomically
from lyricgen.model.module import LanguageModelModule


def record(trainer: pl.Trainer, figures: dict[str, float]) -> None:
    """Put figures among the epoch's metrics, which early stopping, checkpoints and logs read."""
    trainer.callback_metrics.update(
        {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}
    )


CHECKED = 50  # steps between two looks whether training has diverged


class Perplexity(pl.Callback):
    """Reads each part's total of nats at its end: loss, perplexity, bits per character.

    A loss that is not finite stops training: within 50 steps, and at the end of the epoch.
    """

    def __init__(self) -> None:
        self._restored: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the epoch's figures so far."""
        del pl_module
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint["metrics"] = metrics

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take them up once Lightning has cleared its own."""
        del trainer, pl_module
        self._restored = checkpoint["metrics"]

    def on_fit_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Put them back."""
        record(trainer, self._restored)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        """Look from time to time, since looking waits for the device."""
        del outputs, batch
        if (i + 1) % CHECKED == 0 or trainer.is_last_batch:
            _check_finite(pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Forget the figures of the epoch before, so that none is taken for this one's."""
        trainer.callback_metrics.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the training part."""
        self._record(trainer, pl_module, "train")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the validation part."""
        self._record(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the test part."""
        self._record(trainer, pl_module, "test")

    @staticmethod
    def _record(trainer: pl.Trainer, module: pl.LightningModule, part: str) -> None:
        if not isinstance(module, LanguageModelModule):
            return
        figures = module.totals[part].figures(part)
        if trainer.state.fn == "fit" and not math.isfinite(figures.get(f"{part}/loss", 0.0)):
            value = figures[f"{part}/loss"]
            raise module.diverged(f"{part}/loss is {value} at step {trainer.global_step}")
        record(trainer, figures)


def _check_finite(module: pl.LightningModule) -> None:
    if isinstance(module, LanguageModelModule):
        module.check_finite()


class Throughput(pl.Callback):
    """Training characters a second, the mean norm of the gradient, and the learning rate.

    Validation, sampling and checkpoints are left out of the seconds.
    """

    def __init__(self) -> None:
        self.characters = 0
        self.seconds = 0.0
        self._rate = 0.0  # of the epoch's first step
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
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]
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
        if not isinstance(pl_module, LanguageModelModule) or not trainer.is_last_batch:
            return
        characters = pl_module.totals["train"].characters
        self.characters += characters
        self.seconds += self._epoch_seconds
        figures = {
            "train/chars_per_second": characters / self._epoch_seconds,
            "train/lr": self._rate,
        }
        if pl_module.gradient_norm_total is not None:
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
        if isinstance(pl_module, LanguageModelModule):
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
