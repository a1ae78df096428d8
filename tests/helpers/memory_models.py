"""Small models with a memory."""

from typing import Any

import torch

from lyricgen.api.models import WritingModel
from lyricgen.data.options import RecallOptions
from lyricgen.models.memory_model import MemoryModel, add_memory
from lyricgen.models.model import NextModel
from tests.helpers import hybrid_models
from tests.helpers.checkpoints import OPTIONS, VOCABULARY

RECALL = RecallOptions(recent=5, orders=(1, 2, 4), occurrences=3, size=1000, scope="split")


def network_of(
    network: NextModel, recall: RecallOptions = RECALL, *, reads_hidden: bool = False
) -> MemoryModel:
    """Give a memory with random weights to a network."""
    model = add_memory(network, recall, VOCABULARY, reads_hidden=reads_hidden)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.memory.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return model.eval()


def model_of(layout: Any = "stream") -> WritingModel:
    network = network_of(hybrid_models.network_of(layout, std=0.3), reads_hidden=True)
    return WritingModel(network, VOCABULARY, layout, False, OPTIONS)
