"""Continuing texts with a language model, many at once.

B sequences, V vocabulary, P prefix characters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from lyricgen.model.models import NextModel
from lyricgen.model.recurrence import State

Generator = Literal["torch", "numpy_reseeded"]


@torch.inference_mode()
def continue_texts(
    model: NextModel,
    prefixes: list[Tensor],
    *,
    temperature: float,
    uniforms: Tensor,
    stop: int | None = None,
) -> list[list[int]]:
    """Continue each prefix by characters drawn from softmax(logits / temperature).

    Each prefix is read once, as a sequence. Every sequence has random numbers of its own, one a
    character, which choose by the inverse of the cumulative distribution; temperature 0 takes the
    most probable character instead. The other sequences of the batch change a text only where
    rounding in the logits (about 1e-6) tips a draw that lies on the border between two characters.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: B tensors (P,) of at least one input id each, on the CPU.
        temperature: 0 for greedy.
        uniforms: (B, length) numbers from [0, 1), length new characters at most; see
            `draw_uniforms`.
        stop: a character that ends a text; it is not part of it.

    Returns:
        B lists of new character ids.

    Raises:
        ValueError: an empty prefix.
    """
    length = uniforms.shape[1]
    with evaluating(model):
        logits, state = _read_prefixes(model, prefixes)  # (B, V)
        uniforms = uniforms.to(logits.device)
        chosen = torch.empty(uniforms.shape, dtype=torch.int64, device=logits.device)
        running = torch.ones(len(prefixes), dtype=torch.bool, device=logits.device)
        for step in range(length):
            chosen[:, step] = draw_characters(logits, temperature, uniforms[:, step])
            if stop is not None:
                running &= chosen[:, step] != stop
                # asked now and then, since the answer has to come from the device
                if step % 8 == 7 and not running.any():
                    break
            if step + 1 < length:
                output, state = model(chosen[:, step : step + 1], state)
                logits = output[:, -1]
        rows: list[list[int]] = chosen[:, : step + 1].tolist()
    return rows if stop is None else [_until(row, stop) for row in rows]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back at the end."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


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


def _until(row: list[int], stop: int) -> list[int]:
    return row[: row.index(stop)] if stop in row else row


def _read_prefixes(model: NextModel, prefixes: list[Tensor]) -> tuple[Tensor, State]:
    """Logits (B, V) after each prefix and the states; each distinct prefix is read once, alone."""
    device = model.device
    distinct: dict[tuple[int, ...], int] = {}
    rows: list[int] = []
    logits: list[Tensor] = []
    states: list[State] = []
    for prefix in prefixes:
        key = tuple(prefix.tolist())
        if key not in distinct:
            if not key:
                raise ValueError("a prefix needs at least one input symbol")
            distinct[key] = len(logits)
            output, state = model(prefix.long().to(device)[None])
            logits.append(output[:, -1])
            states.append(state)
        rows.append(distinct[key])
    index = torch.tensor(rows, device=device)
    state = tuple(
        torch.cat(parts, dim=1).index_select(1, index) for parts in zip(*states, strict=True)
    )
    return torch.cat(logits).index_select(0, index), state


def draw_characters(logits: Tensor, temperature: float, uniforms: Tensor) -> Tensor:
    """One character a row: (B, V), (B,) -> (B,)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    # from the largest down, so that a temperature near 0 gives no infinity but the largest
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    below = exact - exact.amax(dim=-1, keepdim=True)
    cumulative = torch.softmax(below / max(temperature, 1e-30), dim=-1).cumsum(dim=-1)
    targets = uniforms[:, None].to(exact.dtype) * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, targets, right=True).squeeze(-1)
    return drawn.clamp_(max=logits.shape[-1] - 1)
