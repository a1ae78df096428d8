"""The nats of each character of a batch, by a model of any kind.

B batch, T time steps, K characters known after them, V vocabulary, N characters in a part.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.models.cells.cell import State
from lyricgen.models.fill_model import FillModel
from lyricgen.models.kinds import Model
from lyricgen.models.ngram.language_model import NgramLanguageModel


def predict(network: Model, batch: Batch, state: State | None) -> tuple[Tensor, State]:
    """Logits of a batch's targets, (B, T, V), and the next state."""
    if isinstance(network, FillModel):
        return _predict_within(network, batch, state)
    logits, state = network(batch.inputs, state)
    return logits, state


def score(network: Model, batch: Batch, state: State | None) -> tuple[Tensor, State]:
    """Nats of each character of a batch, (B, T), zero for padding, and the next state.

    Args:
        network: any.
        batch: what it reads and what it is to predict.
        state: that the batch before has left; None where a stream starts.
    """
    if isinstance(network, NgramLanguageModel):
        padding = batch.targets == IGNORED
        nats, state = network.nats(batch.inputs, batch.targets.masked_fill(padding, 0), state)
        return nats.masked_fill(padding, 0.0), state
    logits, state = predict(network, batch, state)
    # flat, since classes that do not lie side by side take several times as long
    nats = F.cross_entropy(
        exact(logits).flatten(0, 1),
        batch.targets.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    ).view_as(batch.targets)
    return nats, state


def place(nats: Tensor, batch: Batch, room: Tensor) -> None:
    """Put the nats of a batch, (B, T), where its characters stand in their part, (N,)."""
    steps = torch.arange(1, nats.shape[1] + 1, device=nats.device)
    positions = batch.starts[:, None] + steps  # (B, T) of the targets
    counted = batch.targets != IGNORED
    room[positions[counted].cpu()] = nats[counted].double().cpu()


def exact(logits: Tensor) -> Tensor:
    """At least float32: sums of nats in half precision are off in their third digit."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _predict_within(network: FillModel, batch: Batch, state: State | None) -> tuple[Tensor, State]:
    """Logits, each from all characters that are known on both sides, and the left state."""
    steps = batch.targets.shape[1]
    known = [batch.inputs[:, :1], batch.targets]
    lengths = (batch.targets != IGNORED).sum(dim=1)  # (B,)
    if batch.following is not None:
        known.append(batch.following)
        after = (batch.following != IGNORED).sum(dim=1)
        lengths = torch.where(lengths == steps, lengths + after, lengths)
    characters = torch.cat(known, dim=1)  # (B, 1 + T + K)
    characters = characters.masked_fill(characters == IGNORED, 0)  # padding: never read
    logits, state = network(characters, lengths, steps, state)
    return logits, state
