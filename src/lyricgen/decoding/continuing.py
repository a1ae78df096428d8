"""Continuing texts with a language model, many at once.

B sequences, V vocabulary, P prefix characters.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.decoding.drawing import draw_characters
from lyricgen.decoding.rules import Rule, Written
from lyricgen.decoding.stepping import Stepper, evaluating
from lyricgen.errors import UserError
from lyricgen.model.models import NextModel

# (C,) which of the texts go on, and the next character (C,) of each
Watch = Callable[[Tensor, Tensor], None]


@torch.inference_mode()
def continue_texts(
    model: NextModel,
    prefixes: list[Tensor],
    *,
    rules: Sequence[Rule],
    uniforms: Tensor | None,
    length: int,
    stop: int | None = None,
    watch: Watch | None = None,
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
        watch: called after each step with (C,) which of the texts go on and (C,) their new
            characters, so without a stop; for showing texts as they are written.

    Returns:
        B lists of new character ids.

    Raises:
        ValueError: an empty prefix.
        UserError: the rules leave no character for some place of a text.
    """
    with evaluating(model):
        texts = Stepper(model, prefixes)
        device = texts.logits.device
        uniforms = None if uniforms is None else uniforms.to(device)
        prefix = right_aligned(prefixes).to(device)  # (B, P)
        text = torch.cat([prefix, prefix.new_empty(len(prefix), length)], dim=1)
        chosen = text[:, prefix.shape[1] :]
        rows_of = torch.arange(len(prefixes), device=device)
        running = torch.ones(len(prefixes), dtype=torch.bool, device=device)
        for step in range(length):
            written = Written(text[:, : prefix.shape[1] + step], step, rows_of)
            logits = texts.logits
            for rule in rules:
                logits = rule(logits, written)
            if not (logits.amax(dim=-1) > -torch.inf)[running].all():
                raise UserError(f"the constraints leave no character at position {step + 1}")
            numbers = None if uniforms is None else uniforms[:, step]
            chosen[:, step] = draw_characters(logits, numbers)
            if stop is not None:
                running &= chosen[:, step] != stop
                if not running.any():
                    break
            if watch is not None:
                watch(rows_of[running], chosen[running, step])
            if step + 1 < length:
                texts.step(chosen[:, step])
        rows: list[list[int]] = chosen[:, : step + 1].tolist()
    return rows if stop is None else [until(row, stop) for row in rows]


def right_aligned(prefixes: Sequence[Tensor]) -> Tensor:
    """(B, P) int64, -1 before shorter ones."""
    return pad_sequence(
        [prefix.long() for prefix in prefixes],
        batch_first=True,
        padding_value=-1,
        padding_side="left",
    )


def until(row: list[int], stop: int) -> list[int]:
    """What stands before the first stop."""
    return row[: row.index(stop)] if stop in row else row
