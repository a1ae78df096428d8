"""Train an n-gram model in one step of one epoch, without Lightning's Trainer.

T characters in a piece of the training split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from pytorch_lightning.loggers import Logger
from typing_extensions import override

from lyricgen.models.card import card
from lyricgen.models.cells.cell import State
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.training.build import trained_model
from lyricgen.training.build_trainer import Training
from lyricgen.training.totals import NatsTotal, score_split

PIECE = 2**20  # characters of the training split that are scored at once


@dataclass
class Counting(Training):
    """Run of an n-gram model.

    It stands in for Lightning's Trainer: it has the attributes that observers read from a Trainer.
    """

    model: NgramLanguageModel
    total: NatsTotal  # total of the training split
    loggers: Sequence[Logger]
    global_step: int = 0
    should_stop: bool = False

    current_epoch: ClassVar = 0
    max_epochs: ClassVar = 1
    num_training_batches: ClassVar = 1
    is_last_batch: ClassVar = True
    is_global_zero: ClassVar = True
    optimizers: ClassVar = ()
    strategy: ClassVar = SimpleNamespace(root_device=torch.device("cpu"))

    @override
    def fit(self, checkpoint: Path | None) -> None:
        """Fit the model to the training split, then score the training and validation splits.

        `checkpoint` is ignored: a resumed run starts anew.
        """
        status = "failed"
        try:
            self._fit()
            status = "success"
        except BaseException as error:
            self._call("on_exception", None, error)
            raise
        finally:
            for logger in self.loggers:
                logger.finalize(status)

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
            self._call("on_validation_start", None)
            state.metrics |= score_split(self.model, self.datamodule, "val")
            self._call("on_validation_end", None)
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
            self.total.add(nats[predicted], int(predicted.sum()))

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
    def lightning_module(self) -> NgramLanguageModel:
        """The model itself: n-grams need no LightningModule."""
        return self.model
