"""Perplexity of n-gram models on held-out text, and of their mixture with the network."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from typing_extensions import override

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.models.metrics import best_mixture_weight, mixture_nats, perplexity
from lyricgen.models.ngram.language_model import NgramBaseline
from lyricgen.models.options import Interpolated
from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.observer_options import BaselineOptions

SMOOTHINGS: tuple[Interpolated, ...] = ("kneser_ney", "witten_bell")


@dataclass(eq=False)
class Baseline(Observer):
    """Counts n-grams of the training split, and scores the held-out splits with them.

    It counts once, at the first validation, or after training if there is no validation. The
    metrics get the perplexity of one Kneser-Ney order: the best on the validation split, or the
    highest order without this split. After training, `record` mixes this order with the network.
    The validation split determines the weight of the network; without it there is no mixture.
    """

    state: RunState
    options: BaselineOptions
    least_order: int  # highest order to count at least, that of the model's own n-grams
    characters: int = 0  # characters at the end of the training split whose n-grams are counted
    sampled: bool = False  # whether the training split has more characters
    perplexities: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By split, smoothing and order."""
    best_order: int = 0
    network_weight: float | None = None
    nats: dict[str, Tensor] = field(default_factory=dict)
    """By split, (N,) of the best order; nan for characters that are not scored."""

    def count(self, datamodule: CharacterDataModule) -> None:
        """Count the training split and score the held-out splits; later calls do nothing."""
        splits, size = datamodule.splits, len(datamodule.vocabulary)
        held_out = [split for split in splits if split != "train"]
        if self.perplexities or not held_out:
            return
        max_order = max(self.options.max_order, self.least_order)
        ngrams = NgramBaseline(splits, size, max_order, self.options.max_chars)
        self.characters, self.sampled = ngrams.characters, ngrams.sampled
        self.perplexities = {split: {each: [] for each in SMOOTHINGS} for split in held_out}
        for smoothing in SMOOTHINGS:
            for of_order in ngrams.nats_by_order(smoothing):
                scored = {
                    split: datamodule.vocabulary.charge_rare(nats, splits[split].ids)
                    for split, nats in of_order.items()
                }
                for split, nats in scored.items():
                    mean = float(nats.nanmean())
                    self.perplexities[split][smoothing].append(perplexity(mean))
                if smoothing == "kneser_ney" and self._is_best_yet():
                    self.best_order = len(self.perplexities[held_out[0]][smoothing])
                    self.nats = scored

    def _is_best_yet(self) -> bool:
        """Whether the newest order is the best so far on validation; true without validation."""
        orders = self.perplexities.get("val", {"kneser_ney": []})["kneser_ney"]
        return not orders or orders[-1] < min(orders[:-1], default=math.inf)

    def figures(self) -> dict[str, Any]:
        """Figures for summary.json besides the metrics; empty if no n-grams were counted."""
        if not self.perplexities:
            return {}
        return {
            "ngram_order": self.best_order,
            "ngram_perplexities": self.perplexities,
            "ngram_characters": self.characters,
            "ngram_sampled": self.sampled,
            "mixture_network_weight": self.network_weight,
        }

    def record(self, split: str, network_nats: Tensor | None = None) -> None:
        """Add the figures of a held-out split to the metrics, if the n-grams are counted.

        Args:
            split: "val" or "test"; "val" comes first, since it sets the weight of the mixture.
            network_nats: (N,) nats of the network, nan for a character without a score; None for
                no mixture.
        """
        if split not in self.nats:
            return
        best = self.perplexities[split]["kneser_ney"][self.best_order - 1]
        self.state.metrics[f"{split}/ngram_perplexity"] = best
        if network_nats is None:
            return
        scored = ~network_nats.isnan()
        both = network_nats[scored], self.nats[split][scored]
        if split == "val":
            self.network_weight = best_mixture_weight(*both)
        if self.network_weight is not None:
            mixed = perplexity(float(mixture_nats(self.network_weight, *both).mean()))
            self.state.metrics[f"{split}/mixture_perplexity"] = mixed

    @override
    def before_validation(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            self.count(trainer.datamodule)  # type: ignore[attr-defined]

    @override
    def after_scoring(self, trainer: pl.Trainer) -> None:
        self.record("val")
