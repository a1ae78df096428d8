"""Small networks of every cell."""

from typing import Any

import torch
from torch import Tensor

from lyricgen.models.options import RecurrentArchitecture
from lyricgen.options import validate

V, E, H = 5, 3, 4


START = V


CELLS: dict[str, dict[str, Any]] = {
    "rnn": {"kind": "rnn", "nonlinearity": "tanh"},
    "relu": {"kind": "rnn", "nonlinearity": "relu"},
    "gru": {"kind": "gru"},
    "lstm": {"kind": "lstm", "forget_bias": 1.0},
    "lstm_coupled": {"kind": "lstm_coupled", "forget_bias": 1.0, "kernel": "fused"},
    "rnn_scratch": {"kind": "rnn_scratch"},
    "gru_scratch": {"kind": "gru_scratch", "reset": "before"},
    "gru_scratch_after": {"kind": "gru_scratch", "reset": "after"},
    "lstm_scratch": {"kind": "lstm_scratch", "forget_bias": None},
}


def architecture(
    cell: str | dict[str, Any] = "lstm",
    *,
    vocabulary_size: int = V,
    start_symbol: bool = True,
    objective: str = "next",
    layers: int = 1,
    hidden_size: int = H,
    depth_dropout: float = 0.0,
    residual: bool = False,
    **model: Any,
) -> RecurrentArchitecture:
    plain = {
        "kind": "recurrent",
        "input": "embedding",
        "embedding_size": None,
        "tie_weights": False,
        "dropout": 0.0,
        **{"locked_dropout": False, "embedding_dropout": 0.0, "weight_drop": 0.0},
        **{"noise": 0.0, "noise_kind": "unigram"},
        "init": "torch",
        "output_bias": "zero",
    }
    built: RecurrentArchitecture = validate(
        RecurrentArchitecture,
        {
            "kind": "recurrent",
            "vocabulary_size": vocabulary_size,
            "start_symbol": start_symbol,
            "objective": objective,
            "layers": layers,
            "hidden_size": hidden_size,
            "cell": {"kernel": "torch", **(CELLS[cell] if isinstance(cell, str) else cell)},
            "depth": {"dropout": depth_dropout, "residual": residual},
            "model": {**plain, **model},
        },
    )
    return built


def characters(*shape: int, below: int = V + 1, seed: int = 0) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))
