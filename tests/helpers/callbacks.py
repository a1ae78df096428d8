"""Networks and names for tests of callbacks."""

from typing import Literal

import numpy as np
import torch

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.network import LanguageModel
from lyricgen.models.options import (
    DepthOptions,
    LstmOptions,
    RecurrentArchitecture,
    RecurrentOptions,
)

Layout = Literal["stream", "lines"]


def network_of(vocabulary: Vocabulary, layout: Layout) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(
        RecurrentArchitecture(
            kind="recurrent",
            vocabulary_size=len(vocabulary),
            start_symbol=layout == "lines",
            objective="next",
            layers=1,
            hidden_size=12,
            cell=LstmOptions(kind="lstm", forget_bias=1.0, kernel="torch"),
            depth=DepthOptions(dropout=0.0, residual=False),
            model=RecurrentOptions(
                kind="recurrent",
                input="embedding",
                embedding_size=None,
                tie_weights=False,
                dropout=0.0,
                locked_dropout=False,
                embedding_dropout=0.0,
                weight_drop=0.0,
                noise=0.0,
                noise_kind="unigram",
                init="torch",
                output_bias="zero",
            ),
        )
    )


def names(count: int, seed: int = 0) -> str:
    """Lines of names with patterns that a network and n-grams can learn."""
    generator = np.random.default_rng(seed)
    syllables = ["sau", "rus", "ty", "ra", "no", "don", "tri", "ce"]
    lines = ["".join(generator.choice(syllables, generator.integers(1, 5))) for _ in range(count)]
    return "".join(f"{line}\n" for line in lines)
