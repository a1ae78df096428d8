"""Models with a memory of the text that they have read.

Shapes: B rows, T time steps, M positions, V vocabulary, H hidden, K lengths of contexts, J
occurrences, L characters before.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import TypeIs, override

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.data.options import RecallOptions
from lyricgen.data.recall import (
    MISSING,
    Ids,
    Numbers,
    Recollection,
    count_recalled,
    number_parts,
    recall,
)
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.architectures import MemoryArchitecture
from lyricgen.models.cells.cell import State
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.memory import Memory, Recalled
from lyricgen.models.model import Model, NextModel, compute_nats


class MemoryModel(NextModel):
    """A model with a memory.

    Where a whole text is scored or trained on, a batch brings the counts of what is recalled.
    Otherwise the state holds the characters read: that of the model, then (1, B, L) ids.

    Args:
        architecture: sizes and options of the model and of the memory.
        inner: the model.

    Attributes:
        memory: the memory.
        reads_hidden: whether the memory reads the last hidden states of a hybrid model.
    """

    trains_in_steps: ClassVar[Literal[True]] = True
    mixes_with_ngrams = False
    metric_prefix = "memory_"

    architecture: MemoryArchitecture

    def __init__(self, architecture: MemoryArchitecture, inner: NextModel) -> None:
        super().__init__()
        self.architecture, self.inner = architecture, inner
        self.vocabulary_size = architecture.vocabulary_size
        self.ngram_order = inner.ngram_order
        self.reads_hidden = architecture.reads_hidden
        size = self.hybrid.architecture.network.hidden_size if self.reads_hidden else None
        self.memory = Memory(architecture.recall, size)

    @property
    def hybrid(self) -> HybridModel:
        """The inner model, if it is hybrid.

        Raises:
            TypeError: it is of another kind.
        """
        if isinstance(self.inner, HybridModel):
            return self.inner
        raise TypeError("only with a hybrid model a memory is trained")

    @property
    @override
    def device(self) -> torch.device:
        return self.inner.device

    @property
    @override
    def description(self) -> str:
        return f"{self.inner.description} {'+' if self.reads_hidden else 'with'} memory"

    @property
    @override
    def num_parameters(self) -> int:
        own = sum(parameter.numel() for parameter in self.memory.parameters())
        return self.inner.num_parameters + own

    @override
    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each input; `NextModel` explains arguments and result."""
        before, history = self._split_state(inputs, state)
        logits, hidden, after = self._read(inputs, before)
        recalled, history = self._recall_after(history, inputs)
        return self._mix_steps(logits, recalled, hidden), (*after, history)

    def _split_state(self, inputs: Tensor, state: State | None) -> tuple[State | None, Tensor]:
        """Divide a state into that of the model, and the characters read, (1, B, L)."""
        return (None, inputs[None, :, :0]) if state is None else (state[:-1], state[-1])

    def _read(self, inputs: Tensor, state: State | None) -> tuple[Tensor, Tensor | None, State]:
        """Compute the model's logits, (B, T, V), the hidden states if needed, and the state."""
        if not self.reads_hidden:
            logits, after = self.inner(inputs, state)
            return logits, None, after
        found = self.hybrid.read(inputs, state)
        return found.whole, found.hidden, found.state

    def _recall_after(self, history: Tensor, inputs: Tensor) -> tuple[Recalled, Tensor]:
        """Recall after each input, M = B · T, and append the inputs to the history."""
        read = torch.cat([history[0], inputs], dim=1)  # (B, L + T)
        recalled = self._recall(read, history.shape[2])
        return recalled, read[None, :, -self.architecture.recall.history :]

    def _mix_steps(self, logits: Tensor, recalled: Recalled, hidden: Tensor | None) -> Tensor:
        read = None if hidden is None else hidden.flatten(0, 1)
        return self.memory.mix(logits.flatten(0, 1), recalled, read).view_as(logits)

    def reach(self, split: Split) -> int:
        """Count the characters of a split that the memory holds at most."""
        ids, chosen = split.sound_ids.numpy(), self.architecture.recall
        parts = number_parts(ids, chosen.scope, self.vocabulary_size, self.architecture.newline)
        longest = int(np.bincount(parts[ids < self.vocabulary_size]).max())
        return min(chosen.size, longest - 1)

    @override
    def recollect(self, split: Split) -> Recollection:
        return self._count(split.sound_ids.numpy())

    @override
    def recollect_training(self) -> Recollection | None:
        tables = self.inner.training_tables if isinstance(self.inner, HybridModel) else None
        return None if tables is None else self._count(tables.ids, tables.blocks, tables.begin)

    def _count(self, ids: Ids, blocks: Numbers | None = None, begin: int = 0) -> Recollection:
        """Count what is recalled in a text, (N,), or in each of its blocks by itself."""
        chosen, size = self.architecture.recall, self.vocabulary_size
        parts = number_parts(ids, chosen.scope, size, self.architecture.newline)
        if blocks is None:
            return Recollection(count_recalled(ids, parts, size, chosen), begin)
        order = np.argsort(blocks, kind="stable")  # the characters of a block stand together
        parts = (blocks * (parts[-1] + 1) + parts)[order]
        counts = count_recalled(ids[order], parts, size, chosen)
        return Recollection(counts[torch.from_numpy(np.argsort(order))], begin)

    def _recall(self, read: Tensor, first: int) -> Recalled:
        """Recall what followed the contexts after the characters read, (B, L), from `first` on."""
        rows, length = read.shape
        # one more character for each row: the character to predict
        ids = F.pad(read.cpu(), (0, 1)).numpy()
        chosen, size = self.architecture.recall, self.vocabulary_size
        newline, flat = self.architecture.newline, ids.ravel()
        of_rows = [number_parts(row, chosen.scope, size, newline) for row in ids]
        parts = np.concatenate([part * rows + row for row, part in enumerate(of_rows)])
        found = np.array([list(one) for one in recall(flat, parts, size, chosen)])  # (K, J, …)
        after = np.moveaxis(found.reshape(*found.shape[:2], rows, length + 1), (0, 1), (2, 3))
        part = torch.from_numpy(parts.reshape(rows, length + 1))
        recent = _newest(read.cpu(), MISSING, chosen.newest)[:, first:]  # (B, T, W)
        of_recent = _newest(part[:, :-1], MISSING, chosen.newest)[:, first:]
        elsewhere = of_recent != part[:, first + 1 :, None]
        recent = recent.masked_fill(elsewhere | (recent == size), MISSING)
        return Recalled(
            recent.flatten(0, 1).to(self.device),
            torch.from_numpy(after[:, first + 1 :]).flatten(0, 1).to(self.device),
        )

    @override
    def score(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        nats, _, state = self.score_parts(batch, state)
        return nats, state

    @override
    def score_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        hidden = None
        if not self.reads_hidden:
            nats, parts, state = self.inner.score_parts(batch, state)
        else:
            found = self.hybrid.read(batch.inputs, state)
            nats, parts = compute_nats(found.whole, batch), self.hybrid.score_network(batch, found)
            hidden, state = found.hidden.flatten(0, 1), found.state
        with_memory = self.memory.nats(nats.flatten(), _counts_of(batch), hidden)
        return with_memory.view_as(nats).masked_fill(batch.targets == IGNORED, 0.0), parts, state

    @override
    def loss(
        self, batch: Batch, state: State | None, label_smoothing: float
    ) -> tuple[Tensor, Tensor, State]:
        nats, own_loss, hidden, state = self.hybrid.target_nats(batch, state, label_smoothing)
        with_memory = self.memory.nats(nats, _counts_of(batch), hidden)
        total = with_memory.masked_fill(batch.targets.flatten() == IGNORED, 0.0).sum()
        return total + own_loss, total, state

    @override
    def calibrate(self, batches: Iterable[Batch], total: Callable[[Tensor], Tensor]) -> None:
        self.inner.calibrate(batches, total)

    @override
    def predict_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        before, history = self._split_state(batch.inputs, state)
        logits, parts, after = self.inner.predict_parts(batch, before)
        hidden = None
        if self.reads_hidden:
            logits, hidden, after = self._read(batch.inputs, before)
        recalled, history = self._recall_after(history, batch.inputs)
        read = None if hidden is None else hidden.flatten(0, 1)
        weight = self.memory.model_weight(recalled, self.vocabulary_size, read)
        weight = weight.view(batch.inputs.shape)
        parts = {name: part * weight for name, part in parts.items()} or {"model": weight}
        mixed = self._mix_steps(logits, recalled, hidden)
        return mixed, parts | {"memory": 1 - weight}, (*after, history)


def _counts_of(batch: Batch) -> Tensor:
    """Take the counts of what is recalled at a batch's targets, (M, 3, K)."""
    if batch.recalled is None:
        raise RuntimeError("a model with a memory needs the counts of what is recalled")
    return batch.recalled.flatten(0, 1)


def _newest(read: Tensor, before: int, count: int) -> Tensor:
    """Find the `count` newest values after each step, (B, T) -> (B, T, count)."""
    return F.pad(read, (count, 0), value=before).unfold(1, count, 1)[:, 1:]


def add_memory(
    model: Model, options: RecallOptions, vocabulary: Vocabulary, *, reads_hidden: bool = False
) -> MemoryModel:
    """Give a memory to a model that continues texts.

    `reads_hidden` tells whether its confidence depends on the hidden states of a hybrid model.

    Raises:
        UserError: the model fills gaps, or has a memory already.
    """
    if not isinstance(model, NextModel) or isinstance(model, MemoryModel):
        has = "has a memory already" if isinstance(model, MemoryModel) else "fills gaps"
        raise UserError(f"this model {has}: leave --memory out")
    inner: Any = model.architecture  # a model with a memory has none of its own
    architecture = MemoryArchitecture(
        kind="memory",
        inner=inner,
        recall=RecallOptions(**options.model_dump(include=set(RecallOptions.model_fields))),
        reads_hidden=reads_hidden,
        newline=vocabulary.characters.find("\n"),
    )
    return MemoryModel(architecture, model)


def is_memory(model: Model) -> TypeIs[MemoryModel]:
    """Whether the model has a memory."""
    return isinstance(model, MemoryModel)


def crosses_lines(model: Model) -> bool:
    """Whether a model remembers other lines, so that the lines of a list depend on each other."""
    return isinstance(model, MemoryModel) and model.architecture.recall.scope == "split"


def without_memory(model: Model) -> Model:
    """Return the model inside a model with a memory, or any other model itself."""
    return model.inner if isinstance(model, MemoryModel) else model
