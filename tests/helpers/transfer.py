"""Two vocabularies, and networks that share weights."""

from typing import Any

import torch
from torch import Tensor

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.network import LanguageModel
from lyricgen.models.trained_model import TrainedModel
from tests.helpers.networks import architecture

OLD, NEW = Vocabulary("abcdef"), Vocabulary("\nacfz")


SHARED = "acf"


H = 4


def network(
    vocabulary: Vocabulary, cell: str = "gru", *, start: bool = False, seed: int = 0, **options: Any
) -> LanguageModel:
    torch.manual_seed(seed)
    described = architecture(
        cell,
        vocabulary_size=len(vocabulary),
        start_symbol=start,
        hidden_size=options.pop("hidden_size", H),
        layers=options.pop("layers", 2),
        **options,
    )
    return LanguageModel(described).double()


def source_model(vocabulary: Vocabulary = OLD, *arguments: Any, **options: Any) -> TrainedModel:
    start = options.get("start", False)
    built = network(vocabulary, *arguments, seed=1, **options)
    with torch.no_grad():  # an initial bias of the forget gate would hide a missing copy
        for parameter in built.parameters():
            parameter.normal_()
    return TrainedModel(built, vocabulary, "lines" if start else "stream", False)


def clone_weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
