"""Small models, and nats computed one character at a time."""

import math
from itertools import pairwise
from typing import Any

import torch

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.options import NgramArchitecture
from lyricgen.models.trained_model import TrainedModel
from tests.helpers.checkpoints import model_of
from tests.helpers.fill_models import model_of as fill_model

VOCABULARY = Vocabulary("\n abcdé分开")


def model(layout: Any = "stream", cell: str = "gru", **options: Any) -> TrainedModel:
    return model_of(cell, layout=layout, vocabulary=VOCABULARY, **options)


def nats_one_by_one(model: TrainedModel, text: str) -> list[float]:
    """Nats of each character by single steps; NaN for the first one of a text without lines."""
    found = []
    pieces = [text] if model.layout == "stream" else text.splitlines(keepends=True)
    for piece in pieces:
        ids = VOCABULARY.encode(piece).long()
        if model.layout == "lines":
            ids = torch.cat([torch.tensor([len(VOCABULARY)]), ids])
        else:
            found.append(math.nan)
        state = None
        for before, after in pairwise(ids):
            with torch.no_grad():
                logits, state = model.network(before[None, None], state)  # type: ignore[call-arg]
            exact = logits[0, 0].double()
            found.append(float(exact.logsumexp(0) - exact[after]))
    return found


def ngram_model() -> TrainedModel:
    described = NgramArchitecture(
        kind="ngram", order=3, smoothing="kneser_ney", k=1.0,
        vocabulary_size=len(VOCABULARY), start_symbol=False,
    )  # fmt: skip
    network = NgramLanguageModel(described)
    network.fit(VOCABULARY.encode("ab分开 ab分cd\n" * 4).long())
    return TrainedModel(network, VOCABULARY, "stream", lowercase=False)


def filling_model() -> TrainedModel:
    network = fill_model("gru", vocabulary_size=len(VOCABULARY))
    return TrainedModel(network, VOCABULARY, "stream", lowercase=False)
