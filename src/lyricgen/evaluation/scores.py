"""The nats of every character of a part, aligned whatever the models and their layouts.

N symbols in a part, start symbols of lines among them; C characters in its text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.batch import Batch, BatchLoader
from lyricgen.data.evaluation_samplers import FOLLOWING, evaluation_sampler
from lyricgen.data.options import Unit
from lyricgen.data.parts import Part
from lyricgen.data.vocabulary import Vocabulary, code_points
from lyricgen.errors import UserError
from lyricgen.evaluation.bootstrap import Floats
from lyricgen.models.kinds import evaluating
from lyricgen.models.recurrence import State
from lyricgen.models.scoring import place, score
from lyricgen.models.trained_model import TrainedModel

Integers: TypeAlias = npt.NDArray[np.integer]


@dataclass(frozen=True)
class PartText:
    """The characters of a part, as they stand in the text.

    Attributes:
        ids: (C,).
        sizes: (C,) bytes of each in UTF-8.
        lines: (C,) the number of the line that each belongs to, in a list of lines; else None.
    """

    ids: Integers
    sizes: Integers
    lines: Integers | None

    @classmethod
    def of(cls, part: Part, vocabulary: Vocabulary, unit: Unit) -> "PartText":
        """Take the start symbols out of a part."""
        ids = part.sound_ids.numpy()
        ids = ids if part.line_starts is None else ids[ids < len(vocabulary)]
        lines = None
        if unit == "line":
            stops = ids == int(vocabulary.encode("\n"))
            lines = np.cumsum(stops) - stops
        return cls(ids, utf8_sizes(vocabulary.characters)[ids], lines)

    @property
    def num_lines(self) -> int | None:
        """In a list of lines."""
        return None if self.lines is None else int(self.lines[-1]) + 1


def utf8_sizes(characters: str) -> Integers:
    """How many bytes UTF-8 has for each character, (number of characters,)."""
    codes = code_points(characters)
    return (1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF)).astype(np.uint8)


def part_nats(model: TrainedModel, part: Part, what: str) -> Floats:
    """Score a part as training does: all of it, in order, the state carried, without dropout.

    Args:
        model: whose vocabulary and layout the part has.
        part: to score.
        what: is being done, for the progress bar.

    Returns:
        (C,) in nats; nan where the model predicts nothing, as at the start of a running text.

    Raises:
        UserError: the model gives a character no probability.
    """
    found = torch.full((len(part.ids),), torch.nan, dtype=torch.float64)
    for batch, nats in read_part(model, part, what, partial(score, model.network)):
        place(nats, batch, found)
        check_finite(nats, what)
    return without_starts(found, part, len(model.vocabulary))


def check_finite(nats: Tensor, what: str) -> None:
    """Refuse a model that gives a character no probability.

    Raises:
        UserError: it does.
    """
    if not bool(nats.isfinite().all()):
        raise UserError(
            f"{what}: it predicts no probabilities (nan or 0), so its training has diverged; name "
            "another checkpoint"
        )


def read_part(
    model: TrainedModel,
    part: Part,
    what: str,
    read: Callable[[Batch, State | None], tuple[Tensor, State]],
) -> Iterator[tuple[Batch, Tensor]]:
    """Read the batches of a part one after the other, from state to state.

    Args:
        model: as for `part_nats`.
        part: to read.
        what: is being done, for the progress bar.
        read: gives something for each character of a batch, (B, T, …), and the next state.

    Yields:
        Each batch and what was read of it.
    """
    following = FOLLOWING if model.fills_gaps else 0
    sampler = evaluation_sampler(part, len(model.vocabulary), following)
    loader = BatchLoader(part.ids, sampler, model.network.device, mapping=part.mapping)
    state: State | None = None
    with torch.inference_mode(), evaluating(model.network), progress(what, len(loader)) as moved:
        for done, batch in enumerate(loader, start=1):
            found, state = read(batch, None if batch.starts_stream else state)
            yield batch, found
            moved(done)


def without_starts(nats: Tensor, part: Part, vocabulary_size: int) -> Floats:
    """(N,) -> (C,): the start symbols of lines, which nothing predicts, left out."""
    if part.line_starts is not None:
        nats = nats[part.ids < vocabulary_size]
    scored: Floats = nats.numpy()
    return scored
