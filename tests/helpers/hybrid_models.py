"""Small hybrid models."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lyricgen.api.models import WritingModel
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.ngram.distributions import Logs
from lyricgen.models.options import Combination, HybridArchitecture, NgramArchitecture
from tests.helpers.checkpoints import OPTIONS, VOCABULARY
from tests.helpers.networks import architecture


def random_ids(size: int, *, lines: bool, length: int = 400) -> Tensor:
    """Random text with unequal symbols; each line is a start symbol, symbols and a newline, 0."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, size, length) * draw.integers(0, 2, length)
    if lines:
        ends = np.flatnonzero(ids == 0) + 1
        ids = np.concatenate([[size, *line] for line in np.split(ids[: ends[-1]], ends[:-1])])
    return torch.from_numpy(ids)


def probabilities_of(logs: Logs) -> list[Tensor]:
    """Compute the distributions of all orders, (M, V) each."""
    found = [logs.table[rows] for rows in logs.table_rows.unbind(1)]
    for count, index, change in logs.changes:
        assert int(count.sum()) == len(index)
        higher = found[-1].clone()
        higher.view(-1)[index] += change
        found.append(higher)
    return [each.softmax(-1) for each in found]


def network_of(
    layout: str = "stream",
    *,
    order: int = 3,
    vocabulary: Vocabulary = VOCABULARY,
    cell: str = "lstm",
    combination: Combination = "mixture",
    short_list: int | None = None,
    std: float = 1.0,
    **options: Any,
) -> HybridModel:
    """Make a hybrid network with random weights and the n-grams of `random_ids`."""
    size, lines = len(vocabulary), layout == "lines"
    described = architecture(
        cell, vocabulary_size=size, start_symbol=lines, **{"hidden_size": 12, **options}
    )
    ngram = NgramArchitecture(
        kind="ngram", order=order, smoothing="kneser_ney", k=1.0,
        vocabulary_size=size, start_symbol=lines,
    )  # fmt: skip
    listed = None if short_list is None else tuple(range(1, 2 + short_list))
    torch.manual_seed(0)
    model = HybridModel(
        HybridArchitecture(
            kind="hybrid",
            network=described,
            ngram=ngram,
            short_list=listed,
            combination=combination,
            network_loss=0.3,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std if parameter.dim() > 1 else 0.1)
    model.ngram.fit(random_ids(size, lines=lines))
    return model.eval()


def model_of(layout: Any = "stream", **options: Any) -> WritingModel:
    vocabulary = options.get("vocabulary", VOCABULARY)
    return WritingModel(network_of(layout, **options), vocabulary, layout, False, OPTIONS)
