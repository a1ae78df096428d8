"""Rules on logits, each a small function that composes with the others.

B sequences, V vocabulary, N characters so far.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PartialTexts:
    """Running sequences before the next character of each is chosen.

    Attributes:
        text: (B, N) int64 ids, the prefix and after it what has been chosen; shorter prefixes
            stand to the right, with -1 before them.
        step: characters chosen so far, the last of the N; equal for all sequences.
        rows: (B,) int64, numbers of these texts among the requested ones.
    """

    text: Tensor
    step: int
    rows: Tensor


# (B, V) logits -> (B, V) logits, new ones: what it forbids has -inf
Rule = Callable[[Tensor, PartialTexts], Tensor]


def scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits (B, V) over a temperature, above 0, where they may all be moved alike."""
    if 1 / temperature < torch.finfo(logits.dtype).max ** 0.5:
        return logits / temperature
    # from the largest down, so that a temperature near 0 gives no infinity but the largest
    return (logits - logits.amax(dim=-1, keepdim=True)) / max(temperature, 1e-30)


def temperature(value: float) -> Rule:
    """Divide the logits: below 1 more probable characters, above 1 more varied ones.

    Args:
        value: more than 0.
    """
    return lambda logits, _: scaled(logits, value)


def top_k(k: int) -> Rule:
    """Keep the k most probable characters, and those that tie with the last of them.

    Args:
        k: at least 1.
    """

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        del written
        if k >= logits.shape[-1]:
            return logits
        last = logits.topk(k, dim=-1).values[:, -1:]  # (B, 1)
        return logits.masked_fill(logits < last, -torch.inf)

    return rule


def top_p(p: float) -> Rule:
    """Keep the fewest characters whose probabilities add up to p, most probable first.

    Nucleus sampling (Holtzman et al. 2020). What ties with the last of them is kept as well.

    Args:
        p: above 0, at most 1.
    """

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        del written
        if p >= 1:
            return logits
        ordered = logits.sort(dim=-1, descending=True).values  # (B, V)
        # what came before a character must not have reached p yet, so the first is always kept
        before_last = ordered.softmax(dim=-1).cumsum(dim=-1)[:, :-1]
        kept = (before_last < p).sum(dim=-1, keepdim=True)  # (B, 1), without the first
        return logits.masked_fill(logits < ordered.gather(-1, kept), -torch.inf)

    return rule


def min_p(p: float) -> Rule:
    """Keep the characters that are at least p times as probable as the most probable one.

    Nguyen et al. 2024.

    Args:
        p: above 0, at most 1.
    """
    distance = math.log(p)

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        del written
        least = logits.amax(dim=-1, keepdim=True) + distance
        return logits.masked_fill(logits < least, -torch.inf)

    return rule


def repetition_penalty(value: float) -> Rule:
    """Divide positive logits of what the text has, prefix included, and multiply negative ones.

    Keskar et al. 2019 (CTRL), equation 2.

    Args:
        value: above 1 repeats less, below 1 more.
    """

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        penalised = torch.where(logits > 0, logits / value, logits * value)
        seen = _marked(written.text, logits)
        return torch.where(seen, penalised, logits)

    return rule


def no_repeat_ngram(n: int) -> Rule:
    """Forbid what would complete n characters in a row that the text, prefix included, has already.

    Paulus et al. 2018, section 2.5, for n = 3.

    Args:
        n: at least 1.
    """

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        text = written.text
        if text.shape[1] < n:
            return logits
        grams = text.unfold(1, n, 1)  # (B, N - n + 1, n)
        context = text[:, text.shape[1] - n + 1 :][:, None]  # (B, 1, n - 1)
        repeated = ((grams[..., :-1] == context) & (context >= 0)).all(dim=-1)
        forbidden = _marked(grams[..., -1].where(repeated, -1), logits)
        return logits.masked_fill(forbidden, -torch.inf)

    return rule


def _marked(characters: Tensor, logits: Tensor) -> Tensor:
    """(B, V), true for the characters (B, N) of each row; -1 and the start of a line are none."""
    rows, vocabulary = logits.shape
    marked = torch.zeros(rows, vocabulary + 2, dtype=torch.bool, device=logits.device)
    return marked.scatter_(1, characters + 1, True)[:, 1:-1]
