"""Dynamic evaluation: a network goes on learning while it reads a held-out text.

Each segment of the text is scored, and then learnt by a step down g, the gradient of the network's
own mean loss on it:

    θ ← θ + λ (θ_0 - θ) - η g / (r + mean r)

So no weights have seen a character that they score. Here θ_0 are the trained weights, and r is the
root of the mean square of g over segments of the training split, for each weight; the mean is that
of a tensor. A segment of running text has `STEPS` characters, and the state is carried from one to
the next; in a list of lines it is a line.

Source: Krause, Kahembwe, Murray and Renals, ICML 2018, "Dynamic Evaluation of Neural Sequence
Models", where r is damped by a constant, and λ grows with r.

Shapes: N symbols of a split, with the start symbols of lines; S segments.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from lyricgen.console import progress
from lyricgen.data.batch import Batch, BatchLoader, Sampler, Windows, make_windows
from lyricgen.data.samplers import EVALUATION_STEPS
from lyricgen.data.splits import Split
from lyricgen.models.cells.cell import State
from lyricgen.models.model import Model, write_to_positions

STEPS = 20  # characters of a segment of running text
DECAY = 0.01  # λ
SEGMENTS = 200  # of the training split, over which squares are averaged


@dataclass(frozen=True)
class Segments(Sampler):
    """Sampler of segments of a split, one a batch."""

    starts: Tensor  # (S,) int64
    lengths: Tensor  # (S,) int64
    starts_stream: Tensor  # (S,) whether the state is zeroed first

    @classmethod
    def of(cls, split: Split) -> "Segments":
        """Divide a split; a line of more than `EVALUATION_STEPS` characters makes several."""
        if split.line_starts is None:
            steps, starts = STEPS, torch.zeros(1, dtype=torch.int64)
            lengths = torch.tensor([len(split.ids) - 1])
        else:
            steps, starts, lengths = EVALUATION_STEPS, split.line_starts, split.line_lengths
        pieces = (lengths + steps - 1) // steps
        before = (pieces.cumsum(0) - pieces).repeat_interleave(pieces)
        piece = torch.arange(len(before)) - before  # (S,)
        left = lengths.repeat_interleave(pieces) - steps * piece
        starts = starts.repeat_interleave(pieces) + steps * piece
        return cls(starts, left.clamp(max=steps), piece == 0)

    def take(self, chosen: Tensor) -> "Segments":
        """Take the segments of these numbers, or those for which a mask is true."""
        return Segments(self.starts[chosen], self.lengths[chosen], self.starts_stream[chosen])

    def spread(self, count: int) -> "Segments":
        """Take at most `count` segments at equal distances."""
        every = -(-len(self) // count)
        return self.take(torch.arange(0, len(self), every))

    def __len__(self) -> int:
        return len(self.starts)

    @override
    def windows(self, epoch: int, index: int) -> Windows:
        """Choose one segment."""
        del epoch
        begins = bool(self.starts_stream[index])
        return make_windows(self.starts[index, None], self.lengths[index, None], begins)


class Learner:
    """A network that learns while it reads; its weights are restored after each reading.

    Args:
        network: a network in evaluation mode, alone or with n-grams.
        train: the training split.

    Attributes:
        scales: r + mean r of the parameters by their places in the network; the weights of n-grams
            have no gradient and no scale.
    """

    def __init__(self, network: Model, train: Split) -> None:
        self._network, self._parameters = network, list(network.parameters())
        segments = Segments.of(train).spread(SEGMENTS)
        squares: dict[int, Tensor] = {}  # by place among the parameters
        for batch in self._load(train, segments):
            for place, gradient in self._differentiate(batch, None)[0].items():
                square = gradient.square_().div_(len(segments))
                squares[place] = square.add_(squares[place]) if place in squares else square
        roots = {place: square.sqrt_() for place, square in squares.items()}
        # a tensor without any gradient must not be divided by 0
        self.scales = {
            place: (root + root.mean()).clamp_(min=1e-12) for place, root in roots.items()
        }

    def read(self, split: Split, rate: float, what: str, most: int | None = None) -> Tensor:
        """Score a split and learn it.

        Args:
            split: running text or lines.
            rate: η; with 0 nothing is learnt.
            what: name of the work for the progress bar.
            most: only segments among the first `most` symbols are read; None for all.

        Returns:
            (N,) float64 nats; nan where nothing is predicted, inf from a segment on whose nats are
            not finite.
        """
        segments = Segments.of(split)
        if most is not None:
            segments = segments.take(segments.starts + segments.lengths < most)
        found = torch.full((len(split.ids),), torch.nan, dtype=torch.float64)
        state: State | None = None
        with self._restored() as trained, progress(what, len(segments)) as moved:
            for done, batch in enumerate(self._load(split, segments), start=1):
                gradients, nats, state = self._differentiate(batch, state)
                if not bool(nats.isfinite().all()):
                    found[int(batch.starts) + 1 :] = torch.inf
                    break
                write_to_positions(nats, batch, found)
                with torch.no_grad():
                    for place, gradient in gradients.items():
                        weights = self._parameters[place].lerp_(trained[place], DECAY)
                        weights.addcdiv_(gradient, self.scales[place], value=-rate)
                moved(done)
        return found

    def _load(self, split: Split, segments: Segments) -> BatchLoader:
        return BatchLoader(split.ids, segments, self._network.device, mapping=split.mapping)

    def _differentiate(
        self, batch: Batch, state: State | None
    ) -> tuple[dict[int, Tensor], Tensor, State]:
        """Score a segment; find the gradients by the places of parameters.

        Returns:
            The gradients of the network's own mean loss, the nats, (1, T), and the next state.
        """
        before = None if batch.starts_stream else state
        nats, parts, after = self._network.score_parts(batch, before)
        own = parts.get("network", nats).mean()  # without padding
        found = torch.autograd.grad(own, self._parameters, allow_unused=True)
        gradients = {place: one for place, one in enumerate(found) if one is not None}
        return gradients, nats.detach(), tuple(part.detach() for part in after)

    @contextmanager
    def _restored(self) -> Iterator[list[Tensor]]:
        """Restore the weights after a `with` block, which gets a copy of them."""
        kept = [parameter.detach().clone() for parameter in self._parameters]
        try:
            yield kept
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, kept, strict=True):
                    parameter.copy_(value)
