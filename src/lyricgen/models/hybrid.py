"""A network together with the n-gram distributions of its training text.

Here p_k are the interpolated Kneser-Ney distributions of the orders k, q is the distribution of the
network, h its last hidden state, and s holds the share that each order passes on to the shorter
context. They make one distribution in one of two ways:

    mixture   p(w) = m_1 p_1(w) + … + m_K p_K(w) + m_{K+1} q(w),      m = softmax(A h + B s + c + d)
    product   p(w) ∝ p_1(w)^m_1 · … · p_K(w)^m_K · q(w)^m_{K+1},      m = A h + B s + c + e_K

A mixture serves texts that are read many times: the network learns by its own loss alone, and A, B
and c by the loss of the whole. A network predicts the text that it has learnt better than any other
text. So d, which is zero but for the network, is fitted on the validation split. In a product the
network learns to correct the n-grams, by its own loss and by that of the whole. This needs fewer
characters, but the product soon trusts a network that has learnt its text by heart.

In training, the p_k of a position come from counts without its block (`ngram.left_out`). Before
the first step the whole is the n-gram model of the highest order alone, unless `init_from` has
copied the layers that compute the weights.

Sources: Neubig and Dyer, EMNLP 2016, "Generalizing and Hybridizing Count-based and Neural Language
Models"; for the product, Li et al., EMNLP Findings 2022, "Residual Learning of Neural Text
Generation with n-gram Language Model".

Shapes: B batch, T time steps, M = B·T, V vocabulary, H hidden, K orders, N characters in a split.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import TypeIs, override

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.cells.cell import LayerStep, State
from lyricgen.models.model import Model, NextModel, at_least_float32, cross_entropy, nats_of
from lyricgen.models.network import CharacterNetwork, LanguageModel
from lyricgen.models.ngram.distributions import Distributions, multiply, whole_levels
from lyricgen.models.ngram.language_model import NgramBaseline, NgramLanguageModel
from lyricgen.models.ngram.left_out import divide
from lyricgen.models.ngram.training_tables import TrainingTables
from lyricgen.models.options import (
    HybridArchitecture,
    HybridOptions,
    NgramArchitecture,
    RecurrentArchitecture,
)

SHIFTS = torch.linspace(-4, 2, 61)  # candidates for d
NGRAM = "ngram."  # begins the names of the n-gram model's tensors


class HybridModel(NextModel):
    """Network and n-grams of a text, and the weights of their combination.

    A state holds the state of the network, and the state of the n-gram model after it.

    The n-gram model is no module of this one: its tables stay on the CPU, in float64, whatever
    device or precision the network has. They are part of the state dict.

    Args:
        architecture: sizes and options of both parts.

    Attributes:
        network: the network; it predicts alone, too.
        ngram: the n-gram model, uniform until it is fitted or loaded.
        training_tables: tables for training; None in a model that is not trained.
    """

    trains_in_steps: ClassVar[Literal[True]] = True
    mixes_with_ngrams = False

    architecture: HybridArchitecture
    shift: Tensor
    training_tables: TrainingTables | None = None

    def __init__(self, architecture: HybridArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.vocabulary_size = architecture.vocabulary_size
        self.network = LanguageModel(architecture.network)
        self._ngrams = [NgramLanguageModel(architecture.ngram)]  # in a list: not a submodule
        self.ngram_order = orders = architecture.ngram.order
        self.on_hidden = nn.Linear(architecture.network.hidden_size, orders + 1)
        self.on_passed = nn.Linear(orders, orders + 1, bias=False)
        for parameter in (*self.on_hidden.parameters(), *self.on_passed.parameters()):
            nn.init.zeros_(parameter)
        self.register_buffer("shift", torch.zeros(()))  # d of the network
        self._distributions: Distributions | None = None
        self._ngrams_alone = True
        self.register_state_dict_post_hook(_add_ngrams)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_take_ngrams)  # type: ignore[no-untyped-call]

    @property
    def ngram(self) -> NgramLanguageModel:
        """The n-gram model."""
        return self._ngrams[0]

    def set_ngram(self, model: NgramLanguageModel) -> None:
        """Replace the n-gram model."""
        self._ngrams[0], self._distributions = model, None

    @property
    @override
    def device(self) -> torch.device:
        return self.network.device

    @property
    @override
    def description(self) -> str:
        return f"{self.network.description} + {self.architecture.ngram.order}-gram"

    @override
    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each input.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            state: after earlier characters; None at the start of a stream.

        Returns:
            Log-probabilities, (B, T, V), and the state after the last character.
        """
        whole, _, state = self._predict(inputs, state)
        return whole, state

    def _predict(self, inputs: Tensor, state: State | None) -> tuple[Tensor, Tensor, State]:
        """Compute the log-probabilities of the whole, the logits of the network, and the state."""
        hidden, rows, state = self._read(inputs, state)
        logits = self.network.logits(hidden)
        mixed = self.mix(
            hidden.flatten(0, 1), at_least_float32(logits).flatten(0, 1), rows.flatten(1)
        )
        return mixed.view(logits.shape), logits, state

    def _read(self, inputs: Tensor, state: State | None) -> tuple[Tensor, Tensor, State]:
        """Compute the last hidden states, (B, T, H), the contexts, (K, B, T), and the state."""
        before = (None, None) if state is None else (state[:-1], state[-1:])
        hidden, after = self.network.recurrence(self.network.features(inputs), before[0])
        contexts, ngram_state = self.ngram.contexts(inputs, before[1])
        rows = torch.from_numpy(np.stack(contexts)).to(hidden.device)
        return hidden, rows, (*after, *ngram_state)

    @override
    def train(self, mode: bool = True) -> Self:
        # a step leaves no bias at exactly zero; looked up here, since it waits for the device
        self._ngrams_alone = not self.on_hidden.bias.any()
        return super().train(mode)

    def mix(self, hidden: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        """Combine the distributions of positions.

        Args:
            hidden: (M, H) last hidden states.
            logits: (M, V) of the network, at least float32.
            rows: (K, M) contexts of the n-gram model, -1 for an unseen context.

        Returns:
            Log-probabilities, (M, V).
        """
        distributions = self._distributions_on(logits.device, logits.dtype)
        passed = distributions.passed_shares(rows)
        weights = self.weights(hidden, passed.T)
        if self.architecture.combination == "product":
            logs = distributions.logs(rows)
            return multiply(logs, logits, weights).log_softmax(-1)
        mixed = distributions.mix(weights[:, :-1].T, rows, passed)
        return mixed.addcmul_(logits.softmax(-1), weights[:, -1:]).log_()

    def weights(self, hidden: Tensor, passed: Tensor) -> Tensor:
        """Compute the weights of the orders and of the network, (M, K + 1).

        In a mixture they sum to one; in a product they may be any numbers.

        Args:
            hidden: (M, H) last hidden states.
            passed: (M, K) share that each order passes on.
        """
        by_hidden, by_passed = self.on_hidden, self.on_passed.weight
        # a call of a module takes longer than its product where there are few positions
        found = at_least_float32(F.linear(hidden, by_hidden.weight, by_hidden.bias))
        found = found + at_least_float32(F.linear(passed.to(by_passed.dtype), by_passed))
        product = self.architecture.combination == "product"
        if not product and (self.training or not self._ngrams_alone):
            if not self.training:
                found[:, -1] += self.shift
            return found.softmax(-1)
        alone = torch.zeros_like(found[:1])  # the n-gram model alone
        alone[:, -2] = 1.0
        return found + alone if product else alone.expand_as(found)

    @override
    def loss(
        self, batch: Batch, state: State | None, label_smoothing: float
    ) -> tuple[Tensor, Tensor, State]:
        hidden, state = self.network.recurrence(self.network.features(batch.inputs), state)
        logits = at_least_float32(self.network.logits(hidden)).flatten(0, 1)  # (M, V)
        log_probabilities, targets = F.log_softmax(logits, dim=-1), batch.targets.flatten()
        own_loss, _ = cross_entropy(log_probabilities, targets, label_smoothing)
        tables = self.training_tables
        if tables is None:
            raise RuntimeError("a model without tables of its text cannot be trained")
        read = self.network.dropout(hidden).flatten(0, 1)  # (M, H)
        weight = self.architecture.network_loss
        if self.architecture.combination == "product":
            logs, passed = tables.logs(batch, logits.dtype)
            whole = multiply(logs, logits, self.weights(read, passed))
            nats = F.cross_entropy(whole, targets, ignore_index=IGNORED, reduction="sum")
        else:  # only the targets' probabilities are needed, so no distribution is mixed
            counted = targets != IGNORED
            read, weight = read.detach(), 1.0
            own = log_probabilities.detach().gather(1, (targets * counted)[:, None]).exp()  # (M, 1)
            by_order, passed = tables.terms(batch)
            members = torch.cat([by_order.to(own.dtype), own], dim=1)  # (M, K + 1)
            mixed = (self.weights(read, passed) * members).sum(dim=-1)
            nats = -(mixed.log() * counted).sum()
        return nats + weight * own_loss, nats, state

    @override
    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], total: Callable[[Tensor], Tensor]) -> None:
        if self.architecture.combination == "product" or self._ngrams_alone:
            return
        self.shift.zero_()
        shifts = SHIFTS.to(self.device)  # (S,)
        room = "cpu" if self.device.type == "mps" else self.device  # mps has no float64
        nats, state = torch.zeros(len(SHIFTS), dtype=torch.float64, device=room), None
        for batch in batches:
            hidden, rows, state = self._read(batch.inputs, None if batch.starts_stream else state)
            hidden, rows, targets = hidden.flatten(0, 1), rows.flatten(1), batch.targets.flatten()
            counted = targets != IGNORED
            chosen = (targets * counted)[:, None]
            own = at_least_float32(self.network.logits(hidden)).softmax(-1).gather(1, chosen)
            distributions = self._distributions_on(own.device, own.dtype)
            passed = distributions.passed_shares(rows)
            logs = self.weights(hidden, passed.T).log()  # (M, K + 1)
            ngrams = logs[:, :-1].logsumexp(-1, keepdim=True)  # (M, 1)
            by_ngrams = distributions.mix((logs[:, :-1] - ngrams).exp().T, rows, passed)
            odds = logs[:, -1:] - ngrams + shifts  # (M, S)
            mixed = torch.sigmoid(-odds) * by_ngrams.gather(1, chosen) + torch.sigmoid(odds) * own
            nats -= (mixed.log() * counted[:, None]).to(room).double().sum(0)
        self.shift.fill_(shifts[total(nats).argmin()])

    @override
    def score_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        whole, logits, state = self._predict(batch.inputs, state)
        return nats_of(whole, batch), {"network": nats_of(logits, batch)}, state

    @override
    def predict_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        hidden, rows, state = self._read(batch.inputs, state)
        shape, hidden, rows = batch.inputs.shape, hidden.flatten(0, 1), rows.flatten(1)
        logits = at_least_float32(self.network.logits(hidden))  # (M, V)
        passed = self._distributions_on(logits.device, logits.dtype).passed_shares(rows)
        weights = self.weights(hidden, passed.T).view(*shape, -1).unbind(-1)
        names = [*(f"{order}-gram" for order in range(1, len(rows) + 1)), "network"]
        mixed = self.mix(hidden, logits, rows).view(*shape, -1)
        return mixed, dict(zip(names, weights, strict=True)), state

    @override
    def score_next(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        hidden, rows, _ = self._read(inputs, None)
        texts = torch.arange(len(inputs))
        last = hidden[texts, lengths - 1]  # (B, H)
        logits = at_least_float32(self.network.logits(last))
        mixed = self.mix(last, logits, rows[:, texts, lengths - 1])
        return F.nll_loss(mixed, targets.long(), reduction="none")

    @override
    def layer_steps(self) -> list[LayerStep]:
        return self.network.layer_steps()

    def _distributions_on(self, device: torch.device, dtype: torch.dtype) -> Distributions:
        made = self._distributions
        if made is None or (made.device, made.dtype) != (device, dtype):
            levels = whole_levels(self.ngram.model)
            product = self.architecture.combination == "product"
            made = Distributions(levels, self.vocabulary_size, device, dtype, logarithms=product)
            self._distributions = made
        return made


def build_hybrid(
    options: HybridOptions,
    architecture: RecurrentArchitecture,
    splits: Mapping[str, Split],
    vocabulary: Vocabulary,
) -> HybridModel:
    """Build a hybrid model; count its n-grams, and compute its tables for training.

    Args:
        options: options of the n-grams and the mixture.
        architecture: sizes and options of the network.
        splits: "train", which is counted, and "val", which decides the order, if it is there.
        vocabulary: characters of the text.

    Raises:
        UserError: the mapped ids of a split are damaged and cannot be restored.
    """
    train, size = splits["train"], len(vocabulary)
    longest = options.order or options.max_order
    splits = {name: splits[name] for name in ("train", "val") if name in splits}
    counted = NgramBaseline(splits, size, longest, options.max_chars, "model.max_chars")
    order = options.order or counted.best_order()
    # more than the symbols of the longest line would change no probability
    order = min(order, sum(len(keys) > 0 for keys in counted.counts.keys))
    ngram = NgramArchitecture(
        kind="ngram",
        order=order,
        smoothing="kneser_ney",
        k=1.0,
        vocabulary_size=size,
        start_symbol=architecture.start_symbol,
    )
    model = HybridModel(
        HybridArchitecture(
            kind="hybrid",
            network=architecture,
            ngram=ngram,
            combination=options.combination,
            network_loss=options.network_loss,
        )
    )
    model.ngram.set_counts(counted.counts)
    ids = counted.ids.numpy()
    blocks = divide(ids, options.blocks, size, vocabulary.characters.find("\n"))
    model.training_tables = TrainingTables(
        *(model.ngram, counted.counts, ids, blocks, len(train.ids) - len(ids)),
        with_distributions=options.combination == "product",
    )
    return model


def is_hybrid(model: Model) -> TypeIs[HybridModel]:
    """Whether the model is a network mixed with n-grams."""
    return isinstance(model, HybridModel)


def network_of(model: Model) -> CharacterNetwork:
    """Find the network in a model that has one."""
    network = model.network if isinstance(model, HybridModel) else model
    if not isinstance(network, CharacterNetwork):
        raise TypeError(f"{model.description} has no network")
    return network


def _add_ngrams(model: HybridModel, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, tensor in model.ngram.state_dict().items():
        tensors[f"{prefix}{NGRAM}{name}"] = tensor


def _take_ngrams(model: HybridModel, tensors: dict[str, Any], prefix: str, *_: Any) -> None:
    start = f"{prefix}{NGRAM}"
    found = {name: tensors.pop(name) for name in list(tensors) if name.startswith(start)}
    tables = {name.removeprefix(start): tensor for name, tensor in found.items()}
    tensors.setdefault(f"{prefix}shift", torch.zeros(()))  # models of earlier versions lack it
    model.set_ngram(NgramLanguageModel.from_tensors(model.architecture.ngram, tables))
    bias = tensors.get(f"{prefix}on_hidden.bias")
    if bias is not None:
        model._ngrams_alone = not bias.any()
