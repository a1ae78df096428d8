"""Scores of a whole split by a trained model.

Shapes: N characters of a split with the start symbols of lines; C characters without them; B texts;
T time steps.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.batch import Batch, BatchLoader, Sampler
from lyricgen.data.samplers import FOLLOWING, evaluation_sampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.cells.cell import State
from lyricgen.models.model import eval_mode, write_to_positions
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import T

Floats = npt.NDArray[np.float64]


def split_nats(model: TrainedModel, split: Split, what: str) -> Floats:
    """Score a split as validation does: in order, with the state carried, without dropout.

    The split must have the model's vocabulary and layout. The progress bar shows `what`.

    Returns:
        (C,) nats; nan where the model predicts nothing, as at the start of a running text.

    Raises:
        UserError: the model gives a character the probability 0 or nan, or the ids of the split are
            damaged and cannot be restored.
    """
    return charge_characters(position_nats(model, split, what), split, model.vocabulary)


def position_nats(
    model: TrainedModel, split: Split, what: str, sampler: Sampler | None = None
) -> Tensor:
    """Compute the model's own nats, (N,), nan where it predicts nothing, as at starts of lines.

    Rare characters have the nats of `RARE_SYMBOL`. `read_split` explains the sampler.
    """
    found = torch.full((len(split.ids),), torch.nan, dtype=torch.float64)
    for batch, nats in read_split(model, split, what, model.network.score, sampler):
        write_to_positions(nats, batch, found)
        check_finite(nats, what)
    return found


def check_finite(nats: Tensor, what: str) -> None:
    """Raise a UserError if `nats` are not finite; `what` begins the message."""
    if not bool(nats.isfinite().all()):
        raise UserError(
            f"{what}: it predicts no probabilities (nan or 0), so its training has diverged; name "
            "another checkpoint"
        )


def read_split(
    model: TrainedModel,
    split: Split,
    what: str,
    read: Callable[[Batch, State | None], tuple[T, State]],
    sampler: Sampler | None = None,
) -> Iterator[tuple[Batch, T]]:
    """Apply `read` to the batches of a split, carrying the state; `what` names the work.

    `read` returns values for each character of a batch, (B, T, …) tensors, and the next state.
    `sampler` chooses the batches; None for those of validation, in order.

    Yields:
        Each batch, and the values from `read`, on the model's device.
    """
    following = FOLLOWING if model.fills_gaps else 0
    if sampler is None:
        sampler = evaluation_sampler(split, len(model.vocabulary), following)
    loader = BatchLoader(
        *(split.ids, sampler, model.network.device),
        mapping=split.mapping,
        recollection=model.network.recollect(split),
    )
    state: State | None = None
    with torch.inference_mode(), eval_mode(model.network), progress(what, len(loader)) as moved:
        for done, batch in enumerate(loader, start=1):
            found, state = read(batch, None if batch.starts_stream else state)
            yield batch, found
            moved(done)


def charge_characters(nats: Tensor, split: Split, vocabulary: Vocabulary) -> Floats:
    """Remove the values at the start symbols of lines, and charge rare characters: (N,) -> (C,)."""
    nats = vocabulary.charge_rare(nats, split.ids)
    if split.line_starts is not None:
        nats = nats[split.ids < len(vocabulary)]
    scored: Floats = nats.numpy()
    return scored
