"""The characters that a model would have preferred at each place of a part.

B batch, T time steps, V vocabulary, K alternatives, N symbols of a part, C characters of it.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from lyricgen.data.batch import IGNORED
from lyricgen.data.parts import Part
from lyricgen.evaluation.bootstrap import Floats
from lyricgen.evaluation.scores import Integers, check_finite, read_part
from lyricgen.models.scoring import exact, predict
from lyricgen.models.trained_model import TrainedModel

MOST = 5  # alternatives


class Alternatives(NamedTuple):
    """Each character among those that could have stood there; 0, and nan, where none is predicted.

    Attributes:
        nats: (C,) of the character that stands there.
        ranks: (C,) of that one, 1 for the most probable.
        ids: (C, K) the most probable characters, from the most probable on.
        probabilities: (C, K) of these.
    """

    nats: Floats
    ranks: Integers
    ids: Integers
    probabilities: Floats


def alternatives(model: TrainedModel, part: Part, what: str) -> Alternatives:
    """Read a part once; arguments as for `scores.part_nats`."""
    size, count = len(model.vocabulary), len(part.ids)
    most = min(MOST, size)
    found = Alternatives(
        np.full(count, np.nan),
        np.zeros(count, np.int64),
        np.zeros((count, most), np.int64),
        np.full((count, most), np.nan),
    )
    for batch, logits in read_part(model, part, what, partial(predict, model.network)):
        counted = batch.targets != IGNORED  # (B, T)
        positions = (batch.starts[:, None] + torch.arange(1, 1 + counted.shape[1]))[counted]
        certain = exact(logits[counted]).log_softmax(dim=-1)  # (M, V)
        own = certain.gather(1, batch.targets[counted][:, None])  # (M, 1)
        top = certain.topk(most)
        check_finite(own, what)
        found.nats[positions] = -own[:, 0].double()
        found.ranks[positions] = 1 + (certain > own).sum(dim=1)
        found.ids[positions] = top.indices
        found.probabilities[positions] = top.values.exp()
    if part.line_starts is None:
        return found
    characters = (part.ids < size).numpy()
    return Alternatives(*(values[characters] for values in found))
