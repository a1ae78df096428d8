"""All models: recurrent networks, told apart by their objective, and counted n-grams."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lyricgen.models.fill_model import FillModel
from lyricgen.models.network import LanguageModel
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.options import (
    RecurrentArchitecture,
)

NextModel = LanguageModel | NgramLanguageModel  # those that predict the next character
Model = NextModel | FillModel


def recurrent(architecture: RecurrentArchitecture) -> LanguageModel | FillModel:
    """The recurrent network for an objective, with its initial weights."""
    fills = architecture.objective == "fill"
    return FillModel(architecture) if fills else LanguageModel(architecture)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back at the end."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
