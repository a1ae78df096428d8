"""Rules on logits, each a small function that composes with the others.

B sequences, V vocabulary, N characters so far.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Written:
    """What the sequences that still run are, before a character is chosen for each.

    Attributes:
        text: (B, N) int64 ids, the prefix and after it what has been chosen; shorter prefixes
            stand to the right, with -1 before them.
        step: characters chosen so far, the last of the N; equal for all sequences.
        rows: (B,) int64, which of all the texts that were asked for these are.
    """

    text: Tensor
    step: int
    rows: Tensor


# (B, V) logits -> (B, V) logits, new ones: what it forbids has -inf
Rule = Callable[[Tensor, Written], Tensor]


def scaled(logits: Tensor, temperature: float) -> Tensor:
    """Logits (B, V) over a temperature, above 0; the largest becomes 0."""
    # from the largest down, so that a temperature near 0 gives no infinity but the largest
    return (logits - logits.amax(dim=-1, keepdim=True)) / max(temperature, 1e-30)


def temperature(value: float) -> Rule:
    """Divide the logits: below 1 more probable characters, above 1 more varied ones.

    Args:
        value: more than 0.
    """
    return lambda logits, _: scaled(logits, value)
