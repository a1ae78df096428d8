"""Perplexity by position, by length of the context and by frequency of characters.

Shapes: N symbols of a split, C characters of its text, W windows, T time steps, M targets, V
vocabulary size.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.batch import Windows, cut
from lyricgen.data.samplers import EVALUATION_LOGITS
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.evaluation.intervals import Floats, Integers, SplitText
from lyricgen.evaluation.scores import CheckpointWithText, Scores
from lyricgen.models.metrics import perplexity
from lyricgen.models.model import Model, NextModel, eval_mode

LONGEST_CONTEXT = 256
WINDOW_CHARACTERS = 2**18  # approximate number of characters in all windows
TARGETS = 512  # largest number of characters scored for each length of context
_STEPS = 2**15  # largest number of characters read at once


def window_starts(length: int, num_steps: int) -> Tensor:
    """Choose where windows of `num_steps` symbols start in a text of `length` symbols: (W,).

    A short text has a window at every place. A long text has evenly spaced runs of windows. The
    windows of a run start one symbol apart, so all positions predict nearly the same characters. A
    symbol follows each window.
    """
    possible = length - num_steps
    number = max(1, WINDOW_CHARACTERS // num_steps)
    if possible <= number:
        return torch.arange(possible)
    run = min(number, 8 * num_steps)
    begins = torch.linspace(0, possible - run, number // run, dtype=torch.float64).long()
    return (begins[:, None] + torch.arange(run)).flatten()


def nats_in_windows(
    network: Model, vocabulary: Vocabulary, ids: Tensor, starts: Tensor, num_steps: int
) -> Floats:
    """Score the characters in windows of a text; each window begins with state zero.

    Args:
        network: network that predicts the characters.
        vocabulary: the characters, of which it charges the rare ones.
        ids: (N,) symbols of the text.
        starts: (W,) place of the first symbol of each window.
        num_steps: T, the length of a window.

    Returns:
        (W, T) nats of the character after each symbol.
    """

    def score(chosen: Tensor, _: Tensor) -> Tensor:
        windows = Windows(chosen, num_steps, None, True, len(chosen) * num_steps)
        batch = cut(ids, windows)
        return vocabulary.charge_rare(network.score(batch, None)[0], batch.targets)

    rows = EVALUATION_LOGITS // (num_steps * network.vocabulary_size)
    with progress("perplexity by position", len(starts)) as moved:
        return _score_rows(network, starts, starts, rows, score, moved)


def nats_after(
    network: NextModel, vocabulary: Vocabulary, ids: Tensor, starts: Tensor, targets: Tensor
) -> Floats:
    """Score single characters of a text, given only their contexts.

    Args:
        network: network that predicts the characters.
        vocabulary: the characters, of which it charges the rare ones.
        ids: (N,) symbols of the text.
        starts: (M,) place of the first symbol of each context.
        targets: (M,) place of each character; its context ends just before it.

    Returns:
        (M,) nats of the characters.
    """
    longest = int((targets - starts).max())

    def score(begin: Tensor, end: Tensor) -> Tensor:
        windows = Windows(begin, longest, end - begin, True, len(end))
        nats = network.score_next(cut(ids, windows).inputs, end - begin, ids[end])
        return vocabulary.charge_rare(nats, ids[end])

    return _score_rows(network, starts, targets, _STEPS // longest, score)


def _score_rows(
    network: Model,
    starts: Tensor,
    ends: Tensor,
    rows: int,
    score: Callable[[Tensor, Tensor], Tensor],
    moved: Callable[[int], None] = lambda _: None,
) -> Floats:
    """Score rows in blocks, and join their nats.

    `starts` and `ends` have an entry for each row; `score` gets the entries of a block and returns
    the nats. A block has `rows` rows, or one row if `rows` is 0. `moved` shows the progress.
    """
    found = []
    with torch.inference_mode(), eval_mode(network):
        for first in range(0, len(starts), max(1, rows)):
            block = slice(first, first + max(1, rows))
            found.append(score(starts[block], ends[block]))
            moved(first)
    nats: Floats = torch.cat(found).double().numpy()
    return nats


def context_lengths(split: Split, vocabulary_size: int) -> list[int]:
    """Choose the lengths of contexts: the powers of two up to 256 and up to half the text.

    In a list of lines, the lengths end, at the latest, with the first that covers the longest line.
    """
    most = min(LONGEST_CONTEXT, int((split.ids < vocabulary_size).sum()) // 2)
    if split.line_starts is not None:
        longest = int(split.line_lengths.max())
        most = min(most, 1 << (longest - 1).bit_length())
    return [1 << exponent for exponent in range(max(1, most.bit_length()))]


def target_positions(split: Split, vocabulary_size: int, longest: int) -> Tensor:
    """Choose the positions, (M,), of up to `TARGETS` evenly spaced characters.

    At least `longest` characters stand before each of them.
    """
    positions = torch.nonzero(split.ids < vocabulary_size).flatten()  # (C,)
    number = min(TARGETS, len(positions) - longest)
    return positions[
        torch.linspace(longest, len(positions) - 1, number, dtype=torch.float64).long()
    ]


def context_begins(split: Split, positions: Tensor, length: int) -> Tensor:
    """Find the starts, (M,), of the contexts of the characters at `positions`, (M,).

    A context has `length` symbols, but in a list of lines it begins no earlier than the line of its
    character.
    """
    begins = positions - length
    if split.line_starts is None:
        return begins
    line = torch.searchsorted(split.line_starts, positions, right=True) - 1
    return torch.maximum(begins, split.line_starts[line])


class Curve(NamedTuple):
    """Perplexities of checkpoints by position, by length of the context or by frequency."""

    name: Literal["position", "context", "frequency"]  # name of the axis
    places: list[str]  # on the axis: positions or lengths from 1, or bins of counts
    characters: list[int]  # number of predicted characters at each place
    perplexities: dict[str, list[float | None]]  # by checkpoint; None at a place with 0 characters

    @property
    def scored(self) -> range:
        """Indices of the places from the first place with a character to the last place."""
        first = next(index for index, number in enumerate(self.characters) if number)
        return range(first, len(self.places))


class Curves(NamedTuple):
    """The curves of some checkpoints on one split."""

    split: str
    position_in: Literal[
        "line", "document", "window"
    ]  # what the curve by position counts positions in
    curves: list[Curve]


def curves(scores: Scores) -> Curves:
    """Compute the curves of all checkpoints on one scored split: test, else val, else train.

    Raises:
        UserError: the ids of a split are damaged and cannot be restored.
    """
    evaluated = scores.evaluated
    split = next(name for name in ("test", "val", "train") if name in scores.splits)
    text = scores.texts[split]
    rows = scores.splits[split][: len(evaluated)]
    nats = {row.series.name: row.series.nats for row in rows}  # (C,) each
    if text.lines is None:
        positions = _window_positions(evaluated, split)
    else:
        begins = np.flatnonzero(np.diff(text.lines, prepend=-1))  # of each line, in the text
        bins = np.arange(len(text.lines)) - begins[text.lines]  # (C,)
        labels = [str(1 + position) for position in range(int(bins.max()) + 1)]
        positions = _make_binned_curve("position", nats, bins, labels)
    found = [positions, _contexts(evaluated, split), _frequencies(nats, text, evaluated[0])]
    unit = evaluated[0].corpus.unit
    return Curves(split, "window" if unit == "text" else unit, found)


def means_by_bin(nats: Floats, bins: Integers, number: int) -> tuple[list[int], list[float | None]]:
    """Count the predicted characters of each bin, and compute the perplexity of each bin.

    `nats`, (C,), is nan where nothing was predicted. `bins`, (C,), holds the bin of each character,
    from 0 to `number` - 1.
    """
    scored = ~np.isnan(nats)
    characters = np.bincount(bins[scored], minlength=number)
    totals = np.bincount(bins[scored], nats[scored], minlength=number)
    return characters.tolist(), [
        perplexity(total / count) if count else None
        for total, count in zip(totals.tolist(), characters.tolist(), strict=True)
    ]


def frequency_bins(counts: Integers) -> Integers:
    """Find the bin of each count: bin 0 holds 0, and bin n > 0 holds 2^(n-1) to 2^n - 1."""
    _, exponents = np.frexp(counts)
    return exponents


def _window_positions(evaluated: Sequence[CheckpointWithText], split: str) -> Curve:
    first = evaluated[0]
    ids = first.splits[split].sound_ids
    steps = min(first.options.num_steps, len(ids) - 1)
    starts = window_starts(len(ids), steps)
    perplexities: dict[str, list[float | None]] = {}
    for each in evaluated:
        model = each.model
        nats = nats_in_windows(model.network, model.vocabulary, ids, starts, steps)  # (W, T)
        perplexities[each.label] = [perplexity(loss) for loss in nats.mean(axis=0).tolist()]
    labels = [str(position) for position in range(1, steps + 1)]
    return Curve("position", labels, [len(starts)] * steps, perplexities)


def _frequencies(nats: dict[str, Floats], text: SplitText, evaluated: CheckpointWithText) -> Curve:
    vocabulary = evaluated.corpus.vocabulary
    counts = evaluated.splits["train"].character_counts(len(vocabulary)).numpy()  # (V,)
    if vocabulary.rare_id is not None:  # which stands for many
        counts[vocabulary.rare_id] //= len(vocabulary.rare)
    bins = frequency_bins(counts)[text.ids]  # (C,)
    names = ["0", "1"] + [f"{2**e}–{2 * 2**e - 1}" for e in range(1, int(bins.max()))]
    return _make_binned_curve("frequency", nats, bins, names[: int(bins.max()) + 1])


def _make_binned_curve(
    name: Literal["position", "frequency"],
    nats: dict[str, Floats],
    bins: Integers,
    labels: list[str],
) -> Curve:
    each = {label: means_by_bin(of_model, bins, len(labels)) for label, of_model in nats.items()}
    characters, _ = next(iter(each.values()))
    return Curve(name, labels, characters, {label: means for label, (_, means) in each.items()})


def _contexts(evaluated: Sequence[CheckpointWithText], split: str) -> Curve:
    size = len(evaluated[0].corpus.vocabulary)
    lengths = context_lengths(evaluated[0].splits[split], size)
    perplexities: dict[str, list[float | None]] = {each.label: [] for each in evaluated}
    with progress("perplexity by context", len(evaluated) * sum(lengths)) as moved:
        done = 0
        for each in evaluated:
            chosen = each.splits[split]
            positions = target_positions(chosen, len(each.corpus.vocabulary), lengths[-1])
            for length in lengths:
                begins = context_begins(chosen, positions, length)
                read = each.model.vocabulary, chosen.sound_ids, begins, positions
                nats = nats_after(each.model.next_model, *read)
                perplexities[each.label].append(perplexity(float(nats.mean())))
                done += length
                moved(done)
    return Curve("context", [*map(str, lengths)], [len(positions)] * len(lengths), perplexities)
