"""Figures of checkpoints and baselines on the parts of a text, with intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from lyricgen.console import progress
from lyricgen.evaluation.bootstrap import Floats, resampled_totals
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.evaluation.comparison import prefix_of
from lyricgen.evaluation.estimates import Row, Series, row
from lyricgen.evaluation.scores import PartText, part_nats, without_starts
from lyricgen.models.metrics import best_mixture_weight, mixture_nats
from lyricgen.models.ngram.baseline import NgramBaseline
from lyricgen.models.ngram.language_model import NgramLanguageModel

ORDERS = 5


class Ngrams(NamedTuple):
    """Kneser-Ney models of the training part on the held-out parts."""

    nats: dict[str, list[Floats]]  # by part: of each order from 1 up, (C,)
    best: int | None  # the order that is best on validation, where there is such a part
    characters: int  # that were counted


def count_ngrams(evaluated: Evaluated) -> Ngrams:
    """Count the training part, and score the held-out ones with the models of every order."""
    parts, size = evaluated.parts, len(evaluated.corpus.vocabulary)
    max_chars = evaluated.model.options["callbacks"]["baseline"]["max_chars"]
    baseline = NgramBaseline(parts, size, ORDERS, max_chars)
    nats: dict[str, list[Floats]] = {part: [] for part in parts if part != "train"}
    for scored in baseline.nats_by_order("kneser_ney"):
        for part, of_part in scored.items():
            nats[part].append(without_starts(of_part, parts[part], size))
    best = None
    if "val" in nats:
        best = int(np.argmin([np.nanmean(each) for each in nats["val"]])) + 1
    return Ngrams(nats, best, baseline.characters)


def mixture_weights(
    evaluated: Sequence[Evaluated], validation: Sequence[Series], ngrams: Ngrams
) -> dict[str, float]:
    """The share of each network in its mixture with the best n-gram model, tuned on validation.

    N-grams are mixed with no other n-grams.
    """
    weights = {}
    for each, series in zip(evaluated, validation, strict=False):
        if ngrams.best is not None and not isinstance(each.model.network, NgramLanguageModel):
            ngram = ngrams.nats["val"][ngrams.best - 1]
            both = ~(np.isnan(series.nats) | np.isnan(ngram))
            pair = (torch.from_numpy(nats[both]) for nats in (series.nats, ngram))
            weights[each.label] = best_mixture_weight(*pair)
    return weights


def baselines(
    part: str, checkpoints: Sequence[Series], ngrams: Ngrams, weights: dict[str, float], size: int
) -> list[Series]:
    """Series of mixtures, n-grams and the uniform distribution over `size` characters.

    On the training part the uniform distribution alone: the others have counted it.
    """
    found = []
    if ngrams.best is not None and part in ngrams.nats:
        best = torch.from_numpy(ngrams.nats[part][ngrams.best - 1])
        for name, _, nats in checkpoints:
            if name in weights:
                mixed = mixture_nats(weights[name], torch.from_numpy(nats), best).numpy()
                found.append(Series(f"{ngrams.best}-gram mixed with {name}", "mixture", mixed))
    orders = list(enumerate(ngrams.nats.get(part, []), start=1))
    for order, nats in reversed(orders):
        if order == 1:
            found.append(Series("unigram", "unigram", nats))
        else:
            found.append(Series(f"{order}-gram", "ngram", nats))
    nowhere = np.isnan(checkpoints[0].nats)
    found.append(Series("uniform", "uniform", np.where(nowhere, np.nan, math.log(size))))
    return found


class Figures(NamedTuple):
    """Figures of checkpoints and baselines on one text, by part."""

    evaluated: list[Evaluated]
    parts: dict[str, list[Row]]
    texts: dict[str, PartText]
    ngrams: Ngrams
    mixture_weights: dict[str, float]
    resamples: int
    seed: int

    @property
    def prefix(self) -> str:
        """Prefix of the names of perplexity and bits: "pseudo_" for models that fill gaps."""
        return prefix_of(self.evaluated[0].model)


def figures(
    evaluated: list[Evaluated], parts: Sequence[str], *, resamples: int, seed: int
) -> Figures:
    """Score parts of the text with checkpoints and baselines.

    Args:
        evaluated: the one that others are compared with first.
        parts: some of its text.
        resamples: texts that are drawn for each interval.
        seed: of the draws.
    """
    first = evaluated[0]
    wanted = {*parts, "val"} if "test" in parts else {*parts}  # validation says how to mix
    series = _score_checkpoints(evaluated, [part for part in first.parts if part in wanted])
    ngrams, weights = Ngrams({}, None, 0), {}
    if not first.model.fills_gaps:  # no baseline sees both sides of a character
        if set(parts) != {"train"}:
            ngrams = count_ngrams(first)
            weights = mixture_weights(evaluated, series.get("val", []), ngrams)
        size = len(first.corpus.vocabulary)
        for part in series:
            series[part] += baselines(part, series[part], ngrams, weights, size)
    texts = {
        part: PartText.of(first.parts[part], first.corpus.vocabulary, first.corpus.unit)
        for part in parts
    }

    def draw(units: Floats, length: int) -> Floats:
        return resampled_totals(units, length, resamples=resamples, seed=seed)

    rows: dict[str, list[Row]] = {part: [] for part in parts}
    with progress("resampling", sum(len(series[part]) for part in parts)) as moved:
        for part in parts:
            for each in series[part]:
                rows[part].append(row(each, series[part][0], texts[part], draw))
                moved(sum(map(len, rows.values())))
    return Figures(evaluated, rows, texts, ngrams, weights, resamples, seed)


def _score_checkpoints(
    evaluated: Sequence[Evaluated], parts: Sequence[str]
) -> dict[str, list[Series]]:
    """Score parts with each checkpoint."""
    return {part: [_score(each, part) for each in evaluated] for part in parts}


def _score(evaluated: Evaluated, part: str) -> Series:
    what = f"scoring {part} with {evaluated.label}"
    nats = part_nats(evaluated.model, evaluated.parts[part], what)
    return Series(evaluated.label, "checkpoint", nats)
