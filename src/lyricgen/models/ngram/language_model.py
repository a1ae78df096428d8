"""N-gram models with the interface of a network, and the n-gram baseline for held-out splits.

Shapes: B batch, T time steps, V vocabulary, C = order - 1 symbols of context; G_k distinct n-grams
of k symbols in the training text (G_0 = 1, the empty one); N characters in a split.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.data.splits import Split
from lyricgen.errors import UserError, escape_line
from lyricgen.models.cells.cell import State
from lyricgen.models.model import NextModel
from lyricgen.models.ngram.model import (
    NOTHING,
    Floats,
    Grams,
    Ids,
    NgramCounts,
    NgramModel,
    Numbers,
    smooth_counts,
    take_nats,
)
from lyricgen.models.options import Interpolated, NgramArchitecture

log = logging.getLogger(__name__)


class NgramLanguageModel(NextModel):
    """Model of P(next character | last order - 1 characters), by counting; uniform before `fit`.

    Its buffers stay on the CPU: keys_k (G_k,) int64, direct_k (G_k + 1,) and passed_k (G_{k-1} +
    1,) float64 for k = 1 … order. `ngram.model` explains them. Its state is one tensor, (1, B, C)
    int64: the last C symbols read; NOTHING stands for missing symbols.
    """

    trains_in_steps: ClassVar[Literal[False]] = False
    mixes_with_ngrams = False

    architecture: NgramArchitecture

    def __init__(self, architecture: NgramArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.vocabulary_size = architecture.vocabulary_size
        for k in range(1, architecture.order + 1):
            self.register_buffer(f"keys_{k}", torch.empty(0, dtype=torch.int64))
            self.register_buffer(f"direct_{k}", torch.zeros(1, dtype=torch.float64))
            contexts = 1 if k == 1 else 0  # the empty n-gram is always there
            self.register_buffer(f"passed_{k}", torch.ones(contexts + 1, dtype=torch.float64))

    @classmethod
    def from_tensors(cls, architecture: NgramArchitecture, tensors: dict[str, Tensor]) -> Self:
        """Build a model on saved buffers, which are checked and not copied.

        Raises:
            UserError: `tensors` are not the buffers of an n-gram model.
        """
        network = cls(architecture)
        buffers = dict(network.named_buffers())
        for name in sorted(buffers.keys() | tensors.keys()):
            if name not in buffers or name not in tensors:
                there = "absent" if name in buffers else "too many"
                raise UserError(f"{escape_line(name)} is {there}")
            found, dtype = tensors[name], buffers[name].dtype
            if found.dtype != dtype or found.dim() != 1:
                shown = f"{found.dtype} of shape {tuple(found.shape)}"
                raise UserError(f"{name} is {shown}, not a plain row of {dtype}")
            setattr(network, name, found)
        network._check()
        return network

    @override
    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each input.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            state: (1, B, C) after earlier characters; None at the start of a stream.

        Returns:
            Log-probabilities, (B, T, V) float64, and the state after the last character.

        Raises:
            ValueError: an id is outside 0..V and not NOTHING.
        """
        contexts, state = self.contexts(inputs, state)
        return torch.from_numpy(self.model.distributions(contexts)).log(), state

    def nats(
        self, inputs: Tensor, targets: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Compute the nats of the characters after the inputs.

        These are `targets`, (B, T) ids in 0..V. `forward` explains the other arguments and the
        errors.

        Returns:
            Nats, (B, T) float64, nan for V, and the state after the last input.
        """
        contexts, state = self.contexts(inputs, state)
        return torch.from_numpy(self.model.nats(contexts, targets.numpy())), state

    @override
    def score(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        padding = batch.targets == IGNORED
        nats, state = self.nats(batch.inputs, batch.targets.masked_fill(padding, 0), state)
        return nats.masked_fill(padding, 0.0), state

    @override
    def score_next(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        nats, _ = self.nats(inputs, targets.long()[:, None].expand_as(inputs))
        return nats[torch.arange(len(inputs)), lengths - 1]

    def fit(self, ids: Tensor) -> None:
        """Count the n-grams of a text, (N,) ids on the CPU; forget any earlier text.

        Raises:
            ValueError: an id is outside 0..V, or no id is below V.
        """
        self.set_counts(NgramCounts(ids.numpy(), self.vocabulary_size, self.architecture.order))

    def set_counts(self, counts: NgramCounts) -> None:
        """Take the n-grams that were counted in a text, of at least `order` symbols."""
        chosen = self.architecture
        model = smooth_counts(counts, chosen.order, chosen.smoothing, chosen.k)
        each = zip(counts.keys, model.terms, strict=False)
        for k, (keys, (direct, passed)) in enumerate(each, start=1):
            for name, values in (("keys", keys), ("direct", direct), ("passed", passed)):
                setattr(self, f"{name}_{k}", torch.from_numpy(values))

    @property
    @override
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def num_parameters(self) -> int:
        """Number of distinct n-grams of 1 to order symbols."""
        return sum(len(keys) for keys, _, _ in self._levels())

    @property
    @override
    def description(self) -> str:
        chosen = self.architecture
        smoothing = f"add_k ({chosen.k:g})" if chosen.smoothing == "add_k" else chosen.smoothing
        return f"{chosen.order}-gram {smoothing}"

    def _levels(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return keys_k, direct_k and passed_k for k = 1 … order."""
        buffers = self.buffers()
        return list(zip(buffers, buffers, buffers, strict=True))

    def _check(self) -> None:
        contexts, width = 1, self.vocabulary_size + 1  # G_0, the empty n-gram
        below = shorter = torch.zeros(1, dtype=torch.int64)
        for k, (keys, direct, passed) in enumerate(self._levels(), start=1):
            within = bool(((keys >= 0) & (keys < contexts * width)).all())
            if not within or bool((keys[1:] <= keys[:-1]).any()):
                raise UserError(f"keys_{k} should ascend from 0 to less than {contexts * width}")
            for name, terms, size in (("direct", direct, len(keys)), ("passed", passed, contexts)):
                if len(terms) != size + 1:
                    raise UserError(
                        f"{name}_{k} should have {size + 1} numbers, it has {len(terms)}"
                    )
            total = torch.bincount(keys // width, direct[:-1], contexts) + passed[:-1]
            unseen = direct[-1] == 0 and passed[-1] == 1
            ones = bool(((total - 1).abs() < 1e-9).all())
            if not (unseen and ones and (direct >= 0).all() and (passed > 0).all()):
                raise UserError(f"direct_{k} and passed_{k} are not the terms of probabilities")
            ends = shorter[keys // width] * width + keys % width  # without the oldest symbol
            shorter = torch.zeros_like(keys)  # (G_k,) number of each n-gram's end
            if k > 1:
                shorter = torch.searchsorted(below, ends).clamp(max=len(below) - 1)
            starts = keys % width == self.vocabulary_size  # they are never predicted
            missing = k > 1 and not torch.equal(below[shorter], ends)
            if missing or bool(direct[:-1][starts].any()):
                raise UserError(f"keys_{k} has n-grams that no text can have")
            below, contexts = keys, len(keys)

    @property
    def model(self) -> NgramModel:
        """The n-gram model in NumPy, on the memory of the buffers."""
        levels = [tuple(buffer.numpy() for buffer in level) for level in self._levels()]
        grams = Grams(self.vocabulary_size, [keys for keys, _, _ in levels])
        terms = [(direct, passed) for _, direct, passed in levels]
        return NgramModel(grams, terms, self.architecture.smoothing)

    def contexts(self, inputs: Tensor, state: State | None) -> tuple[list[Numbers], State]:
        """Find the contexts of the characters after the inputs; `forward` explains the arguments.

        Returns:
            The contexts, (B, T) for each length from 0; and the state after the last input.
        """
        inputs = inputs.cpu()
        length, steps = self.architecture.order - 1, inputs.shape[1]
        before = inputs.new_full((len(inputs), length), NOTHING) if state is None else state[0][0]
        text = torch.cat([before, inputs], dim=1)  # (B, C + T)
        contexts = [numbers[:, length:] for numbers in self.model.contexts(text.numpy())]
        return contexts, (text[:, steps:][None],)


def nats_by_order(
    counts: NgramCounts, texts: list[tuple[Ids, list[Numbers]]], smoothing: Interpolated
) -> Iterator[list[Floats]]:
    """Score texts with the models of every order from 1 up, which share their lower orders.

    Args:
        counts: counted grams of the training text.
        texts: each text's ids, (T,), and the numbers of its grams from `Grams.number`.
        smoothing: smoothing of the models.

    Yields:
        For each order, the nats of each text's symbols, (T,); nan for START.
    """

    def interpolate(k: int, lower: list[Floats], *, highest: bool) -> list[Floats]:
        """Compute p_k of each text, (T,), from p_{k-1} in `lower`."""
        direct, passed = counts.terms(k, smoothing, highest=highest)
        found: list[Floats] = []
        for (_, numbers), probability in zip(texts, lower, strict=True):
            context = np.zeros(len(probability), dtype=np.int64)  # (T,) gram that ends at t - 1
            if k > 1:
                context[:1], context[1:] = -1, numbers[k - 2][:-1]
            found.append(direct[numbers[k - 1]] + passed[context] * probability)
        return found

    lower = [np.full(len(ids), 1 / counts.vocabulary_size) for ids, _ in texts]  # (T,) each
    for order in range(1, len(counts.keys) + 1):
        highest = interpolate(order, lower, highest=True)
        yield [take_nats(p, ids, counts) for p, (ids, _) in zip(highest, texts, strict=True)]
        if smoothing == "witten_bell":
            lower = highest
        elif order < len(counts.keys):
            lower = interpolate(order, lower, highest=False)


class NgramBaseline:
    """N-gram models of every order, which share one count of the training split.

    Args:
        splits: "train", which is counted, and the held-out splits to score.
        vocabulary_size: V.
        max_order: symbols of the longest n-grams, at least 1.
        max_chars: most characters to count, from the end of the training split, as by `Split.last`;
            None counts all.
        setting: name of the setting that is `max_chars`, for the log.
        join: function that joins the counts of the ids with those of another text.

    Attributes:
        ids: (N,) the ids that were counted, with start symbols.
        counts: their n-grams.
        characters: number of characters counted.
        sampled: whether only a part of the training split was counted; if so, the log says it.

    Raises:
        UserError: the mapped ids of a split are damaged and cannot be restored.
    """

    def __init__(
        self,
        splits: Mapping[str, Split],
        vocabulary_size: int,
        max_order: int,
        max_chars: int | None = None,
        setting: str = "callbacks.baseline.max_chars",
        join: Callable[[NgramCounts, Ids], NgramCounts] | None = None,
    ) -> None:
        train = splits["train"]
        self.ids = train.sound_ids if max_chars is None else train.last(max_chars)
        self.characters = int((self.ids < vocabulary_size).sum())
        self.sampled = len(self.ids) < len(train.ids)
        if self.sampled:
            log.info(
                "n-grams are counted on the last %s characters of the training split "
                "(%s=null: on all)",
                f"{self.characters:,}",
                setting,
            )
        self._held_out = {name: split for name, split in splits.items() if name != "train"}
        self.counts = NgramCounts(self.ids.numpy(), vocabulary_size, max_order)
        if join is not None:
            self.counts = join(self.counts, self.ids.numpy())
        texts = [split.sound_ids.numpy() for split in self._held_out.values()]
        self._texts = [(each, self.counts.number(each, max_order)) for each in texts]

    def nats_by_order(self, smoothing: Interpolated) -> Iterator[dict[str, Tensor]]:
        """Score the held-out splits with the models of every order from 1 up.

        Yields:
            For each order, the nats of each split by its name, (N,) float64. They are nan for the
            first character of a stream and for the start of a line, which no network predicts.
        """
        for nats in nats_by_order(self.counts, self._texts, smoothing):
            scored = dict(zip(self._held_out, map(torch.from_numpy, nats), strict=True))
            for name, split in self._held_out.items():
                if split.line_starts is None:
                    scored[name][0] = torch.nan
            yield scored

    def best_order(self) -> int:
        """Find the Kneser-Ney order with the least nats on the validation split.

        It is the highest order if there is no validation split.
        """
        if "val" not in self._held_out:
            return len(self.counts.keys)
        nats = [float(scored["val"].nanmean()) for scored in self.nats_by_order("kneser_ney")]
        return 1 + nats.index(min(nats))
