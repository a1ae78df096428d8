"""The nats of every character of a part, aligned whatever the models and their layouts.

N symbols in a part, start symbols of lines among them; C characters in its text.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.code_points import code_points
from lyricgen.data.corpus import Unit
from lyricgen.data.parts import Part
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.decoding.continuing import evaluating
from lyricgen.errors import UserError
from lyricgen.evaluation.bootstrap import Floats
from lyricgen.evaluation.checkpoints import Evaluated
from lyricgen.model.recurrence import State
from lyricgen.model.scoring import place, score

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
        ids = part.ids.numpy()
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


def nats_of(evaluated: Evaluated, part: str) -> Floats:
    """Score a part as training does: all of it, in order, the state carried, without dropout.

    Returns:
        (C,) in nats; nan where the model predicts nothing, as at the start of a running text.

    Raises:
        UserError: the model gives a character no probability.
    """
    network, data = evaluated.model.network, evaluated.data
    loader = data.evaluation_loader(part)
    found = torch.full((len(data.parts[part].ids),), torch.nan, dtype=torch.float64)
    state: State | None = None
    what = f"scoring {part} with {evaluated.label}"
    with torch.inference_mode(), evaluating(network), progress(what, len(loader)) as moved:
        for done, batch in enumerate(loader, start=1):
            nats, state = score(network, batch, None if batch.starts_stream else state)
            place(nats, batch, found)
            if not bool(nats.isfinite().all()):
                raise UserError(
                    f"{str(evaluated.path)!r} predicts no probabilities (nan or 0): its training "
                    "has diverged; name another checkpoint"
                )
            moved(done)
    return without_starts(found, data.parts[part], len(data.vocabulary))


def without_starts(nats: Tensor, part: Part, vocabulary_size: int) -> Floats:
    """(N,) -> (C,): the start symbols of lines, which nothing predicts, left out."""
    if part.line_starts is not None:
        nats = nats[part.ids < vocabulary_size]
    scored: Floats = nats.numpy()
    return scored
