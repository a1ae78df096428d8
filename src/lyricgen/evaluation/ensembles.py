"""The ensemble of the checkpoints that are evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lyricgen.evaluation.intervals import Kind
from lyricgen.evaluation.scores import CheckpointWithText
from lyricgen.generation.ensembles import join_models
from lyricgen.models.architectures import Averaging


@dataclass(frozen=True)
class Ensemble(CheckpointWithText):
    """Checkpoints of one text, joined as one model."""

    kind: ClassVar[Kind] = "ensemble"

    combination: Averaging
    weights: dict[str, float]  # by the labels of the checkpoints


def join_checkpoints(checkpoints: Sequence[CheckpointWithText]) -> Ensemble:
    """Join checkpoints of one text; `generation.ensembles.join_models` explains the errors."""
    first = checkpoints[0]
    joined = join_models([each.model for each in checkpoints], first.splits)
    labels = [each.label for each in checkpoints]
    return Ensemble(
        *(joined.model.network.description, first.path, joined.model),
        *(first.options, first.corpus, first.splits),
        joined.combination,
        dict(zip(labels, joined.weights, strict=True)),
    )
