"""Small models that fill gaps."""

from typing import Any

import torch

from lyricgen.models.network import FillModel
from tests.helpers.networks import architecture

N = 8  # characters to predict


def model_of(cell: str, *, vocabulary_size: int = N + 1, **options: Any) -> FillModel:
    torch.manual_seed(0)
    built = architecture(cell, objective="fill", vocabulary_size=vocabulary_size, **options)
    return FillModel(built).double()
