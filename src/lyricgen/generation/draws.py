"""Random numbers for texts, and the characters that they choose.

B sequences, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor

from lyricgen.generation.options import Generator


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
        ValueError: length is not at least 1.
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
    """One character a row, by the inverse of the cumulative distribution.

    Args:
        logits: (B, V), -inf for forbidden characters.
        uniforms: (B,) numbers from [0, 1); None takes the most probable character.

    Returns:
        (B,) int64; V - 1 where no character is possible.
    """
    numbers = None if uniforms is None else below_one(uniforms[:, None], logits.dtype)
    return draw(logits, numbers)[:, 0].clamp_(max=logits.shape[-1] - 1)


def below_one(uniforms: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers from [0, 1) as `draw` takes them for logits of a type.

    They stay so far below 1 that rounding leaves them below the sum of all probabilities: the last
    character may be forbidden.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    return uniforms.to(dtype).clamp(max=1 - torch.finfo(dtype).eps)


def draw(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """One character a row, as `draw_characters`.

    Args:
        logits: (B, V), -inf for forbidden characters.
        uniforms: (B, 1), from `below_one`; None takes the most probable character.

    Returns:
        (B, 1) int64; V where no character is possible: all logits are -inf, or one is no number.
    """
    if uniforms is None:
        largest, chosen = logits.max(dim=-1, keepdim=True)
        return chosen.where(largest > -torch.inf, logits.shape[-1])
    cumulative = torch.softmax(logits, dim=-1, dtype=uniforms.dtype).cumsum_(dim=-1)
    # without a possible character the sums are NaN, and nothing is larger than NaN
    return torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)
