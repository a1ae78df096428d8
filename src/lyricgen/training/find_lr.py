"""Find a learning rate by a range test (Smith 2017, https://arxiv.org/abs/1506.01186, section 3.3).

The rate rises from step to step. The same steps with the rate 0 show the difficulty of each batch,
which is taken from its loss: the batches, and all that a step draws at random, are the same. The
suggestion is the rate at which the rest falls most steeply.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from rich import box
from rich.table import Table
from typing_extensions import override

from lyricgen.console import progress, show
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.files import replace_file, write_atomically
from lyricgen.models.options import ConstantOptions
from lyricgen.reporting.plot_style import new_plot, plot_style, to_png
from lyricgen.runs.directories import RANGE_TEST, unmark
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState
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

    rates: Sequence[float]
    total: NatsTotal  # of the training text; it is emptied after each step
    moved: Callable[[int], None]  # shows the progress
    losses: list[float] = field(default_factory=list)

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rates[trainer.global_step]

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
    with progress("testing learning rates", 2 * STEPS) as moved:
        losses = make_steps(training, run, RATES, moved)
        rates = RATES[: len(losses)]
        untrained = make_steps(training, run, [0.0] * len(rates), lambda n: moved(STEPS + n))
    smoothed, best = suggest(rates, losses, untrained)
    columns = {"lr": rates, "loss": losses, "untrained_loss": untrained, "smoothed_loss": smoothed}
    table = pd.DataFrame(columns, pd.RangeIndex(1, len(rates) + 1, name="step"))
    path = run.directory / RANGE_TEST
    write_atomically(path.with_suffix(".csv"), table.to_csv(lineterminator="\n"))
    with replace_file(path.with_suffix(".png")) as stream:
        stream.write(_plot(rates, smoothed, best))
    unmark(run.directory)  # it is no run's
    _print_table(smoothed, best)
    show(f"curve: {path.with_suffix('.png')}")
    if best is None:
        show("no learning rate lowers the loss: there is no suggestion")
        return None
    rate = float(f"{RATES[best]:.2g}")
    show(
        "suggestion, where the loss falls most steeply: type the same command with "
        f"optimizer.lr={rate:g} in place of find_lr=true"
    )
    return rate


def make_steps(
    training: Training, run: Run, rates: Sequence[float], moved: Callable[[int], None]
) -> list[float]:
    """Return the loss before each step with one of the rates, up to the first that is too high."""
    options, datamodule, model = training.options, training.datamodule, training.model
    steps = len(rates)
    changes: dict[str, Any] = {"max_epochs": steps, "max_steps": steps, "devices": 1}
    changes |= {"strategy": "auto", "profiler": None, "val_check_interval": None}
    trainer = options.trainer.model_copy(update=changes | {"check_val_every_n_epoch": 1})
    constant = ConstantOptions(kind="none")
    options = options.model_copy(update={"trainer": trainer, "scheduler": constant})
    splits = {"train": datamodule.splits["train"]}  # nothing is validated
    data = CharacterDataModule(datamodule.vocabulary, splits, datamodule.sampler)
    data.recollections = datamodule.recollections
    total = NatsTotal(datamodule.vocabulary)
    test = RangeTest(rates, total, moved)
    weights = {name: each.clone() for name, each in model.state_dict().items()}
    module = build_module(options, data, model, RunState(), total)
    module.check_finite = lambda: None  # type: ignore[method-assign]  # the test may diverge
    build_trainer(options, data, run, Observers([test], [], None, None), 0).fit(module, data)
    model.load_state_dict(weights)
    return test.losses


def suggest(
    rates: Sequence[float], losses: Sequence[float], untrained: Sequence[float]
) -> tuple[list[float], int | None]:
    """Smooth the losses, and find where they fall most steeply over the logarithm of the rate.

    Args:
        rates: rate of each step, rising.
        losses: loss of each step.
        untrained: the same with the first weights.

    Returns:
        The smoothed losses of a batch of mean difficulty, and the index of the suggestion; None if
        no loss is below the first.
    """
    numbers = np.arange(len(rates))
    kernel = np.exp(-0.5 * (np.subtract.outer(numbers, numbers) / SMOOTHING) ** 2)
    gains = kernel @ np.subtract(losses, untrained) / kernel.sum(axis=1)
    lowest = int(gains.argmin())
    best = int(np.gradient(gains, np.log(rates))[: lowest + 1].argmin()) if lowest else None
    return (gains + np.mean(untrained)).tolist(), best


def _print_table(smoothed: list[float], best: int | None) -> None:
    table = Table("learning rate", "loss", "", box=box.SIMPLE_HEAD)
    chosen = {*range(0, len(smoothed), -(-len(smoothed) // ROWS)), len(smoothed) - 1}
    for index in sorted(chosen | ({best} if best is not None else set())):
        mark = "steepest fall" if index == best else ""
        table.add_row(f"{RATES[index]:.2g}", f"{smoothed[index]:.3f}", mark)
    put_whole(table)


def _plot(rates: list[float], smoothed: list[float], best: int | None) -> bytes:
    with plot_style(""):
        figure, axes = new_plot("Range test of the learning rate")
        axes.set(xlabel="optimizer.lr", ylabel="nats a character", xscale="log")
        axes.plot(rates, smoothed)
        if best is not None:
            axes.plot(rates[best], smoothed[best], "o", label=f"{rates[best]:.2g}")
            axes.legend()
        return to_png(figure)
