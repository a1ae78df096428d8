"""Find a learning rate by a range test (Smith 2017, https://arxiv.org/abs/1506.01186, section 3.3).

The rate rises from step to step. The suggestion is the rate at which the loss falls most steeply.
"""

import csv
import io
import logging
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytorch_lightning as pl
from rich import box
from rich.table import Table
from scipy.ndimage import gaussian_filter1d
from typing_extensions import override

from lyricgen.console import progress, show
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.files import replace_file, write_atomically
from lyricgen.models.options import ConstantOptions
from lyricgen.reporting.plot_style import new_plot, plot_style, set_scale, to_png
from lyricgen.runs.directories import RANGE_TEST, unmark
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState
from lyricgen.settings import key
from lyricgen.stacking import put_whole
from lyricgen.training.build import build_module
from lyricgen.training.build_trainer import Observers, build_trainer
from lyricgen.training.fitting import Training
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.totals import NatsTotal

log = logging.getLogger(__name__)

STEPS = 200
RATES = np.geomspace(1e-6, 10, STEPS).tolist()
SMOOTHING = 6.0  # steps: standard deviation of the Gaussian that smooths the losses
DIVERGED = 4.0  # times the lowest loss; above it the test ends
ROWS = 15  # of the table


@dataclass(eq=False)
class RangeTest(Observer):
    """Sets the rate of each step, and notes its loss in nats a character."""

    total: NatsTotal  # of the training text; it is emptied after each step
    moved: Callable[[int], None]  # shows the progress
    losses: list[float] = field(default_factory=list)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = RATES[trainer.global_step]

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        loss = self.total.figures("train")["train/loss"]
        self.total.reset()
        if not loss <= DIVERGED * min(self.losses, default=math.inf):  # or not a number
            trainer.should_stop = True
            return
        self.losses.append(loss)
        self.moved(len(self.losses))


def find_lr(training: Training, run: Run) -> float | None:
    """Test learning rates on the model of a run, print the results, and write them into files.

    The model keeps its weights. The directory gets find_lr.csv and find_lr.png but no summary, so
    it is not the directory of a run.

    Returns:
        The suggested rate; None if no rate lowers the loss.

    Raises:
        OSError: a file cannot be written.
    """
    log.info(training.description)
    losses = test_rates(training, run)
    smoothed, best = suggest(RATES[: len(losses)], losses)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "lr", "loss", "smoothed_loss"])
    writer.writerows(zip(range(1, STEPS + 1), RATES, losses, smoothed, strict=False))
    path = run.directory / RANGE_TEST
    write_atomically(path.with_suffix(".csv"), text.getvalue())
    with replace_file(path.with_suffix(".png")) as stream:
        stream.write(_plot(losses, smoothed, best))
    unmark(run.directory)  # it is no run's
    _print_table(smoothed, best)
    show(f"curve: {path.with_suffix('.png')}")
    if best is None:
        show("no learning rate lowers the loss: there is no suggestion")
        return None
    rate = float(f"{RATES[best]:.2g}")
    typed = [one for one in run.overrides if key(one) not in ("find_lr", "optimizer.lr")]
    command = ["python", "-m", "lyricgen.train", *typed, f"optimizer.lr={rate:g}"]
    show(f"suggestion, where the loss falls most steeply: {shlex.join(command)}")
    return rate


def test_rates(training: Training, run: Run) -> list[float]:
    """Return the loss of a step with each of the `RATES`, up to the first that is too high."""
    options, datamodule, model = training.options, training.datamodule, training.model
    changes: dict[str, Any] = {"max_epochs": STEPS, "max_steps": STEPS, "devices": 1}
    changes |= {"strategy": "auto", "profiler": None, "val_check_interval": None}
    changes |= {"check_val_every_n_epoch": 1}
    trainer_options = options.trainer.model_copy(update=changes)
    changes = {"trainer": trainer_options, "scheduler": ConstantOptions(kind="none")}
    options = options.model_copy(update=changes)
    splits = {"train": datamodule.splits["train"]}  # nothing is validated
    data = CharacterDataModule(datamodule.vocabulary, splits, datamodule.sampler)
    data.recollections = datamodule.recollections
    weights = {name: each.clone() for name, each in model.state_dict().items()}
    total = NatsTotal(datamodule.vocabulary)
    module = build_module(options, data, model, RunState(), total)
    module.check_finite = lambda: None  # type: ignore[method-assign]  # the test may diverge
    with progress("testing learning rates", STEPS) as moved:
        test = RangeTest(total, moved)
        trainer = build_trainer(options, data, run, Observers([test], [], None, None, None), 0)
        trainer.fit(module, data)
    model.load_state_dict(weights)
    return test.losses


def suggest(rates: Sequence[float], losses: Sequence[float]) -> tuple[list[float], int | None]:
    """Smooth the losses, and find where they fall most steeply over the logarithm of the rate.

    Returns:
        The smoothed losses, and the index of the suggestion; None if the first loss is the lowest.
    """
    smoothed = gaussian_filter1d(np.array(losses), SMOOTHING, mode="nearest")
    lowest = int(smoothed.argmin())
    if lowest == 0:
        return smoothed.tolist(), None
    slopes = np.gradient(smoothed, np.log(rates))
    return smoothed.tolist(), int(slopes[: lowest + 1].argmin())


def _print_table(smoothed: list[float], best: int | None) -> None:
    table = Table("learning rate", "loss", "", box=box.SIMPLE_HEAD)
    chosen = {*range(0, len(smoothed), -(-len(smoothed) // ROWS)), len(smoothed) - 1}
    for index in sorted(chosen | ({best} if best is not None else set())):
        mark = "steepest fall" if index == best else ""
        table.add_row(f"{RATES[index]:.2g}", f"{smoothed[index]:.3f}", mark)
    put_whole(table)


def _plot(losses: list[float], smoothed: list[float], best: int | None) -> bytes:
    rates = RATES[: len(losses)]
    with plot_style(""):
        figure, axes = new_plot("Range test of the learning rate")
        axes.set_xlabel("optimizer.lr")
        axes.set_ylabel("nats a character")
        axes.plot(rates, losses, linewidth=0.7, alpha=0.5)
        axes.plot(rates, smoothed, color="C0")
        if best is not None:
            axes.plot(rates[best], smoothed[best], "o", color="C3", label=f"{rates[best]:.2g}")
            axes.legend()
        set_scale(axes, "x", rates)
        return to_png(figure)
