"""Figures of checkpoints and baselines on the parts of a text, with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

from lyricgen.console import progress
from lyricgen.evaluation.baselines import (
    Ngrams,
    baselines,
    count_ngrams,
    mixture_weights,
)
from lyricgen.evaluation.bootstrap import Floats, resampled_totals
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.evaluation.comparison import prefix_of
from lyricgen.evaluation.estimates import Row, Series, row
from lyricgen.evaluation.scores import PartText, part_nats


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
