"""Small models that fill gaps."""

from typing import Any

import torch

from lyricgen.models.network import FillModel
from tests.helpers.networks import architecture

CELLS: dict[str, dict[str, Any]] = {
    "rnn": {"kind": "rnn", "nonlinearity": "tanh"},
    "gru": {"kind": "gru"},
    "lstm": {"kind": "lstm", "forget_bias": 1.0},
    "rnn_scratch": {"kind": "rnn_scratch"},
    "gru_scratch": {"kind": "gru_scratch", "reset": "before"},
    "gru_scratch, after": {"kind": "gru_scratch", "reset": "after"},
    "lstm_scratch": {"kind": "lstm_scratch", "forget_bias": None},
}


N = 8  # characters to predict


def model_of(cell: str, *, vocabulary_size: int = N + 1, **options: Any) -> FillModel:
    torch.manual_seed(0)
    built = architecture(CELLS[cell], objective="fill", vocabulary_size=vocabulary_size, **options)
    return FillModel(built).double()
