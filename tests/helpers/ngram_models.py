"""Small n-gram models."""

from typing import Any

import numpy as np
import torch

from lyricgen.api.models import WritingModel
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.options import NgramArchitecture, Smoothing
from tests.helpers.ngram_reference import K

VOCABULARY = Vocabulary("\nabc分")

V = 5


def new_model(order: int, smoothing: Smoothing, *, lines: bool = False) -> NgramLanguageModel:
    return NgramLanguageModel(
        NgramArchitecture(
            kind="ngram",
            order=order,
            smoothing=smoothing,
            k=K,
            vocabulary_size=V,
            start_symbol=lines,
        )
    )


def symbols(length: int, *, lines: bool = False, seed: int = 0) -> list[int]:
    """Random text with unequal symbols; each line is a start symbol, symbols and a newline."""
    generator = np.random.default_rng(seed)
    text = (generator.pareto(1, length) * 2).astype(np.int64) % V
    if not lines:
        return text.tolist()  # type: ignore[no-any-return]
    line_ends = np.flatnonzero(text == 0)
    return [s for line in np.split(text, line_ends + 1)[:-1] for s in (V, *line.tolist())]


def fit_model(order: int, smoothing: Smoothing, *, lines: bool = False) -> NgramLanguageModel:
    network = new_model(order, smoothing, lines=lines)
    network.fit(torch.tensor(symbols(400, lines=lines), dtype=torch.uint8))
    return network


def model_of(order: int = 3, smoothing: Smoothing = "kneser_ney", layout: Any = "stream") -> Any:
    return WritingModel(
        fit_model(order, smoothing, lines=layout == "lines"), VOCABULARY, layout, False, {"seed": 1}
    )
