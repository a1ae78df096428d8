"""What models reach on the parts of a text, with intervals.

C characters in the text of a part, n units that are drawn (characters or lines).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lyricgen.console import progress
from lyricgen.evaluation.bootstrap import Floats, block_length, interval, resampled_totals
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.evaluation.scores import PartText
from lyricgen.evaluation.series import (
    Ngrams,
    Series,
    baselines,
    count_ngrams,
    mixture_weights,
    score_checkpoints,
)
from lyricgen.metrics import perplexity

Draw = Callable[[Floats, int], Floats]  # units (n, S), block length -> totals (R, S)
Booleans: TypeAlias = npt.NDArray[np.bool_]


class Estimate(NamedTuple):
    """A figure and its 95 % interval, which there is none of where a single line is all."""

    value: float
    low: float | None
    high: float | None

    def map(self, function: Callable[[float], float]) -> "Estimate":
        """The estimate of a rising function of it."""
        low, high = (None if bound is None else function(bound) for bound in self[1:])
        return Estimate(function(self.value), low, high)


class Row(NamedTuple):
    """What one model reaches, on the characters that it predicts."""

    series: Series
    characters: int
    bytes: int
    loss: Estimate
    bits_per_byte: Estimate
    block_length: int | None  # characters that were drawn together; None where lines were
    difference: Estimate | None  # of the loss to the first row's, on the characters of both

    @property
    def perplexity(self) -> Estimate:
        """exp(loss)."""
        return self.loss.map(perplexity)

    @property
    def bits_per_char(self) -> Estimate:
        """The loss over ln 2."""
        return self.loss.map(lambda nats: nats / math.log(2))

    @property
    def differs(self) -> bool | None:
        """Whether the interval of the difference leaves out 0."""
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return None
        return not self.difference.low <= 0 <= self.difference.high


class Figures(NamedTuple):
    """What checkpoints and baselines reach on the parts of one text, by part."""

    evaluated: list[Evaluated]
    parts: dict[str, list[Row]]
    texts: dict[str, PartText]
    ngrams: Ngrams
    mixture_weights: dict[str, float]
    resamples: int
    seed: int

    @property
    def prefix(self) -> str:
        """Of the names of perplexities and bits: those of models that see both sides."""
        return "pseudo_" if self.evaluated[0].model.fills_gaps else ""


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
    series = score_checkpoints(evaluated, [part for part in first.data.parts if part in wanted])
    ngrams, weights = Ngrams({}, None, 0), {}
    if not first.model.fills_gaps:  # no baseline sees both sides of a character
        if set(parts) != {"train"}:
            ngrams = count_ngrams(first)
            weights = mixture_weights(evaluated, series.get("val", []), ngrams)
        size = len(first.data.vocabulary)
        for part in series:
            series[part] += baselines(part, series[part], ngrams, weights, size)
    texts = {
        part: PartText.of(first.data.parts[part], first.data.vocabulary, first.corpus.unit)
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


def row(series: Series, first: Series, text: PartText, draw: Draw) -> Row:
    """The figures of one model, and its difference to the first one where that is another."""
    scored = ~np.isnan(series.nats)
    units, length = _units(text, scored, series.nats[scored], text.sizes[scored].astype(float))
    nats, sizes, characters = units.sum(axis=0)
    drawn = draw(units, length)  # (R, 3)
    bits = 1 / math.log(2)
    return Row(
        series,
        int(characters),
        int(sizes),
        _estimate(nats / characters, drawn[:, 0] / drawn[:, 2], units),
        _estimate(bits * nats / sizes, bits * drawn[:, 0] / drawn[:, 1], units),
        length if text.lines is None else None,
        None if series is first else _difference(series, first, text, draw),
    )


def _difference(series: Series, first: Series, text: PartText, draw: Draw) -> Estimate:
    """Of both models' losses, the same characters drawn for both."""
    more = series.nats - first.nats
    both = ~np.isnan(more)
    units, length = _units(text, both, more[both])
    nats, characters = units.sum(axis=0)
    drawn = draw(units, length)  # (R, 2)
    return _estimate(nats / characters, drawn[:, 0] / drawn[:, 1], units)


def _units(text: PartText, scored: Booleans, *quantities: Floats) -> tuple[Floats, int]:
    """What is drawn, (n, quantities + 1), the number of characters last; and how many together."""
    columns = [*quantities, np.ones(len(quantities[0]))]
    if text.lines is None:
        return np.stack(columns, axis=1), block_length(quantities[0])
    lines = text.lines[scored]
    sums: Floats = np.stack([np.bincount(lines, each) for each in columns], axis=1)
    return sums[sums[:, -1] > 0], 1


def _estimate(value: float, drawn: Floats, units: Floats) -> Estimate:
    return Estimate(float(value), *(interval(drawn) if len(units) > 1 else (None, None)))
