"""Small models with fixed probabilities, and the nats of a text."""

from typing import Any

import torch

from lyricgen.api.models import WritingModel
from lyricgen.data.splits import Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.network import LanguageModel
from tests.helpers.networks import architecture


def random_model(
    characters: str,
    layout: Layout = "stream",
    *,
    lowercase: bool = False,
    options: dict[str, Any] | None = None,
) -> WritingModel:
    """Untrained model with large random weights, so that its probabilities differ."""
    torch.manual_seed(0)
    lines = layout != "stream"
    network = LanguageModel(
        architecture("gru", vocabulary_size=len(characters), start_symbol=lines, hidden_size=8)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=1.0 if parameter.dim() > 1 else 0.1)
    return WritingModel(network.eval(), Vocabulary(characters), layout, lowercase, options or {})


def nats(model: WritingModel, prefix: str, text: str) -> float:
    """ln p of the text after its prefix, by one pass over the whole text."""
    new = model.vocabulary.encode(text[len(prefix) :]).tolist()
    ids = [*model.encode_prefix(prefix).tolist(), *new]
    with torch.no_grad():
        logits, _ = model.network(torch.tensor([ids]))
    log_p = torch.log_softmax(logits[0].double(), dim=-1)
    start = len(model.encode_prefix(prefix))
    return float(sum(log_p[place - 1, ids[place]] for place in range(start, len(ids))))
