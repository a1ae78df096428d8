"""An n-gram model as a network like the others: characters in, log-probabilities of the next out.

B batch, T time steps, V vocabulary, C = order - 1 symbols that a prediction depends on; G_k
distinct n-grams of k symbols in the training text (G_0 = 1, the empty one).
"""

from typing import Self

import torch
from torch import Tensor

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.errors import UserError, printable
from lyricgen.models.cells.cell import State
from lyricgen.models.model import NextModel
from lyricgen.models.ngram.counts import NOTHING, Grams, NgramCounts, Numbers
from lyricgen.models.ngram.model import NgramModel, smoothed
from lyricgen.models.options import NgramArchitecture


class NgramLanguageModel(NextModel):
    """P(next character | the last order - 1), by counting; uniform until it has counted.

    Its n-grams and their terms, which `ngram.model` defines, are buffers in int64 and float64:
    keys_k (G_k,), direct_k (G_k + 1,) and passed_k (G_{k-1} + 1,) for k = 1 … order. They stay on
    the CPU.

    Its state is one tensor (1, B, C) of the last symbols read, NOTHING where there is none.
    """

    architecture: NgramArchitecture
    counts_ngrams = True

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
        """Build the network that has been saved, from its buffers.

        Raises:
            UserError: the buffers are not those of such a network.
        """
        network = cls(architecture)
        buffers = dict(network.named_buffers())
        for name in sorted(buffers.keys() | tensors.keys()):
            if name not in buffers or name not in tensors:
                there = "absent" if name in buffers else "too many"
                raise UserError(f"{printable(name)} is {there}")
            found, wanted = tensors[name].detach().resolve_neg(), buffers[name].dtype
            if found.dtype != wanted or found.dim() != 1 or not found.is_contiguous():
                shown = f"{found.dtype} of shape {tuple(found.shape)}"
                raise UserError(f"{name} is {shown}, not a plain row of {wanted}")
            setattr(network, name, found)
        contexts = 1  # the empty n-gram
        for k in range(1, architecture.order + 1):
            contexts = network._check(k, contexts)
        return network

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            state: (1, B, C) from the characters before, or None for nothing.

        Returns:
            Log-probabilities (B, T, V) in float64 and the state after the last character.
        """
        ngrams = self._ngrams()
        contexts, state = self._read(ngrams, inputs, state)
        return torch.from_numpy(ngrams.distributions(contexts)).log(), state

    def nats(
        self, inputs: Tensor, targets: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Score one character after each, without the probabilities of all others.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            targets: (B, T) int64 character ids.
            state: (1, B, C) from the characters before, or None for nothing.

        Returns:
            -ln p (B, T) in float64 and the state after the last character.
        """
        ngrams = self._ngrams()
        contexts, state = self._read(ngrams, inputs, state)
        return torch.from_numpy(ngrams.nats(contexts, targets.numpy())), state

    def score(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        """Nats of each character of a batch, (B, T), zero for padding, and the next state."""
        padding = batch.targets == IGNORED
        nats, state = self.nats(batch.inputs, batch.targets.masked_fill(padding, 0), state)
        return nats.masked_fill(padding, 0.0), state

    def score_one(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Nats of one character after each row."""
        nats, _ = self.nats(inputs, targets.long()[:, None].expand_as(inputs))
        return nats[torch.arange(len(inputs)), lengths - 1]

    def count(self, text: Tensor) -> None:
        """Count the n-grams of a text, (N,) ids in 0..V, and forget the earlier ones."""
        chosen = self.architecture
        counts = NgramCounts(text.numpy(), self.vocabulary_size, chosen.order)
        model = smoothed(counts, chosen.order, chosen.smoothing, chosen.k)
        each = zip(counts.keys, model.terms, strict=True)
        for k, (keys, (direct, passed)) in enumerate(each, start=1):
            for name, values in (("keys", keys), ("direct", direct), ("passed", passed)):
                setattr(self, f"{name}_{k}", torch.from_numpy(values))

    @property
    def device(self) -> torch.device:
        """Where the inputs belong."""
        return torch.device("cpu")

    @property
    def num_parameters(self) -> int:
        """How many probabilities the model has."""
        levels = range(1, self.architecture.order + 1)
        return sum(len(self.get_buffer(f"keys_{k}")) for k in levels)

    @property
    def description(self) -> str:
        """A few words on the model."""
        chosen = self.architecture
        smoothing = f"add_k ({chosen.k:g})" if chosen.smoothing == "add_k" else chosen.smoothing
        return f"{chosen.order}-gram {smoothing}"

    def _check(self, k: int, contexts: int) -> int:
        """Check the n-grams of k symbols, G_k, whose contexts are G_{k-1}; gives G_k.

        Raises:
            UserError: they are none.
        """
        keys, direct, passed = (
            self.get_buffer(f"{name}_{k}") for name in ("keys", "direct", "passed")
        )
        width = self.vocabulary_size + 1
        within = bool(((keys >= 0) & (keys < contexts * width)).all())
        if not within or bool((keys[1:] <= keys[:-1]).any()):
            raise UserError(f"keys_{k} should ascend from 0 to less than {contexts * width}")
        for name, terms, size in (("direct", direct, len(keys)), ("passed", passed, contexts)):
            if len(terms) != size + 1:
                raise UserError(f"{name}_{k} should have {size + 1} numbers, it has {len(terms)}")
        total = torch.bincount(keys // width, direct[:-1], contexts) + passed[:-1]
        unseen = direct[-1] == 0 and passed[-1] == 1
        ones = bool(((total - 1).abs() < 1e-9).all())
        if not (unseen and ones and (direct >= 0).all() and (passed > 0).all()):
            raise UserError(f"direct_{k} and passed_{k} are not the terms of probabilities")
        return len(keys)

    def _ngrams(self) -> NgramModel:
        """The mathematics, on the memory of the buffers."""
        levels = range(1, self.architecture.order + 1)
        keys = [self.get_buffer(f"keys_{k}").numpy() for k in levels]
        terms = [
            (self.get_buffer(f"direct_{k}").numpy(), self.get_buffer(f"passed_{k}").numpy())
            for k in levels
        ]
        return NgramModel(Grams(self.vocabulary_size, keys), terms, self.architecture.smoothing)

    def _read(
        self, ngrams: NgramModel, inputs: Tensor, state: State | None
    ) -> tuple[list[Numbers], State]:
        """The contexts, (B, T) each, and the state after the last character."""
        length, steps = self.architecture.order - 1, inputs.shape[1]
        before = inputs.new_full((len(inputs), length), NOTHING) if state is None else state[0][0]
        text = torch.cat([before, inputs], dim=1)  # (B, C + T)
        contexts = [numbers[:, length:] for numbers in ngrams.contexts(text.numpy())]
        return contexts, (text[:, steps:][None],)
