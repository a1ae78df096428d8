"""The jobs of a sweep that varies only the seed, as one model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lyricgen.console import format_figure, show
from lyricgen.evaluation.ensembles import join_checkpoints
from lyricgen.evaluation.scores import open_checkpoints
from lyricgen.models.metrics import loss_figures
from lyricgen.models.scoring import split_nats


def score_ensemble(directories: Sequence[Path]) -> dict[str, Any]:
    """Score the ensemble of jobs on the held-out splits, and show its perplexities.

    Args:
        directories: of jobs that have learnt the same text.

    Returns:
        The average, the weights of the jobs in their order, and the figures, for summary.json.

    Raises:
        UserError: a checkpoint or the text cannot be read, or the checkpoints cannot be joined.
    """
    ensemble = join_checkpoints(open_checkpoints(directories))
    figures: dict[str, float] = {}
    for name in ("val", "test"):
        if name in ensemble.splits:
            what = f"scoring {name} with the ensemble"
            nats = split_nats(ensemble.model, ensemble.splits[name], what)
            figures |= loss_figures(name, float(np.nanmean(nats)))
    shown = ", ".join(
        f"{name.replace('/', ' ')} {format_figure(value)}"
        for name, value in figures.items()
        if name.endswith("/perplexity")
    )
    show(f"the {len(directories)} jobs as one model ({ensemble.combination} average): {shown}")
    weights = list(ensemble.weights.values())
    return {"combination": ensemble.combination, "weights": weights, **figures}
