"""Reading a text in pieces from state zero: windows, or contexts of a given length.

N symbols in a part, start symbols of lines among them; C characters in its text; V vocabulary;
W windows of T steps; M targets, of which B at once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.batch import cut
from lyricgen.data.evaluation import EVALUATION_LOGITS
from lyricgen.data.parts import Part
from lyricgen.data.samplers import Windows
from lyricgen.evaluation.bootstrap import Floats
from lyricgen.models.fill_model import FillModel
from lyricgen.models.kinds import Model, evaluating
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.scoring import exact, score

LONGEST_CONTEXT = 256
WINDOW_CHARACTERS = 2**18  # in all windows, about so many
TARGETS = 512  # for each length of context, at most
_STEPS = 2**15  # characters that are read at once


def window_starts(length: int, num_steps: int) -> Tensor:
    """Where windows that have a next character start, (W,): everywhere, if that is not too many.

    Windows overlap, so that all positions in them predict much the same characters. Of too many,
    runs of neighbours are taken, evenly spread over the text.
    """
    possible = length - num_steps
    number = max(1, WINDOW_CHARACTERS // num_steps)
    if possible <= number:
        return torch.arange(possible)
    run = min(number, 8 * num_steps)
    begins = torch.linspace(0, possible - run, number // run, dtype=torch.float64).long()
    return (begins[:, None] + torch.arange(run)).flatten()


def nats_in_windows(network: Model, ids: Tensor, starts: Tensor, num_steps: int) -> Floats:
    """Read windows of a text, each from state zero, and predict the character after each, (W, T).

    Args:
        network: from left to right.
        ids: (N,).
        starts: (W,) int64.
        num_steps: T.
    """
    rows = max(1, EVALUATION_LOGITS // (num_steps * network.vocabulary_size))
    found = []
    with (
        torch.inference_mode(),
        evaluating(network),
        progress("perplexity by position", len(starts)) as moved,
    ):
        for first in range(0, len(starts), rows):
            chosen = starts[first : first + rows]
            windows = Windows(chosen, num_steps, None, True, len(chosen) * num_steps)
            found.append(score(network, cut(ids, windows), None)[0])
            moved(first)
    nats: Floats = torch.cat(found).double().numpy()
    return nats


def nats_after(network: Model, ids: Tensor, starts: Tensor, targets: Tensor) -> Floats:
    """Predict single characters, each from some that stand before it and state zero.

    Args:
        network: from left to right.
        ids: (N,).
        starts: (M,) int64, where the context of each target begins.
        targets: (M,) int64, where they stand.

    Returns:
        (M,) nats.
    """
    longest = int((targets - starts).max())
    rows = max(1, _STEPS // longest)
    found = []
    with torch.inference_mode(), evaluating(network):
        for first in range(0, len(targets), rows):
            begin, end = starts[first : first + rows], targets[first : first + rows]
            windows = Windows(begin, longest, end - begin, True, len(end))
            found.append(_last_nats(network, cut(ids, windows).inputs, end - begin, ids[end]))
    nats: Floats = torch.cat(found).double().numpy()
    return nats


def _last_nats(network: Model, inputs: Tensor, lengths: Tensor, symbols: Tensor) -> Tensor:
    """Nats of one symbol after each row of inputs, (B, T) -> (B,)."""
    rows, last = torch.arange(len(inputs)), lengths - 1
    if isinstance(network, NgramLanguageModel):
        each, _ = network.nats(inputs, symbols.long()[:, None].expand_as(inputs))
        return each[rows, last]
    if isinstance(network, FillModel):
        raise ValueError("a model of both sides has no context that ends before a character")
    # the output layer costs as much as the rest: only the last step needs it
    hidden, _ = network.recurrence(network.features(inputs), None)  # (B, T, H)
    logits = network.logits(hidden[rows, last])  # (B, V)
    return F.cross_entropy(exact(logits), symbols.long(), reduction="none")


def context_lengths(part: Part, vocabulary_size: int) -> list[int]:
    """1, 2, 4 … 256; no longer than half a text, or than it takes to hold the longest line."""
    most = min(LONGEST_CONTEXT, int((part.ids < vocabulary_size).sum()) // 2)
    if part.line_starts is not None:
        longest = int(part.line_lengths.max())
        most = min(most, 1 << (longest - 1).bit_length())
    return [1 << exponent for exponent in range(max(1, most.bit_length()))]


def target_places(part: Part, vocabulary_size: int, longest: int) -> Tensor:
    """Evenly spaced characters, (M,) where they stand in the part, after the first longest ones."""
    places = torch.nonzero(part.ids < vocabulary_size).flatten()  # (C,)
    number = min(TARGETS, len(places) - longest)
    return places[torch.linspace(longest, len(places) - 1, number, dtype=torch.float64).long()]


def context_begins(part: Part, places: Tensor, length: int) -> Tensor:
    """Where the context of each target begins, (M,); no further back than its line."""
    begins = places - length
    if part.line_starts is None:
        return begins
    line = torch.searchsorted(part.line_starts, places, right=True) - 1
    return torch.maximum(begins, part.line_starts[line])
