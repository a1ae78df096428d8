"""A model that reads one character of many texts at a time.

B sequences, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lyricgen.model.models import NextModel
from lyricgen.model.recurrence import State


class Stepper:
    """Texts as far as a model has read them, and its logits for what comes after each.

    Attributes:
        logits: (B, V), valid until the next step.
    """

    def __init__(self, model: NextModel, prefixes: Sequence[Tensor]) -> None:
        self.model = model
        self.logits, self.state = read_prefixes(model, prefixes)

    def step(self, characters: Tensor) -> None:
        """Read one more character of each text, (B,)."""
        output, self.state = self.model(characters[:, None], self.state)
        self.logits = output[:, -1]

    def select(self, rows: Tensor) -> None:
        """Go on with these of the texts, (C,) numbers of rows, before the next step."""
        self.state = tuple(part.index_select(1, rows) for part in self.state)


def read_prefixes(model: NextModel, prefixes: Sequence[Tensor]) -> tuple[Tensor, State]:
    """Logits (B, V) after each prefix and the states; each distinct prefix is read once, alone.

    Raises:
        ValueError: an empty prefix.
    """
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


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back at the end."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
