"""Random numbers for texts, and the characters that they choose.

B sequences, V vocabulary.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Generator = Literal["torch", "numpy_reseeded"]


def draw_uniforms(generator: Generator, seeds: list[int], length: int) -> Tensor:
    """Random numbers from [0, 1), a row for each seed.

    Args:
        generator: "torch": each row is a stream of torch's generator. "numpy_reseeded": number k
            is the first of NumPy's legacy generator seeded anew by 2k + seed, a rule of course
            code, for repeating its texts letter for letter.
        seeds: B numbers from 0 to 2**32 - 1.
        length: of a row.

    Returns:
        (B, length), float32 from torch and float64 from NumPy.

    Raises:
        ValueError: no numbers wanted.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if generator == "torch":
        rows = [torch.rand(length, generator=torch.Generator().manual_seed(one)) for one in seeds]
        return torch.stack(rows)
    numbers = np.random.RandomState()

    def reseeded(seed: int) -> float:
        numbers.seed(seed % 2**32)
        return numbers.random_sample()

    drawn = [[reseeded(2 * step + seed) for step in range(length)] for seed in seeds]
    return torch.tensor(drawn, dtype=torch.float64)


def draw_characters(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """One character a row, (B,) int64; see `draw`."""
    return draw(logits, uniforms)[0]


def draw(logits: Tensor, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
    """One character a row, by the inverse of the cumulative distribution.

    Args:
        logits: (B, V), -inf for what must not be.
        uniforms: (B,) numbers from [0, 1); None takes the most probable character.

    Returns:
        (B,) int64, and (B,) whether there was a character to choose: where all logits are -inf, or
        one is no number, there is none.
    """
    if uniforms is None:
        largest, chosen = logits.max(dim=-1)
        return chosen, largest > -torch.inf
    dtype = torch.promote_types(logits.dtype, torch.float32)
    cumulative = torch.softmax(logits, dim=-1, dtype=dtype).cumsum_(dim=-1)
    total = cumulative[:, -1:]  # (B, 1), no number where there is no character
    # so far below 1 that rounding leaves it below the total: what comes last may be forbidden
    below = uniforms.to(dtype).clamp(max=1 - torch.finfo(dtype).eps)
    drawn = torch.searchsorted(cumulative, below[:, None] * total, right=True)
    return drawn[:, 0].clamp_(max=logits.shape[-1] - 1), total[:, 0] > 0
