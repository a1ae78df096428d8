"""What a model itself thinks of continuations.

B texts, T time steps, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.decoding.stepping import evaluating
from lyricgen.model.models import NextModel

LARGEST = 2**22  # logits at a time


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
    texts = [torch.cat([a.long(), b]) for a, b in zip(prefixes, new, strict=True)]
    known = [
        torch.cat([a.new_full((len(a),), -1).long(), b]) for a, b in zip(prefixes, new, strict=True)
    ]
    inputs = pad_sequence(texts, batch_first=True)[:, :-1]  # (B, T)
    targets = pad_sequence(known, batch_first=True, padding_value=-1)[:, 1:]  # (B, T), -1 for none
    number = max(1, LARGEST // model.vocabulary_size)
    at_once = max(1, min(len(rows), number))
    steps = max(1, number // at_once)
    with evaluating(model):
        for first in range(0, len(rows), at_once):
            state = None
            some = slice(first, first + at_once)
            for start in range(0, inputs.shape[1], steps):
                window = slice(start, start + steps)
                logits, state = model(inputs[some, window].to(model.device), state)
                wanted = targets[some, window].to(model.device)
                log_p = logits.double().log_softmax(dim=-1)
                each = log_p.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
                totals[some] += each.where(wanted >= 0, 0).sum(dim=1).cpu()
    return totals
