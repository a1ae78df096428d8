"""Perplexity of n-gram models on the same characters, and of their mixture with the network."""

import logging
import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lyricgen.data.batch import Batch
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.models.metrics import best_mixture_weight, mixture_nats, perplexity
from lyricgen.models.model import place
from lyricgen.models.ngram.baseline import NgramBaseline
from lyricgen.models.options import Interpolated
from lyricgen.training.callbacks.record import record
from lyricgen.training.recurrent_module import RecurrentModule

log = logging.getLogger(__name__)

SMOOTHINGS: tuple[Interpolated, ...] = ("kneser_ney", "witten_bell")


class Baseline(pl.Callback):
    """N-gram models of the training part, scored once on the characters the network is scored on.

    They are counted when they are first needed, so that training starts at once. The best
    Kneser-Ney order on validation is the line `val/ngram_perplexity`. After training,
    `Trainer.validate` then `Trainer.test` give the linear mixture of both models' probabilities,
    its weight tuned on validation, on the same characters; n-grams are mixed with no other n-grams.

    Args:
        max_order: the longest n-grams.
        max_chars: count only the last so many characters of the training part, those next to a
            text's held-out parts, and of a list of lines whole lines; None for all.
    """

    def __init__(self, max_order: int, max_chars: int | None = None) -> None:
        self.max_order = max_order
        self.max_chars = max_chars
        self.characters = 0  # counted
        self.sampled = False  # the training part has more
        self.perplexities: dict[str, dict[str, list[float]]] = {}  # part, smoothing: by order
        self.best_order = 0
        self.network_weight: float | None = None
        self._nats: dict[str, Tensor] = {}  # part: (N,) of the best order, nan where not scored
        self._network_nats: Tensor | None = None  # (N,), likewise

    def count(self, datamodule: CharacterDataModule) -> None:
        """Count the training part and score the held-out ones."""
        parts, size = datamodule.parts, len(datamodule.vocabulary)
        held_out = [part for part in parts if part != "train"]
        if not held_out:
            return
        ngrams = NgramBaseline(parts, size, self.max_order, self.max_chars)
        self.characters, self.sampled = ngrams.characters, ngrams.sampled
        self.perplexities = {part: {each: [] for each in SMOOTHINGS} for part in held_out}
        for smoothing in SMOOTHINGS:
            for scored in ngrams.nats_by_order(smoothing):
                for part, nats in scored.items():
                    mean = float(nats.nanmean())
                    self.perplexities[part][smoothing].append(perplexity(mean))
                if smoothing == "kneser_ney" and self._is_best_yet():
                    self.best_order = len(self.perplexities[held_out[0]][smoothing])
                    self._nats = scored

    def _is_best_yet(self) -> bool:
        """Whether the order scored last is the best on validation; the test part never says."""
        orders = self.perplexities.get("val", {"kneser_ney": []})["kneser_ney"]
        return not orders or orders[-1] < min(orders[:-1], default=math.inf)

    def best_perplexity(self, part: str) -> float:
        """Perplexity of the best order on a held-out part."""
        return self.perplexities[part]["kneser_ney"][self.best_order - 1]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the line that the network has to get below."""
        del pl_module
        if "val" in self._nats:
            record(trainer, {"val/ngram_perplexity": self.best_perplexity("val")})
        if "val" in self._nats and self._network_nats is not None:
            network, ngram = self._scored("val")
            self.network_weight = best_mixture_weight(network, ngram)
            self._record_mixture(trainer, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare on the test part."""
        del pl_module
        if "test" in self._nats:
            record(trainer, {"test/ngram_perplexity": self.best_perplexity("test")})
            if self.network_weight is not None:
                self._record_mixture(trainer, "test")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count if need be; keep every character's nats when this is not part of training."""
        self._count_once(trainer)
        wanted = trainer.state.fn != "fit" and isinstance(pl_module, RecurrentModule)
        self._network_nats = _room(self._nats["val"]) if wanted and "val" in self._nats else None

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count if need be; keep every character's nats."""
        self._count_once(trainer)
        wanted = isinstance(pl_module, RecurrentModule)
        self._network_nats = _room(self._nats["test"]) if wanted and "test" in self._nats else None

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Collect."""
        del trainer, pl_module
        self._collect(outputs, batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Collect."""
        del trainer, pl_module
        self._collect(outputs, batch)

    def _count_once(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and not self.perplexities:
            self.count(trainer.datamodule)  # type: ignore[attr-defined]

    def _collect(self, nats: Tensor, batch: Batch) -> None:
        if self._network_nats is not None:
            place(nats, batch, self._network_nats)

    def _scored(self, part: str) -> tuple[Tensor, Tensor]:
        """Both models' nats, at the characters that the network has scored."""
        if self._network_nats is None:
            raise RuntimeError("the network's nats were not collected")
        scored = ~self._network_nats.isnan()
        return self._network_nats[scored], self._nats[part][scored]

    def _record_mixture(self, trainer: pl.Trainer, part: str) -> None:
        if self.network_weight is None:
            return
        mixed = mixture_nats(self.network_weight, *self._scored(part))
        record(trainer, {f"{part}/mixture_perplexity": perplexity(float(mixed.mean()))})


def _room(like: Tensor) -> Tensor:
    return torch.full_like(like, torch.nan)
