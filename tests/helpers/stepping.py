"""Networks and prefixes for tests of single steps."""

from typing import Any

import torch

from lyricgen.models.network import LanguageModel
from tests.helpers.networks import architecture

V = 27
PREFIXES = [torch.tensor([V, row % V, 7 * row % V][: 1 + row % 3]) for row in range(37)]


def network(cell: str = "lstm", dtype: torch.dtype = torch.float32, **given: Any) -> LanguageModel:
    torch.manual_seed(0)
    options = {"hidden_size": 24, "vocabulary_size": V, **given}
    model = LanguageModel(architecture(cell, **options)).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
            if parameter.dim() == 1:  # biases of scratch cells may start at zero
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model
