"""Base classes of all models, and the scores of a batch.

Shapes: B batch, T time steps, V vocabulary, N characters in a split.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.data.recall import Recollection
from lyricgen.data.splits import Split
from lyricgen.models.architectures import Architecture
from lyricgen.models.cells.cell import LayerStep, State


class Model(nn.Module):
    """Base of all models of characters.

    Attributes:
        architecture: options from which the model can be built again.
        vocabulary_size: V.
    """

    # whether the model fills gaps: it predicts a character from both sides, not only from the left
    fills_gaps: ClassVar[bool] = False
    # whether the model is trained in steps; else it counts the whole text at once
    trains_in_steps: ClassVar[bool]
    # whether the model is compared with n-gram models, and mixed with the best of them
    mixes_with_ngrams: ClassVar[bool] = True
    # order of the n-grams that are part of the model; 0 without n-grams
    ngram_order: int = 0
    # prefix in the names of its perplexity and bits per character
    metric_prefix: ClassVar[str] = ""
    # (V,) 1 for a character that gets a part of label smoothing, else 0; None: all get a part
    smoothed: Tensor | None

    architecture: Architecture
    vocabulary_size: int

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("smoothed", None, persistent=False)

    @property
    def device(self) -> torch.device:
        """Device of the parameters and of the inputs."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """Number of learnt parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def description(self) -> str:
        """Kind and size of the model in a few words."""
        raise NotImplementedError

    def predict(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        """Compute the logits of a batch's targets, (B, T, V), and the next state.

        Args:
            batch: inputs and targets.
            state: the state after the previous batch; None at the start of a stream.
        """
        logits, state = self(batch.inputs, state)
        return logits, state

    def loss(
        self, batch: Batch, state: State | None, label_smoothing: float
    ) -> tuple[Tensor, Tensor, State]:
        """Compute the loss of a batch's targets, without padding.

        Args:
            batch: inputs and targets.
            state: as in `predict`.
            label_smoothing: share of each target spread over the vocabulary (Szegedy et al. 2016).

        Returns:
            The total loss, with label smoothing; the total nats, without it; and the next state.
        """
        logits, state = self.predict(batch, state)
        # one softmax for the loss and the nats
        log_probabilities = F.log_softmax(
            at_least_float32(logits).flatten(0, 1), dim=-1
        )  # (B·T, V)
        loss, nats = cross_entropy(
            log_probabilities, batch.targets.flatten(), label_smoothing, self.smoothed
        )
        return loss, nats, state

    def score(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        """Compute the nats of a batch's targets, (B, T), and the next state.

        Padding has 0 nats. `predict` explains the arguments.
        """
        logits, state = self.predict(batch, state)
        return compute_nats(logits, batch), state

    def recollect(self, split: Split) -> Recollection | None:
        """Find what the model recalls of earlier characters of a split; None without a memory.

        Raises:
            UserError: the mapped ids of the split are damaged and cannot be restored.
        """

    def recollect_training(self) -> Recollection | None:
        """Find what the model recalls in training; None without a memory.

        The memory begins anew in each block that the n-grams leave out, as in a held-out split.
        """

    def score_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """Compute the same as `score`, and also the nats of the parts of a mixed model.

        Returns:
            Nats of the targets, (B, T); the nats of each part by its name; and the next state.
        """
        nats, state = self.score(batch, state)
        return nats, {}, state

    def calibrate(self, batches: Iterable[Batch], total: Callable[[Tensor], Tensor]) -> None:
        """Fit numbers on the validation split, before the split is scored; most models have none.

        Args:
            batches: the split, in the order of a loader.
            total: function that adds up a tensor over all processes.
        """

    def predict_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        """Compute the same as `predict`, and also the weights of the parts of a mixed model.

        Returns:
            Logits of the targets, (B, T, V); the weight of each part, (B, T), by its name; and the
            next state.
        """
        logits, state = self.predict(batch, state)
        return logits, {}, state


class NextModel(Model):
    """Base of models of P(next character | earlier characters).

    A call takes ids, (B, T), and the state after earlier ids, None at the start of a stream. It
    returns the logits, (B, T, V), and the next state.
    """

    @cached_property
    def state_size(self) -> int:
        """Number of tensors in a state, found by reading one character."""
        with torch.inference_mode():
            _, state = self(torch.zeros((1, 1), dtype=torch.int64, device=self.device))
        return len(state)

    def score_next(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Compute the nats of the character after each row, (B,); each row starts a stream.

        Args:
            inputs: (B, T) int64 ids.
            lengths: (B,) int64, number of ids to read in each row, at least 1.
            targets: (B,), the character after these ids in each row.
        """
        raise NotImplementedError

    def layer_steps(self) -> list[LayerStep]:
        """Make the `LayerStep` of each layer, in the order of layers; [] if a layer has none."""
        return []


def compute_nats(logits: Tensor, batch: Batch) -> Tensor:
    """Compute the nats of a batch's targets from logits, (B, T, V); 0 for padding."""
    # flattened, since cross_entropy is slow with the classes in the middle dimension
    return F.cross_entropy(
        at_least_float32(logits).flatten(0, 1),
        batch.targets.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    ).view_as(batch.targets)


def cross_entropy(
    log_probabilities: Tensor,
    targets: Tensor,
    label_smoothing: float,
    smoothed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the total loss, with label smoothing, and the total nats, without it.

    Args:
        log_probabilities: (M, V).
        targets: (M,) ids, IGNORED for padding.
        label_smoothing: share of each target spread over the vocabulary.
        smoothed: (V,) 1 for a character that gets a part of it, else 0; None: all get a part.
    """
    nats = F.nll_loss(log_probabilities, targets, ignore_index=IGNORED, reduction="sum")
    if not label_smoothing:
        return nats, nats
    counted = (targets != IGNORED).to(log_probabilities.dtype)
    if smoothed is None:
        means = log_probabilities.mean(-1)
    else:
        means = log_probabilities @ (smoothed / smoothed.sum()).to(log_probabilities.dtype)
    spread = -(means * counted).sum()
    return (1 - label_smoothing) * nats + label_smoothing * spread, nats


def at_least_float32(logits: Tensor) -> Tensor:
    """Convert logits in half precision to float32, so that sums are precise enough."""
    return logits if logits.dtype.itemsize > 2 else logits.float()


def safe_log(probabilities: Tensor) -> Tensor:
    """Compute finite logarithms; zero counts as the smallest normal number."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def write_to_positions(nats: Tensor, batch: Batch, room: Tensor) -> None:
    """Write the nats of a batch, (B, T), to the positions of its targets in `room`.

    `room`, (N,) float64 on the CPU, has a place for each character of the split. Padding is left
    out.
    """
    steps = torch.arange(1, nats.shape[1] + 1, device=nats.device)
    positions = batch.starts[:, None] + steps  # (B, T) of the targets
    counted = batch.targets != IGNORED
    room[positions[counted].cpu()] = nats[counted].double().cpu()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a `with` block; restore its mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
