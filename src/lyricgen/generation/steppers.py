"""Steppers of models of all kinds, of models with a memory and of ensembles.

Shapes: B texts, P prefix characters, V vocabulary, H hidden, K lengths of contexts, J occurrences,
L remembered characters.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.data.recall import MISSING
from lyricgen.generation.stepping import HybridStepper, ModelStepper, RecurrentStepper
from lyricgen.models.ensemble import EnsembleModel, is_ensemble
from lyricgen.models.hybrid_building import is_hybrid
from lyricgen.models.memory import Recalled
from lyricgen.models.memory_model import MemoryModel, is_memory
from lyricgen.models.model import NextModel
from lyricgen.models.network import LanguageModel


class MemoryStepper:
    """Stepper of a model with a memory: steps of the model, and a memory that grows with the texts.

    Each character of a text holds the length of the context that ends there and at the end of the
    text alike. So the memory is searched by one comparison for each remembered character.
    Characters that are no longer remembered are dropped, at the latest when they are as many.

    Args:
        model: the model with its memory.
        prefixes: as in `stepper`.
        inner: stepper of the model without the memory.

    Attributes:
        logits: (B, V) log-probabilities of the next character of each text.
    """

    logits: Tensor

    def __init__(self, model: MemoryModel, prefixes: Sequence[Tensor], inner: "Stepper") -> None:
        self._model, self._inner, self._options = model, inner, model.architecture.recall
        padded = pad_sequence(
            [prefix.long() for prefix in prefixes], True, MISSING, padding_side="left"
        ).to(model.device)
        self._kept = self._options.history  # characters that are enough
        self._end = 0  # characters of the texts that are kept, with padding
        self._text = padded.new_full((len(padded), 2 * padded.shape[1]), MISSING)  # (B, more)
        self._alike = torch.zeros_like(self._text, dtype=torch.int8)
        self._begin = padded.new_zeros(len(padded))  # (B,) first remembered character
        for characters in padded.unbind(1):
            self._append(characters)
        self._mix()

    def step(self, characters: Tensor) -> None:
        """Read one more character of each text."""
        self._inner.step(characters)
        self._append(characters)
        self._mix()

    def select(self, rows: Tensor) -> None:
        """Keep only the texts at `rows`, in this order; a row may occur more than once."""
        self._inner.select(rows)
        self._text, self._alike, self._begin, self.logits = (
            part.index_select(0, rows)
            for part in (self._text, self._alike, self._begin, self.logits)
        )

    def _append(self, characters: Tensor) -> None:
        """Append a character to each text, (B,); MISSING before a shorter text begins."""
        if self._end == 2 * self._kept:
            dropped = self._end - self._kept
            self._text, self._alike = (part[:, dropped:] for part in (self._text, self._alike))
            self._begin, self._end = (self._begin - dropped).clamp(min=0), self._kept
        end = self._end
        if end == self._text.shape[1]:
            more = min(end, 2 * self._kept - end)
            self._text = F.pad(self._text, (0, more), value=MISSING)
            self._alike = F.pad(self._alike, (0, more))
        self._text[:, end], self._end = characters, end + 1
        column = torch.arange(end, device=characters.device)
        same = (self._text[:, :end] == characters[:, None]) & (column >= self._begin[:, None])
        longer = F.pad(self._alike[:, : end - 1], (1, 0)) if end else self._alike[:, :0]
        longest = self._options.orders[-1]
        self._alike[:, :end] = torch.where(same, (longer + 1).clamp(max=longest), 0)
        ends = characters == self._model.architecture.newline
        if self._options.scope == "document" and end:
            ends &= self._text[:, end - 1] == characters
        if self._options.scope == "split" or (self._options.scope == "document" and not end):
            ends = torch.zeros_like(ends)
        self._begin = torch.where(ends | (characters < 0), end + 1, self._begin)

    def _mix(self) -> None:
        """Recall what followed earlier contexts, and mix it with the model's prediction."""
        newest = max(0, self._end - 1 - self._options.size)
        column = torch.arange(newest, self._end - 1, device=self._text.device)
        alike = self._alike[:, newest : self._end - 1, None]  # (B, L, 1)
        orders = torch.tensor(self._options.orders, device=alike.device)
        known = (alike >= orders) & (column >= self._begin[:, None])[..., None]  # (B, L, K)
        most = min(self._options.occurrences, len(column))
        found = torch.where(known, column[:, None], MISSING).topk(most, dim=1).values  # (B, J, K)
        following = (found + 1).flatten(1).clamp(min=0)
        characters = self._text.gather(1, following).view_as(found)
        none = (found < 0) | (characters >= self._model.vocabulary_size)
        after = characters.masked_fill(none, MISSING).transpose(1, 2)
        recalled = Recalled(self._find_recent(), after)
        self.logits = self._model.memory.mix(self._inner.logits, recalled, self._find_hidden())

    def _find_recent(self) -> Tensor:
        """Find the newest characters of the text or its part, (B, W) or fewer."""
        first = max(0, self._end - self._options.newest)
        recent = self._text[:, first : self._end]
        column = torch.arange(first, self._end, device=recent.device)
        other = (column < self._begin[:, None]) | (recent >= self._model.vocabulary_size)
        return recent.masked_fill(other, MISSING)

    def _find_hidden(self) -> Tensor | None:
        """Find the last hidden states, (B, H), if the memory reads them."""
        if not self._model.reads_hidden:
            return None
        if isinstance(self._inner, HybridStepper):
            return self._inner.hidden
        state = cast(ModelStepper, self._inner).state
        hidden: Tensor = self._model.hybrid.network.recurrence.last_output(state)
        return hidden


class EnsembleStepper:
    """Stepper of an ensemble, whose members keep their fast steps; `stepper` explains arguments.

    Attributes:
        logits: (B, V) log-probabilities of the next character of each text.
    """

    logits: Tensor

    def __init__(self, model: EnsembleModel, prefixes: Sequence[Tensor], length: int) -> None:
        self._model = model
        self._members = [
            stepper(member, [model.map_ids(number, prefix) for prefix in prefixes], length)
            for number, member in enumerate(model.models)
        ]
        self._combine()

    def step(self, characters: Tensor) -> None:
        """Read one more character of each text."""
        for number, member in enumerate(self._members):
            ids = self._model.map_ids(number, characters)
            member.step(ids.to(member.logits.device))  # n-grams are on the CPU
        self._combine()

    def select(self, rows: Tensor) -> None:
        """Keep only the texts at `rows`, in this order; a row may occur more than once."""
        for member in self._members:
            member.select(rows.to(member.logits.device))
        self.logits = self.logits.index_select(0, rows)

    def _combine(self) -> None:
        self.logits = self._model.combine([member.logits for member in self._members])


Stepper = ModelStepper | RecurrentStepper | HybridStepper | MemoryStepper | EnsembleStepper


def stepper(model: NextModel, prefixes: Sequence[Tensor], length: int) -> Stepper:
    """Make a stepper that has read the prefixes.

    Args:
        model: in evaluation mode.
        prefixes: B tensors (P,) of at least one input id each, on the CPU.
        length: approximate number of steps that will follow.

    Raises:
        ValueError: a prefix is empty.
    """
    if is_memory(model):
        return MemoryStepper(model, prefixes, stepper(model.inner, prefixes, length))
    if is_ensemble(model):
        return EnsembleStepper(model, prefixes, length)
    layers = model.layer_steps()
    if not layers:
        return ModelStepper(model, prefixes)
    if is_hybrid(model):
        network = RecurrentStepper(model.network, prefixes, layers, model.find_outputs(), length)
        return HybridStepper(model, prefixes, network)
    recurrent = cast(LanguageModel, model)
    output = recurrent.output_weight, recurrent.output.bias
    return RecurrentStepper(recurrent, prefixes, layers, output, length)
