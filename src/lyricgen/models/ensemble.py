"""Several models as one.

Here p_i are the distributions of the members, and w_i their weights, which sum to one:

    arithmetic   p(c) = w_1 p_1(c) + … + w_N p_N(c)
    geometric    p(c) ∝ p_1(c)^w_1 · … · p_N(c)^w_N

A member may know more characters than the ensemble. Its distribution is then restricted to the
characters of the ensemble, and renormalised.

Shapes: B batch, T time steps, V vocabulary of the ensemble, V_i of a member, N members.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import TypeIs, override

from lyricgen.models.architectures import EnsembleArchitecture
from lyricgen.models.cells.cell import State
from lyricgen.models.model import Model, NextModel, safe_log

MOST_LOGITS = 2**24  # most logits of the rows that `score_next` reads at a time


class EnsembleModel(NextModel):
    """Members whose distributions are averaged, in the order of the architecture.

    A state holds the states of the members, one after another. Members that count n-grams stay on
    the CPU.
    """

    trains_in_steps: ClassVar[Literal[False]] = False
    mixes_with_ngrams = False

    architecture: EnsembleArchitecture

    def __init__(self, architecture: EnsembleArchitecture, members: Sequence[NextModel]) -> None:
        super().__init__()
        self.architecture = architecture
        self.vocabulary_size = architecture.vocabulary_size
        self.members = nn.ModuleList(members)
        # (V + 1,) each, a member's ids of the characters and of the start of a line
        self._ids = [
            None if ids is None else torch.tensor([*ids, member.vocabulary_size])
            for ids, member in zip(architecture.ids, members, strict=True)
        ]

    @property
    def models(self) -> list[NextModel]:
        """The members as a list."""
        return cast(list[NextModel], list(self.members))

    @property
    @override
    def device(self) -> torch.device:
        first = next(self.parameters(), None)  # n-grams have none
        return torch.device("cpu") if first is None else first.device

    @property
    @override
    def num_parameters(self) -> int:
        """Number of the members' parameters."""
        return sum(member.num_parameters for member in self.models)

    @property
    @override
    def description(self) -> str:
        return f"ensemble of {len(self.members)} ({self.architecture.combination})"

    @override
    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each input; `NextModel` explains arguments and result."""
        logits, state = self.read_members(inputs, state)
        return self.combine(logits), state

    def read_members(self, inputs: Tensor, state: State | None) -> tuple[list[Tensor], State]:
        """Compute the logits of each member, (B, T, V_i); `forward` explains the arguments."""
        found, after = [], ()
        for number, member in enumerate(self.models):
            before = None if state is None else state[len(after) : len(after) + member.state_size]
            logits, own = member(self.map_ids(number, inputs), before)
            found.append(logits)
            after = (*after, *own)
        return found, after

    @override
    def score_next(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        found = []
        at_once = max(1, MOST_LOGITS // (inputs.shape[1] * self.vocabulary_size))
        for rows in torch.split(torch.arange(len(inputs), device=inputs.device), at_once):
            logits, _ = self(inputs[rows])  # (B, T, V)
            last = logits[torch.arange(len(rows)), lengths[rows] - 1]  # (B, V)
            found.append(F.nll_loss(last, targets[rows].long(), reduction="none"))
        return torch.cat(found)

    def map_ids(self, member: int, ids: Tensor) -> Tensor:
        """Convert ids of the ensemble, of any shape, to ids of a member, given by its number."""
        table = self._ids[member]
        return ids if table is None else table.to(ids.device)[ids.long()]

    def restrict(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """Select the ensemble's characters, (…, V), in the logits of each member, (…, V_i)."""
        first = next(self.parameters(), torch.empty(0, dtype=torch.float64))  # n-grams have none
        dtype = torch.promote_types(first.dtype, torch.float32)
        known = (
            part if ids is None else part.index_select(-1, ids[:-1].to(part.device))
            for ids, part in zip(self._ids, logits, strict=True)
        )
        return [part.to(first.device, dtype) for part in known]

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """Compute log-probabilities, (…, V), from the logits of the members, (…, V_i) each."""
        geometric, total = self.architecture.combination == "geometric", None
        for weight, part in zip(self.architecture.weights, self.restrict(logits), strict=True):
            term = part if geometric else part.softmax(-1)
            total = term * weight if total is None else total.add_(term, alpha=weight)
        average = cast(Tensor, total)
        if geometric:
            return average.log_softmax(-1)
        return safe_log(average)


def is_ensemble(model: Model) -> TypeIs[EnsembleModel]:
    """Whether the model is an ensemble."""
    return isinstance(model, EnsembleModel)
