"""Networks and prefixes for tests of single steps."""

from typing import Any

import torch

from lyricgen.models.network import LanguageModel
from tests.helpers.networks import architecture

V = 27


CELLS: dict[str, dict[str, Any]] = {
    "rnn": {"kind": "rnn", "nonlinearity": "tanh"},
    "relu": {"kind": "rnn", "nonlinearity": "relu"},
    "gru": {"kind": "gru"},
    "lstm": {"kind": "lstm", "forget_bias": 1.0},
    "rnn_scratch": {"kind": "rnn_scratch"},
    "gru_before": {"kind": "gru_scratch", "reset": "before"},
    "gru_after": {"kind": "gru_scratch", "reset": "after"},
    "lstm_scratch": {"kind": "lstm_scratch", "forget_bias": None},
}


PREFIXES = [torch.tensor([V, row % V, 7 * row % V][: 1 + row % 3]) for row in range(37)]


def network(cell: str = "lstm", dtype: torch.dtype = torch.float32, **given: Any) -> LanguageModel:
    torch.manual_seed(0)
    options = {"hidden_size": 24, "vocabulary_size": V, **given}
    model = LanguageModel(architecture(CELLS[cell], **options)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
            if parameter.dim() == 1:  # scratch cells' biases may begin at zero
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model
