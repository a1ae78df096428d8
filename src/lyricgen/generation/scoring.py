"""Log-probabilities that a model gives to continuations.

B texts, T time steps, V vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.models.kinds import NextModel, evaluating

LARGEST = 2**22  # logits at a time
NONE = -1  # no character to be scored


@torch.inference_mode()
def log_probabilities(
    model: NextModel, prefixes: Sequence[Tensor], rows: Sequence[Sequence[int]]
) -> Tensor:
    """The log-probability of each continuation given its prefix, without any rule.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: B tensors (P,) of at least one input id each, on the CPU.
        rows: B continuations; where a text ended by a stop that is to count, with it.

    Returns:
        (B,) float64, in nats, on the CPU; 0 for an empty continuation.

    Raises:
        ValueError: an empty prefix.
    """
    if any(len(prefix) == 0 for prefix in prefixes):
        raise ValueError("a prefix needs at least one input symbol")
    totals = torch.zeros(len(rows), dtype=torch.float64)
    if not any(rows):
        return totals
    new = [torch.tensor(row, dtype=torch.int64) for row in rows]
    each = list(zip(prefixes, new, strict=True))
    texts = [torch.cat([prefix.long(), row]) for prefix, row in each]
    scored = [F.pad(row, (len(prefix), 0), value=NONE) for prefix, row in each]
    inputs = pad_sequence(texts, batch_first=True)[:, :-1]  # (B, T)
    targets = pad_sequence(scored, batch_first=True, padding_value=NONE)[:, 1:]  # (B, T)
    places = max(1, LARGEST // model.vocabulary_size)
    with evaluating(model):
        for first in range(0, len(rows), places):
            some = slice(first, first + places)
            totals[some] = _sums(model, inputs[some], targets[some], places)
    return totals


def _sums(model: NextModel, inputs: Tensor, targets: Tensor, places: int) -> Tensor:
    """Sum of ln p of each row's targets, (B, T) without NONE, a block of places at a time."""
    state, totals = None, torch.zeros(len(inputs), dtype=torch.float64)
    steps = max(1, places // len(inputs))
    for start in range(0, inputs.shape[1], steps):
        window = slice(start, start + steps)
        logits, state = model(inputs[:, window].to(model.device), state)
        wanted = targets[:, window].to(model.device)
        nats = F.cross_entropy(
            logits.flatten(0, 1).double(), wanted.flatten(), ignore_index=NONE, reduction="none"
        )
        totals -= nats.view_as(wanted).sum(dim=1).cpu()
    return totals
