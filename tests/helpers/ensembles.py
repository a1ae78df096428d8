"""Small ensembles of networks, n-grams and hybrid models."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lyricgen.api.models import WritingModel
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.architectures import Averaging, EnsembleArchitecture
from lyricgen.models.ensemble import EnsembleModel
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.options import NgramArchitecture
from lyricgen.options import validate
from tests.helpers import hybrid_models
from tests.helpers.checkpoints import OPTIONS, VOCABULARY, model_of
from tests.helpers.hybrid_models import random_ids

MORE = Vocabulary.of("\n !abcdeéxy分开雨")
WEIGHTS = (0.5, 0.2, 0.3)
Floats = npt.NDArray[np.float64]


def ngram_of(layout: str, size: int) -> NgramLanguageModel:
    lines = layout == "lines"
    model = NgramLanguageModel(
        NgramArchitecture(
            kind="ngram", order=3, smoothing="kneser_ney", k=1.0,
            vocabulary_size=size, start_symbol=lines,
        )
    )  # fmt: skip
    model.fit(random_ids(size, lines=lines))
    return model.eval()


def network_of(
    combination: Averaging = "arithmetic",
    layout: Any = "stream",
    *,
    mapped: bool = False,
    weights: tuple[float, ...] = WEIGHTS,
) -> EnsembleModel:
    """Make an ensemble of a GRU, n-grams and a hybrid model; the GRU may know more characters."""
    known = MORE if mapped else VOCABULARY
    members = [
        model_of("gru", layout=layout, vocabulary=known, layers=2).next_model,
        ngram_of(layout, len(VOCABULARY)),
        hybrid_models.network_of(layout, std=0.3),
    ]
    ids = known.encode(VOCABULARY.characters).tolist() if mapped else None
    architecture: EnsembleArchitecture = validate(
        EnsembleArchitecture,
        {
            "kind": "ensemble",
            "vocabulary_size": len(VOCABULARY),
            "members": [member.architecture for member in members],
            "weights": weights,
            "combination": combination,
            "ids": [ids, None, None],
        },
    )
    return EnsembleModel(architecture, members).eval()


def writing_model_of(
    combination: Averaging = "arithmetic", layout: Any = "stream", **options: Any
) -> WritingModel:
    network = network_of(combination, layout, **options)
    return WritingModel(network, VOCABULARY, layout, False, OPTIONS)


def average(parts: list[Floats], weights: Any, combination: str) -> Floats:
    """Average distributions, (…, V) each, as the formulas say."""
    if combination == "arithmetic":
        return np.asarray(sum(w * part for w, part in zip(weights, parts, strict=True)))
    product = np.prod([part**w for w, part in zip(weights, parts, strict=True)], axis=0)
    return np.asarray(product / product.sum(-1, keepdims=True))


def distributions(model: EnsembleModel, ids: Tensor, *, mapped: bool = False) -> list[Floats]:
    """Compute the distribution of each member, (B, T, V), restricted to `VOCABULARY` by hand."""
    found = []
    for number, member in enumerate(model.models):
        other = mapped and number == 0
        places = [MORE.characters.index(one) for one in VOCABULARY.characters]
        read = torch.tensor([*places, len(MORE)])[ids] if other else ids
        with torch.no_grad():
            logits = member(read)[0].double().numpy()
        exact = np.exp(logits - logits.max(-1, keepdims=True))
        exact = exact[..., places] if other else exact
        found.append(exact / exact.sum(-1, keepdims=True))
    return found
