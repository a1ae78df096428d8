"""Metrics of a loss, and the loss of a mixture of two models."""

import math

import torch
from torch import Tensor


def loss_figures(split: str, loss: float, prefix: str = "") -> dict[str, float]:
    """Compute the metrics of a loss by name: loss, perplexity and bits per character.

    Args:
        split: name of the split, with which each name begins.
        loss: nats per character.
        prefix: `Model.metric_prefix`.
    """
    return {
        f"{split}/loss": loss,
        f"{split}/{prefix}perplexity": perplexity(loss),
        f"{split}/{prefix}bits_per_char": loss / math.log(2),
    }


def perplexity(loss: float) -> float:
    """Compute the perplexity, exp(loss), of a loss in nats per character; infinity on overflow."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def best_mixture_weight(network_nats: Tensor, ngram_nats: Tensor) -> float:
    """Find the weight w that minimises the loss of the mixture w·p_network + (1-w)·p_ngram.

    The loss is convex in w, so bisection on the sign of its slope finds the minimum.

    Args:
        network_nats: (N,) float64, -ln p of each character.
        ngram_nats: (N,) float64, of the same characters.

    Returns:
        w in [0, 1].
    """
    ratio = torch.expm1((ngram_nats - network_nats).clamp(max=700))  # p_network / p_ngram - 1
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        slope = (ratio / (1 + middle * ratio)).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)
    return (low + high) / 2


def mixture_nats(weight: float, network_nats: Tensor, ngram_nats: Tensor) -> Tensor:
    """Compute the nats of the mixture w·p_network + (1-w)·p_ngram, (N,) float64; w is `weight`."""
    shares = torch.tensor([weight, 1 - weight], dtype=torch.float64).log()
    stacked = torch.stack([shares[0] - network_nats, shares[1] - ngram_nats])
    return -torch.logsumexp(stacked, dim=0)
