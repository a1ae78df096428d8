"""Scores of checkpoints and baselines on the splits of a text, with intervals.

N symbols in a split, start symbols of lines among them; C characters in its text.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.batch import Batch, BatchLoader
from lyricgen.data.evaluation_samplers import FOLLOWING, evaluation_sampler
from lyricgen.data.splits import Split
from lyricgen.errors import UserError
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.evaluation.intervals import Floats, Row, Series, SplitText, row
from lyricgen.models.cells.cell import State
from lyricgen.models.metrics import best_mixture_weight, mixture_nats
from lyricgen.models.model import evaluating, place
from lyricgen.models.ngram.baseline import NgramBaseline
from lyricgen.models.trained_model import TrainedModel

ORDERS = 5


class Ngrams(NamedTuple):
    """Kneser-Ney models of the training split on the held-out splits."""

    nats: dict[str, list[Floats]]  # by split: of each order from 1 up, (C,)
    best: int | None  # the order that is best on validation, where there is such a split
    characters: int  # that were counted


class Scores(NamedTuple):
    """Scores of checkpoints and baselines on one text, by split."""

    evaluated: list[Evaluated]
    splits: dict[str, list[Row]]
    texts: dict[str, SplitText]
    ngrams: Ngrams
    mixture_weights: dict[str, float]
    resamples: int
    seed: int

    @property
    def prefix(self) -> str:
        """Prefix of the names of perplexity and bits: "pseudo_" for models that fill gaps."""
        return self.evaluated[0].model.network.metric_prefix


def score_splits(
    evaluated: list[Evaluated], splits: Sequence[str], *, resamples: int, seed: int
) -> Scores:
    """Score splits of the text with checkpoints and baselines.

    Args:
        evaluated: the one that others are compared with first.
        splits: some of its text.
        resamples: texts that are drawn for each interval.
        seed: of the draws.
    """
    first = evaluated[0]
    needed = {*splits, "val"} if "test" in splits else {*splits}  # validation says how to mix
    series: dict[str, list[Series]] = {split: [] for split in first.splits if split in needed}
    for split, of_split in series.items():
        for each in evaluated:
            what = f"scoring {split} with {each.label}"
            nats = split_nats(each.model, each.splits[split], what)
            of_split.append(Series(each.label, "checkpoint", nats))
    ngrams, weights = Ngrams({}, None, 0), {}
    if not first.model.fills_gaps:  # no baseline sees both sides of a character
        if set(splits) != {"train"}:
            ngrams = count_ngrams(first)
            weights = mixture_weights(evaluated, series.get("val", []), ngrams)
        size = len(first.corpus.vocabulary)
        for split, of_split in series.items():
            of_split.extend(baselines(split, of_split, ngrams, weights, size))
    vocabulary, unit = first.corpus.vocabulary, first.corpus.unit
    texts = {split: SplitText.of(first.splits[split], vocabulary, unit) for split in splits}
    rows: dict[str, list[Row]] = {split: [] for split in splits}
    with progress("resampling", sum(len(series[split]) for split in splits)) as moved:
        for split in splits:
            reference, text = series[split][0], texts[split]
            for scored in series[split]:
                rows[split].append(row(scored, reference, text, resamples=resamples, seed=seed))
                moved(sum(map(len, rows.values())))
    return Scores(evaluated, rows, texts, ngrams, weights, resamples, seed)


def count_ngrams(evaluated: Evaluated) -> Ngrams:
    """Count the training split, and score the held-out ones with the models of every order."""
    splits, size = evaluated.splits, len(evaluated.corpus.vocabulary)
    max_chars = evaluated.model.options["callbacks"]["baseline"]["max_chars"]
    baseline = NgramBaseline(splits, size, ORDERS, max_chars)
    nats: dict[str, list[Floats]] = {split: [] for split in splits if split != "train"}
    for scored in baseline.nats_by_order("kneser_ney"):
        for split, of_split in scored.items():
            nats[split].append(without_starts(of_split, splits[split], size))
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
        if ngrams.best is not None and not each.model.network.counts_ngrams:
            ngram = ngrams.nats["val"][ngrams.best - 1]
            both = ~(np.isnan(series.nats) | np.isnan(ngram))
            pair = (torch.from_numpy(nats[both]) for nats in (series.nats, ngram))
            weights[each.label] = best_mixture_weight(*pair)
    return weights


def baselines(
    split: str, checkpoints: Sequence[Series], ngrams: Ngrams, weights: dict[str, float], size: int
) -> list[Series]:
    """Series of mixtures, n-grams and the uniform distribution over `size` characters.

    On the training split the uniform distribution alone: the others have counted it.
    """
    found = []
    by_order = ngrams.nats.get(split, [])
    if ngrams.best is not None and by_order:
        best = torch.from_numpy(by_order[ngrams.best - 1])
        for name, _, nats in checkpoints:
            if name in weights:
                mixed = mixture_nats(weights[name], torch.from_numpy(nats), best).numpy()
                found.append(Series(f"{ngrams.best}-gram mixed with {name}", "mixture", mixed))
    for order in range(len(by_order), 1, -1):
        found.append(Series(f"{order}-gram", "ngram", by_order[order - 1]))
    if by_order:
        found.append(Series("unigram", "unigram", by_order[0]))
    uniform = np.where(np.isnan(checkpoints[0].nats), np.nan, math.log(size))
    return [*found, Series("uniform", "uniform", uniform)]


def split_nats(model: TrainedModel, split: Split, what: str) -> Floats:
    """Score a split as training does: all of it, in order, the state carried, without dropout.

    Args:
        model: whose vocabulary and layout the split has.
        split: to score.
        what: is being done, for the progress bar.

    Returns:
        (C,) in nats; nan where the model predicts nothing, as at the start of a running text.

    Raises:
        UserError: the model gives a character no probability.
    """
    found = torch.full((len(split.ids),), torch.nan, dtype=torch.float64)
    for batch, nats in read_split(model, split, what, model.network.score):
        place(nats, batch, found)
        check_finite(nats, what)
    return without_starts(found, split, len(model.vocabulary))


def check_finite(nats: Tensor, what: str) -> None:
    """Refuse a model that gives a character no probability.

    Raises:
        UserError: it does.
    """
    if not bool(nats.isfinite().all()):
        raise UserError(
            f"{what}: it predicts no probabilities (nan or 0), so its training has diverged; name "
            "another checkpoint"
        )


def read_split(
    model: TrainedModel,
    split: Split,
    what: str,
    read: Callable[[Batch, State | None], tuple[Tensor, State]],
) -> Iterator[tuple[Batch, Tensor]]:
    """Read the batches of a split one after the other, from state to state.

    Args:
        model: as for `split_nats`.
        split: to read.
        what: is being done, for the progress bar.
        read: gives something for each character of a batch, (B, T, …), and the next state.

    Yields:
        Each batch and what was read of it.
    """
    following = FOLLOWING if model.fills_gaps else 0
    sampler = evaluation_sampler(split, len(model.vocabulary), following)
    loader = BatchLoader(split.ids, sampler, model.network.device, mapping=split.mapping)
    state: State | None = None
    with torch.inference_mode(), evaluating(model.network), progress(what, len(loader)) as moved:
        for done, batch in enumerate(loader, start=1):
            found, state = read(batch, None if batch.starts_stream else state)
            yield batch, found
            moved(done)


def without_starts(nats: Tensor, split: Split, vocabulary_size: int) -> Floats:
    """(N,) -> (C,): the start symbols of lines, which nothing predicts, left out."""
    if split.line_starts is not None:
        nats = nats[split.ids < vocabulary_size]
    scored: Floats = nats.numpy()
    return scored
