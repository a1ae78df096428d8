"""Regularization for small texts: dropped weights, locked masks, dropped characters, input noise.

All of it acts in training only, and draws from torch's generator.

Shapes: B batch, T time steps, V vocabulary, E embedding, H hidden size, G gates, N symbols of a
text.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import override

from lyricgen.models.cells.cell import State
from lyricgen.models.options import NetworkOptions

PROBABILITY_ONE = 2**31  # as an integer, which a network in half precision does not round
PIECE = 2**24  # pairs of symbols that are counted at a time


def call_with_weight_drop(
    cell: nn.Module, inputs: Tensor, state: State | None, weight_drop: float
) -> tuple[Tensor, State]:
    """Call a `Cell` with a matrix for the state whose elements are dropped.

    A call draws one mask for all rows and steps (DropConnect: Wan et al. 2013; for the matrix of
    the state: Merity et al. 2018). The other elements are divided by 1 - `weight_drop`.
    """
    _, (name, matrix), *_ = cell.named_parameters()
    dropped = {name: F.dropout(matrix, weight_drop)}
    result: tuple[Tensor, State] = functional_call(cell, dropped, (inputs, state))
    return result


class LockedDropout(nn.Dropout):
    """Dropout with one mask for all time steps of a row (Gal and Ghahramani 2016)."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Drop elements of `input`, (B, T, …)."""
        if not self.training:
            return input
        return input * F.dropout(torch.ones_like(input[:, :1]), self.p)


class DroppedEmbedding(nn.Embedding):
    """Embedding that drops whole rows: a character, wherever it stands in a batch (Merity 2018).

    The other rows are divided by 1 - `dropout`. An output layer with tied weights loses no rows.

    Args:
        symbols: number of rows.
        size: E.
        dropout: probability that a row is dropped.
    """

    def __init__(self, symbols: int, size: int, dropout: float) -> None:
        super().__init__(symbols, size)
        self.dropout = dropout

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Look up ids, (B, T) -> (B, T, E)."""
        embedded = super().forward(input)
        if not self.training or not self.dropout:
            return embedded
        factors = F.dropout(self.weight.new_ones(self.num_embeddings, 1), self.dropout)
        return embedded * F.embedding(input, factors)


class InputNoise(nn.Module):
    """Noise that replaces characters by others (Xie et al. 2017); the start of a line stays.

    Args:
        rates: (V,) float64, the probability that a character is replaced.
        weights: (V,) int64; a character is drawn with a probability in proportion to its weight.
    """

    thresholds: Tensor
    cumulative: Tensor

    def __init__(self, rates: Tensor, weights: Tensor) -> None:
        super().__init__()
        thresholds = F.pad((rates * PROBABILITY_ONE).round().long(), (0, 1))  # (V + 1,)
        # not persistent: the counts of the training text are no part of the model
        self.register_buffer("thresholds", thresholds, persistent=False)
        self.register_buffer("cumulative", weights.cumsum(0), persistent=False)
        self.total = int(weights.sum())

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Replace some of `ids`, int64 of any shape."""
        if not self.training:
            return ids
        levels = torch.randint(PROBABILITY_ONE, ids.shape, device=ids.device)
        places = torch.randint(self.total, ids.shape, device=ids.device)
        drawn = torch.searchsorted(self.cumulative, places, right=True)
        return torch.where(levels < self.thresholds[ids], drawn, ids)


def build_noise(options: NetworkOptions, ids: Tensor, counts: Tensor) -> InputNoise:
    """Build the noise of `model.noise` from a training text.

    "unigram" replaces each character with the same probability, and draws characters as often as
    the text has them. "kneser_ney" replaces x with a probability in proportion to N1+(x, ·) / c(x),
    and draws in proportion to N1+(·, x): see `count_neighbours`.

    Args:
        options: of the network.
        ids: (N,) the training text; V is the start of a line.
        counts: (V,) int64, c(x): how often the text has each character.
    """
    if options.noise_kind == "unigram":
        return InputNoise(torch.full(counts.shape, options.noise, dtype=torch.float64), counts)
    after, before = count_neighbours(ids, len(counts))
    return InputNoise(options.noise * after.double() / counts.clamp(min=1), before)


def count_neighbours(ids: Tensor, vocabulary_size: int) -> tuple[Tensor, Tensor]:
    """Count the distinct characters after each character, N1+(x, ·), and before it, N1+(·, x).

    Args:
        ids: (N,) a text; the start of a line, V, is no neighbour.
        vocabulary_size: V.

    Returns:
        Two (V,) int64 tensors.
    """
    symbols = vocabulary_size + 1
    pairs = torch.empty(0, dtype=torch.int64)
    for start in range(0, len(ids) - 1, PIECE):
        piece = ids[start : start + PIECE + 1].long()
        pairs = torch.cat([pairs, piece[:-1] * symbols + piece[1:]])
        pairs = torch.unique(pairs)
    first, second = pairs // symbols, pairs % symbols
    in_line = (first < vocabulary_size) & (second < vocabulary_size)
    after, before = (side[in_line].bincount(minlength=vocabulary_size) for side in (first, second))
    return after, before
