"""Perplexity of n-gram models on the same characters, and of their mixture with the network."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lyricgen.data.batch import Batch
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.models.metrics import best_mixture_weight, mixture_nats, perplexity
from lyricgen.models.model import place
from lyricgen.models.ngram.language_model import NgramBaseline
from lyricgen.models.options import Interpolated
from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.options import BaselineOptions

SMOOTHINGS: tuple[Interpolated, ...] = ("kneser_ney", "witten_bell")


class Baseline(Observer):
    """N-gram models of the training split, scored once on the characters the network is scored on.

    They are counted when they are first needed, so that training starts at once. The best
    Kneser-Ney order on validation is the line `val/ngram_perplexity`. After training,
    `Trainer.validate` then `Trainer.test` give the linear mixture of both models' probabilities,
    its weight tuned on validation, on the same characters.

    Args:
        state: of the run, whose metrics get the figures.
        options: the longest n-grams, and the number of characters to count: the last ones of the
            training split, and whole lines of a list.
        mixed: whether there is a mixture; n-grams are mixed with no other n-grams.
    """

    def __init__(self, state: RunState, options: BaselineOptions, *, mixed: bool = True) -> None:
        self._state = state
        self._mixed = mixed
        self._options = options
        self.characters = 0  # counted
        self.sampled = False  # the training split has more
        self.perplexities: dict[str, dict[str, list[float]]] = {}  # split, smoothing: by order
        self.best_order = 0
        self.network_weight: float | None = None
        self._nats: dict[str, Tensor] = {}  # split: (N,) of the best order, nan where not scored
        self._network_nats: Tensor | None = None  # (N,), likewise

    def count(self, datamodule: CharacterDataModule) -> None:
        """Count the training split and score the held-out ones."""
        splits, size = datamodule.splits, len(datamodule.vocabulary)
        held_out = [split for split in splits if split != "train"]
        if not held_out:
            return
        ngrams = NgramBaseline(splits, size, self._options.max_order, self._options.max_chars)
        self.characters, self.sampled = ngrams.characters, ngrams.sampled
        self.perplexities = {split: {each: [] for each in SMOOTHINGS} for split in held_out}
        for smoothing in SMOOTHINGS:
            for scored in ngrams.nats_by_order(smoothing):
                for split, nats in scored.items():
                    mean = float(nats.nanmean())
                    self.perplexities[split][smoothing].append(perplexity(mean))
                if smoothing == "kneser_ney" and self._is_best_yet():
                    self.best_order = len(self.perplexities[held_out[0]][smoothing])
                    self._nats = scored

    def _is_best_yet(self) -> bool:
        """Whether the order scored last is the best on validation; the test split never says."""
        orders = self.perplexities.get("val", {"kneser_ney": []})["kneser_ney"]
        return not orders or orders[-1] < min(orders[:-1], default=math.inf)

    def figures(self) -> dict[str, Any]:
        """Plain figures for summary.json; empty where nothing was counted."""
        if not self.perplexities:
            return {}
        return {
            "ngram_order": self.best_order,
            "ngram_perplexities": self.perplexities,
            "ngram_characters": self.characters,
            "ngram_sampled": self.sampled,
            "mixture_network_weight": self.network_weight,
        }

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("val", trainer, mixed=trainer.state.fn != "fit")

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start("test", trainer, mixed=True)

    @override
    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._collect(outputs, batch)

    @override
    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._collect(outputs, batch)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if "val" in self._nats and self._network_nats is not None:
            self.network_weight = best_mixture_weight(*self._scored("val"))
        self._record("val")

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._record("test")

    def _start(self, split: str, trainer: pl.Trainer, *, mixed: bool) -> None:
        """Count if need be; for a mixture, keep the network's nats of every character."""
        if trainer.is_global_zero and not self.perplexities:
            self.count(trainer.datamodule)  # type: ignore[attr-defined]
        self._network_nats = None
        if mixed and self._mixed and split in self._nats:
            self._network_nats = torch.full_like(self._nats[split], torch.nan)

    def _collect(self, nats: Tensor, batch: Batch) -> None:
        if self._network_nats is not None:
            place(nats, batch, self._network_nats)

    def _record(self, split: str) -> None:
        if split not in self._nats:
            return
        best = self.perplexities[split]["kneser_ney"][self.best_order - 1]
        self._state.metrics[f"{split}/ngram_perplexity"] = best
        if self._network_nats is not None and self.network_weight is not None:
            mixed = mixture_nats(self.network_weight, *self._scored(split))
            self._state.metrics[f"{split}/mixture_perplexity"] = perplexity(float(mixed.mean()))

    def _scored(self, split: str) -> tuple[Tensor, Tensor]:
        """Both models' nats, at the characters that the network has scored."""
        if self._network_nats is None:
            raise RuntimeError("the network's nats were not collected")
        scored = ~self._network_nats.isnan()
        return self._network_nats[scored], self._nats[split][scored]
