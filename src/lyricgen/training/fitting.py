"""The two ways to train: a network by Lightning's Trainer, n-grams by counting.

Shapes: T characters scored in a piece of the training split.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler
from torch import Tensor
from typing_extensions import override

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.models.card import card
from lyricgen.models.cells.cell import State
from lyricgen.models.model import Model
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.runs.state import RunState
from lyricgen.training.build import trained_model
from lyricgen.training.build_trainer import Observers
from lyricgen.training.ddp.environment import number_of_processes
from lyricgen.training.ddp.group import check_processes
from lyricgen.training.loggers.logger import RunLogger
from lyricgen.training.options import TrainOptions
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal, score_split

PIECE = 2**20  # characters of the training split that are scored at once


@dataclass
class Training:
    """Objects of a run, and methods that train and score its model."""

    options: TrainOptions
    datamodule: CharacterDataModule
    model: Model
    state: RunState
    observers: Observers
    description: str  # describes text and model in one line

    device = torch.device("cpu")  # on which the model is trained
    world_size = 1  # number of processes that train together

    def fit(self, checkpoint: Path | None) -> None:
        """Train from the start or from `checkpoint`; every process of a run calls this method.

        Raises:
            UserError: training diverged, or the run's directory is gone.
            OSError: a file cannot be written.
            Interrupted: a signal has stopped the run.
        """
        raise NotImplementedError

    def score(self, split: str, nats_room: Tensor | None = None) -> dict[str, float]:
        """Score a held-out split after training (see `score_split`); only rank 0 calls it."""
        return score_split(self.model, self.datamodule, split, nats_room)


@dataclass
class NetworkTraining(Training):
    """Run of a network, trained by Lightning's Trainer."""

    module: RecurrentModule
    trainer: pl.Trainer

    def __post_init__(self) -> None:
        self.device, self.world_size = self.trainer.strategy.root_device, self.trainer.world_size

    @override
    def fit(self, checkpoint: Path | None) -> None:
        settings = f"{self.state.corpus_digest} {self.options.model_dump_json()}"
        check_processes(number_of_processes(self.options.trainer), self.world_size, settings)
        if checkpoint is not None:  # a new run has been validated before its first step
            self.trainer.num_sanity_val_steps = 0
        self.trainer.fit(self.module, self.datamodule, ckpt_path=checkpoint, weights_only=True)

    @override
    def score(self, split: str, nats_room: Tensor | None = None) -> dict[str, float]:
        """Score a split on the device of the training, then move the model to the CPU."""
        profiler: Profiler = self.trainer.profiler  # type: ignore[attr-defined]
        stage = "validate" if split == "val" else split
        profiler.setup(stage)
        self.model.to(self.device)
        with profiler.profile("score"), self.trainer.precision_plugin.forward_context():
            figures = super().score(split, nats_room)
        self.model.cpu()
        profiler.describe()  # writes its file
        profiler.teardown(stage)
        return figures


@dataclass
class Counting(Training):
    """Run of an n-gram model: one step of one epoch, without Lightning's Trainer.

    It stands in for Lightning's Trainer: it has the attributes that observers read from a Trainer.
    """

    model: NgramLanguageModel
    total: NatsTotal  # total of the training split
    global_step: int = 0
    should_stop: bool = False

    current_epoch: ClassVar = 0
    max_epochs: ClassVar = 1
    num_training_batches: ClassVar = 1
    accumulate_grad_batches: ClassVar = 1
    is_last_batch: ClassVar = True
    is_global_zero: ClassVar = True
    optimizers: ClassVar = ()
    strategy: ClassVar = SimpleNamespace(root_device=torch.device("cpu"))

    @override
    def fit(self, checkpoint: Path | None) -> None:
        """Fit the model to the training split, then score the training and validation splits.

        `checkpoint` is ignored: a resumed run starts anew.
        """
        try:
            self._fit()
        except BaseException as error:
            self._call("on_exception", None, error)
            raise

    def _fit(self) -> None:
        state, splits = self.state, self.datamodule.splits
        for hook in ("on_fit_start", "on_train_start", "on_train_epoch_start"):
            self._call(hook, None)
        state.metrics.clear()
        ids = splits["train"].sound_ids
        self.model.fit(ids)
        self._score_training_text(ids)
        self.global_step = 1
        self._call("after_step", None)
        if "val" in splits:
            self._call("before_validation")
            state.metrics |= score_split(self.model, self.datamodule, "val")
            self._call("after_scoring")
        state.characters = self.total.characters
        state.metrics |= self.total.figures("train")
        self._call("after_epoch", validated="val" in splits)
        self._call("on_train_end", None)

    def _score_training_text(self, ids: torch.Tensor) -> None:
        carried: State | None = None
        for start in range(0, len(ids) - 1, PIECE):
            piece = ids[start : start + PIECE + 1].long()[None]  # (1, T + 1)
            nats, carried = self.model.nats(piece[:, :-1], piece[:, 1:], carried)
            predicted = piece[:, 1:] < self.model.vocabulary_size  # no start symbols
            self.total.add(nats[predicted], int(predicted.sum()), piece[:, 1:][predicted])

    def save_checkpoint(self, path: Path) -> None:
        """Save the model and the state of the run, under the keys of a network's checkpoint."""
        content = {
            "epoch": self.current_epoch,
            "global_step": self.global_step,
            "state_dict": self.model.state_dict(prefix="model."),
            "lyricgen": card(trained_model(self.options, self.datamodule, self.model)),
            "run": vars(self.state),
        }
        self._call("on_save_checkpoint", None, content)
        AtomicCheckpointIO().save_checkpoint(content, path)

    def _call(self, method: str, *arguments: Any, **named: Any) -> None:
        for observer in self.observers.all:
            getattr(observer, method)(self, *arguments, **named)

    @property
    def loggers(self) -> list[RunLogger]:
        """The loggers of the run."""
        return self.observers.loggers

    @property
    def lightning_module(self) -> NgramLanguageModel:
        """The model itself: n-grams need no LightningModule."""
        return self.model
