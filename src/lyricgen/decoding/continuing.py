"""Continuing texts with a language model, many at once.

B sequences, V vocabulary, P prefix characters.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lyricgen.decoding.drawing import draw_characters
from lyricgen.decoding.rules import Rule, Written
from lyricgen.model.models import NextModel
from lyricgen.model.recurrence import State


@torch.inference_mode()
def continue_texts(
    model: NextModel,
    prefixes: list[Tensor],
    *,
    rules: Sequence[Rule],
    uniforms: Tensor | None,
    length: int,
    stop: int | None = None,
) -> list[list[int]]:
    """Continue each prefix by characters drawn from the softmax of the logits, after all rules.

    Each prefix is read once, as a sequence. Every sequence has random numbers of its own, one a
    character, which choose by the inverse of the cumulative distribution. The other sequences of
    the batch change a text only where rounding in the logits (about 1e-6) tips a draw that lies on
    the border between two characters.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: B tensors (P,) of at least one input id each, on the CPU.
        rules: what is done to the logits, one after the other.
        uniforms: (B, length) numbers from [0, 1), see `drawing.draw_uniforms`; None takes the most
            probable character each time.
        length: new characters at most.
        stop: a character that ends a text; it is not part of it.

    Returns:
        B lists of new character ids.

    Raises:
        ValueError: an empty prefix.
    """
    with evaluating(model):
        logits, state = _read_prefixes(model, prefixes)  # (B, V)
        device = logits.device
        uniforms = None if uniforms is None else uniforms.to(device)
        prefix = _right_aligned(prefixes).to(device)  # (B, P)
        text = torch.cat([prefix, prefix.new_empty(len(prefix), length)], dim=1)
        chosen = text[:, prefix.shape[1] :]
        rows_of = torch.arange(len(prefixes), device=device)
        running = torch.ones(len(prefixes), dtype=torch.bool, device=device)
        for step in range(length):
            written = Written(text[:, : prefix.shape[1] + step], step, rows_of)
            for rule in rules:
                logits = rule(logits, written)
            numbers = None if uniforms is None else uniforms[:, step]
            chosen[:, step] = draw_characters(logits, numbers)
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


def _right_aligned(prefixes: list[Tensor]) -> Tensor:
    """(B, P) int64, -1 before shorter ones."""
    return pad_sequence(
        [prefix.long() for prefix in prefixes],
        batch_first=True,
        padding_value=-1,
        padding_side="left",
    )


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
