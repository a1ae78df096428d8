"""The ensemble of the checkpoints that are evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from lyricgen.data.build import build_splits
from lyricgen.data.corpus import recode
from lyricgen.evaluation.intervals import Kind
from lyricgen.evaluation.scores import CheckpointWithText, check_together, open_checkpoints
from lyricgen.generation.ensembles import join_models
from lyricgen.models.architectures import Averaging
from lyricgen.models.ensemble import EnsembleModel
from lyricgen.models.metrics import loss_figures
from lyricgen.models.scoring import split_nats
from lyricgen.runs.summary import EnsembleSummary, RunSummary


@dataclass(frozen=True)
class Ensemble(CheckpointWithText):
    """Checkpoints of one text, joined as one model."""

    kind: ClassVar[Kind] = "ensemble"

    combination: Averaging
    weights: dict[str, float]  # by the labels of the checkpoints


def join_checkpoints(checkpoints: Sequence[CheckpointWithText]) -> Ensemble:
    """Join checkpoints of one text.

    Raises:
        UserError: there is only one checkpoint; or as for `generation.ensembles.join_models`.
    """
    check_together(checkpoints)
    first = checkpoints[0]
    models = [each.model for each in checkpoints]
    alike = all(one.vocabulary == models[0].vocabulary for one in models)
    model = join_models(models, first.splits if alike else None)
    corpus, splits = recode(first.corpus, model.vocabulary), first.splits
    if not alike:
        splits = build_splits(first.options, corpus, model.layout)
    chosen = cast(EnsembleModel, model.network).architecture
    weights = {each.label: one for each, one in zip(checkpoints, chosen.weights, strict=True)}
    known = vars(first) | {"label": model.network.description, "model": model}
    known |= {"corpus": corpus, "splits": splits}
    return Ensemble(**known, combination=chosen.combination, weights=weights)


def score_together(jobs: Mapping[Path, RunSummary]) -> EnsembleSummary:
    """Score the best checkpoints of jobs on one text as one model on the held-out splits.

    Args:
        jobs: summaries by the directories of the jobs.

    Raises:
        UserError: a checkpoint or the text cannot be read, or the checkpoints cannot be joined.
    """
    ensemble = join_checkpoints(open_checkpoints(list(jobs)))
    found: dict[str, Any] = {
        "combination": ensemble.combination,
        "weights": list(ensemble.weights.values()),
        "losses": [one.metrics.get("val/loss") for one in jobs.values()],
    }
    for name, split in ensemble.splits.items():
        if name != "train":
            nats = split_nats(ensemble.model, split, f"scoring {name} with the ensemble")
            found |= loss_figures(name, float(np.nanmean(nats)))
    return EnsembleSummary.model_validate(found)
