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
from lyricgen.models.ngram.baseline import NgramBaseline
from lyricgen.models.options import Interpolated
from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.options import BaselineOptions

SMOOTHINGS: tuple[Interpolated, ...] = ("kneser_ney", "witten_bell")


class Baseline(Observer):
    """N-gram models of the training part, scored once on the characters the network is scored on.

    They are counted when they are first needed, so that training starts at once. The best
    Kneser-Ney order on validation is the line `val/ngram_perplexity`. After training,
    `Trainer.validate` then `Trainer.test` give the linear mixture of both models' probabilities,
    its weight tuned on validation, on the same characters.

    Args:
        state: of the run, whose metrics get the figures.
        options: the longest n-grams, and the number of characters that are counted: the last of
            the training part, next to a text's held-out parts, and of a list of lines whole lines.
        mixed: whether there is a mixture; n-grams are mixed with no other n-grams.
    """

    def __init__(self, state: RunState, options: BaselineOptions, *, mixed: bool = True) -> None:
        self._state = state
        self._mixed = mixed
        self._options = options
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
        ngrams = NgramBaseline(parts, size, self._options.max_order, self._options.max_chars)
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

    def _start(self, part: str, trainer: pl.Trainer, *, mixed: bool) -> None:
        """Count if need be; for a mixture, keep the network's nats of every character."""
        if trainer.is_global_zero and not self.perplexities:
            self.count(trainer.datamodule)  # type: ignore[attr-defined]
        self._network_nats = None
        if mixed and self._mixed and part in self._nats:
            self._network_nats = torch.full_like(self._nats[part], torch.nan)

    def _collect(self, nats: Tensor, batch: Batch) -> None:
        if self._network_nats is not None:
            place(nats, batch, self._network_nats)

    def _record(self, part: str) -> None:
        if part not in self._nats:
            return
        best = self.perplexities[part]["kneser_ney"][self.best_order - 1]
        self._state.metrics[f"{part}/ngram_perplexity"] = best
        if self._network_nats is not None and self.network_weight is not None:
            mixed = mixture_nats(self.network_weight, *self._scored(part))
            self._state.metrics[f"{part}/mixture_perplexity"] = perplexity(float(mixed.mean()))

    def _scored(self, part: str) -> tuple[Tensor, Tensor]:
        """Both models' nats, at the characters that the network has scored."""
        if self._network_nats is None:
            raise RuntimeError("the network's nats were not collected")
        scored = ~self._network_nats.isnan()
        return self._network_nats[scored], self._nats[part][scored]
