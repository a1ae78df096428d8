"""N-grams of a hybrid model among the tensors of its state dict."""

from typing import Any, Protocol

import torch
from torch import Tensor

from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.options import HybridArchitecture

NGRAM = "ngram."  # begins the names of the n-gram model's tensors


class HoldsNgrams(Protocol):
    """A hybrid model."""

    architecture: HybridArchitecture

    @property
    def ngram(self) -> NgramLanguageModel:
        """The n-gram model."""
        ...

    def take_ngram(self, ngram: NgramLanguageModel, bias: Tensor | None) -> None:
        """Replace the n-gram model; `bias` is that of the weights, if it is known."""
        ...


def add_ngrams(model: HoldsNgrams, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    """Add the tensors of the n-gram model to a state dict."""
    for name, tensor in model.ngram.state_dict().items():
        tensors[f"{prefix}{NGRAM}{name}"] = tensor


def take_ngrams(model: HoldsNgrams, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take the tensors of the n-gram model from a state dict, and build it."""
    start = f"{prefix}{NGRAM}"
    found = {name: tensors.pop(name) for name in list(tensors) if name.startswith(start)}
    tables = {name.removeprefix(start): tensor for name, tensor in found.items()}
    tensors.setdefault(f"{prefix}shift", torch.zeros(()))  # models of earlier versions lack it
    ngram = NgramLanguageModel.from_tensors(model.architecture.ngram, tables)
    model.take_ngram(ngram, tensors.get(f"{prefix}on_hidden.bias"))
