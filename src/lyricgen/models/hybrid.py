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

With a short list, p_k and q are distributions of the most frequent characters and of the class of
the rest. The mixture of the n-grams, or in a product p_K, divides the rest.

In training, the p_k of a position come from counts without its block (`ngram.left_out`). Before the
first step the whole is p_K, unless `init_from` has copied layers with better weights.

Sources: Neubig and Dyer, EMNLP 2016, "Generalizing and Hybridizing Count-based and Neural Language
Models"; for the product, Li et al., EMNLP Findings 2022, "Residual Learning of Neural Text
Generation with n-gram Language Model".

Shapes: B batch, T time steps, M = B·T, V vocabulary, C classes (V without a short list), H hidden,
K orders, N characters in a split.
"""

from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.models.cells.cell import LayerStep, State
from lyricgen.models.model import NextModel, at_least_float32, compute_nats, cross_entropy
from lyricgen.models.network import LanguageModel
from lyricgen.models.ngram.distributions import Distributions, multiply
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.levels import whole_levels
from lyricgen.models.ngram.saving import add_ngrams, take_ngrams
from lyricgen.models.ngram.short_list import ShortList
from lyricgen.models.ngram.training_tables import TrainingTables
from lyricgen.models.options import HybridArchitecture

SHIFTS = torch.linspace(-4, 2, 61)  # candidates for d


class Reading(NamedTuple):
    """Results of a hybrid model for inputs."""

    whole: Tensor  # (B, T, V) log-probabilities
    logits: Tensor  # (B, T, C) of classes by the network
    hidden: Tensor  # (B, T, H) last hidden states
    state: State  # after the last input


class HybridModel(NextModel):
    """Network and n-grams of a text, and the weights of their combination.

    A state holds the state of the network, and the state of the n-gram model after it. The n-gram
    model is no module of this one: its tables stay on the CPU, in float64, whatever device or
    precision the network has. They are part of the state dict.

    Args:
        architecture: sizes and options of both parts.

    Attributes:
        network: the network; it predicts alone, too.
        ngram: the n-gram model, uniform until it is fitted or loaded.
        short_list: classes that the network predicts; None if it predicts characters.
        training_tables: tables for training; None in a model that is not trained.
        untrained: whether the layers that weigh the n-grams are zero; `train` and `eval` read it.
    """

    trains_in_steps: ClassVar[Literal[True]] = True
    mixes_with_ngrams = False

    architecture: HybridArchitecture
    shift: Tensor
    training_tables: TrainingTables | None = None

    def __init__(self, architecture: HybridArchitecture) -> None:
        super().__init__()
        self.architecture, self.vocabulary_size = architecture, architecture.vocabulary_size
        self.multiplies = architecture.combination == "product"
        self.network = LanguageModel(architecture.network)
        self.short_list: ShortList | None = None
        if listed := architecture.short_list:
            self.short_list = ShortList(listed, self.vocabulary_size, lambda: self.ngram.model)
        self._ngrams = [NgramLanguageModel(architecture.ngram)]  # in a list: not a submodule
        self.ngram_order = orders = architecture.ngram.order
        self.on_hidden = nn.Linear(architecture.network.hidden_size, orders + 1)
        self.on_passed = nn.Linear(orders, orders + 1, bias=False)
        self.reset_weighing()
        self.register_buffer("shift", torch.zeros(()))  # d of the network
        self._distributions: dict[bool, Distributions] = {}  # by whether they are logarithms
        self.register_state_dict_post_hook(add_ngrams)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(take_ngrams)  # type: ignore[no-untyped-call]

    @property
    def ngram(self) -> NgramLanguageModel:
        """The n-gram model."""
        return self._ngrams[0]

    def reset_weighing(self) -> None:
        """Zero the layers that weigh the n-grams: the whole is then p_K."""
        for parameter in (*self.on_hidden.parameters(), *self.on_passed.parameters()):
            nn.init.zeros_(parameter)
        self.untrained = True

    def take_ngram(self, ngram: NgramLanguageModel, bias: Tensor | None) -> None:
        """Replace the n-gram model; a `bias` of the weights tells whether they are trained."""
        self._ngrams[0], self._distributions = ngram, {}
        if self.short_list is not None:
            self.short_list.shares = None
        if bias is not None:
            self.untrained = not bias.any()

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
        found = self.read(inputs, state)
        return found.whole, found.state

    def read(self, inputs: Tensor, state: State | None) -> Reading:
        """Read inputs like `forward`, which explains the arguments, and return all results."""
        hidden, rows, state = self._read(inputs, state)
        logits = self._compute_class_logits(hidden)
        mixed = self.mix(hidden.flatten(0, 1), logits.flatten(0, 1), rows.flatten(1))
        return Reading(mixed.view(*inputs.shape, -1), logits, hidden, state)

    def _read(self, inputs: Tensor, state: State | None) -> tuple[Tensor, Tensor, State]:
        """Compute the last hidden states, (B, T, H), the contexts, (K, B, T), and the state."""
        before = (None, None) if state is None else (state[:-1], state[-1:])
        hidden, after = self.network.recurrence(self.network.features(inputs), before[0])
        contexts, ngram_state = self.ngram.contexts(inputs, before[1])
        rows = torch.from_numpy(np.stack(contexts)).to(hidden.device)
        return hidden, rows, (*after, *ngram_state)

    def find_outputs(self) -> tuple[Tensor, Tensor]:
        """Find the weight, (C, H), and bias, (C,), of the network's outputs for classes."""
        weight, bias = self.network.output_weight, torch.as_tensor(self.network.output.bias)
        if self.short_list is None:
            return weight, bias
        return weight.index_select(0, self.short_list.rows), self.short_list.take(bias)

    def _compute_class_logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits of classes by the network, (…, H) -> (…, C), at least float32."""
        return at_least_float32(F.linear(self.network.dropout(hidden), *self.find_outputs()))

    @override
    def train(self, mode: bool = True) -> Self:
        # a step leaves no bias at exactly zero; read here, since reading waits for the device
        self.untrained = not self.on_hidden.bias.any()
        return super().train(mode)

    def mix(self, hidden: Tensor, logits: Tensor, rows: Tensor) -> Tensor:
        """Combine the distributions of positions.

        Args:
            hidden: (M, H) last hidden states.
            logits: (M, C) of the network, at least float32.
            rows: (K, M) contexts of the n-gram model, -1 for an unseen context.

        Returns:
            Log-probabilities, (M, V).
        """
        short = self.short_list
        distributions = self._distributions_on(logits, logarithms=self.multiplies)
        passed = distributions.passed_shares(rows)
        weights = self.weights(hidden, passed.T)
        ngrams = distributions.mix(weights[:, :-1].T, rows, passed)
        if self.multiplies:
            whole = ngrams.addcmul_(logits, weights[:, -1:]).log_softmax(-1)
            if short is not None:
                highest = F.pad(torch.ones_like(passed[:1]), (0, 0, len(passed) - 1, 0))
                ngrams = self._distributions_on(logits, logarithms=False).mix(highest, rows, passed)
                classes = short.fold(ngrams)
        else:
            classes = ngrams if short is None else short.fold(ngrams)
            whole = torch.addcmul(classes, logits.softmax(-1), weights[:, -1:]).log_()
        # the n-grams divide the classes
        return whole if short is None else ngrams.log_() + short.spread(whole - classes.log_())

    def weights(self, hidden: Tensor, passed: Tensor) -> Tensor:
        """Compute the weights of the orders and of the network, (M, K + 1).

        In a mixture they sum to one; in a product they may be any numbers.

        Args:
            hidden: (M, H) last hidden states.
            passed: (M, K) share that each order passes on.
        """
        # a call of a module takes longer than its product where there are few positions
        found = F.linear(hidden, self.on_hidden.weight, self.on_hidden.bias)
        found = at_least_float32(found.addmm(passed.to(found.dtype), self.on_passed.weight.T))
        if not self.multiplies and (self.training or not self.untrained):
            if not self.training:
                found[:, -1].add_(self.shift)
            return found.softmax(-1)
        found = found if self.multiplies else torch.zeros_like(found)
        found[:, -2].add_(1.0)  # the n-gram model alone
        return found

    @override
    def loss(
        self, batch: Batch, state: State | None, label_smoothing: float
    ) -> tuple[Tensor, Tensor, State]:
        nats, own_loss, _, state = self.target_nats(batch, state, label_smoothing)
        total = nats.sum()
        return total + own_loss, total, state

    def target_nats(
        self, batch: Batch, state: State | None, label_smoothing: float
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Compute the whole's nats, (M,), the own loss, the hidden states, (M, H), and the state.

        Padding has 0 nats; `loss` explains the arguments.
        """
        hidden, state = self.network.recurrence(self.network.features(batch.inputs), state)
        short, logits = self.short_list, self._compute_class_logits(hidden).flatten(0, 1)  # (M, C)
        log_probabilities, targets = F.log_softmax(logits, dim=-1), batch.targets.flatten()
        counted, smoothed = targets != IGNORED, self.smoothed
        if short is not None:
            targets = short.classes.take(targets * counted).masked_fill(~counted, IGNORED)
            smoothed = None if smoothed is None else short.fold(smoothed).clamp(max=1)
        own_loss, _ = cross_entropy(log_probabilities, targets, label_smoothing, smoothed)
        tables = self.training_tables
        if tables is None:
            raise RuntimeError("a model without tables of its text cannot be trained")
        read = self.network.dropout(hidden).flatten(0, 1)  # (M, H)
        read = read if self.multiplies else read.detach()
        passed, of_character, of_class = tables.terms(batch)
        weights = self.weights(read, passed)
        if self.multiplies:
            whole = multiply(tables.logs(batch, logits.dtype), logits, weights)
            nats = F.cross_entropy(whole, targets, ignore_index=IGNORED, reduction="none")
            of_character, of_class = of_character[:, -1], of_class[:, -1]
        else:  # only the targets' probabilities are needed, so no distribution is mixed
            own = log_probabilities.detach().gather(1, (targets * counted)[:, None]).exp()  # (M, 1)
            of_character, of_class = (
                (weights[:, :-1] * each).sum(-1) for each in (of_character, of_class)
            )
            nats = -torch.addcmul(of_class, weights[:, -1], own[:, 0]).log() * counted
        if short is not None:  # the n-grams divide the class
            nats = nats - (of_character / of_class).log() * counted
        share = self.architecture.network_loss if self.multiplies else 1.0
        return nats, share * own_loss, read, state

    @override
    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], total: Callable[[Tensor], Tensor]) -> None:
        if self.multiplies or self.untrained:
            return
        self.shift.zero_()
        shifts = SHIFTS.to(self.device)  # (S,)
        room = "cpu" if self.device.type == "mps" else self.device  # mps has no float64
        nats, state = torch.zeros(len(SHIFTS), dtype=torch.float64, device=room), None
        for batch in batches:
            hidden, rows, state = self._read(batch.inputs, None if batch.starts_stream else state)
            hidden, rows, targets = hidden.flatten(0, 1), rows.flatten(1), batch.targets.flatten()
            counted = targets != IGNORED
            logits, short = self._compute_class_logits(hidden), self.short_list
            distributions = self._distributions_on(logits, logarithms=False)
            passed = distributions.passed_shares(rows)
            logs = self.weights(hidden, passed.T).log()  # (M, K + 1)
            ngrams = logs[:, :-1].logsumexp(-1, keepdim=True)  # (M, 1)
            mixed = distributions.mix((logs[:, :-1] - ngrams).exp().T, rows, passed)
            chosen = (targets * counted)[:, None]
            if short is not None:
                mixed, chosen = short.fold(mixed), short.classes.take(chosen)
            of_class, own = (each.gather(1, chosen) for each in (mixed, logits.softmax(-1)))
            odds = logs[:, -1:] - ngrams + shifts  # (M, S)
            found = torch.sigmoid(-odds) * of_class + torch.sigmoid(odds) * own
            nats -= (found.log() * counted[:, None]).to(room).double().sum(0)
        self.shift.fill_(shifts[total(nats).argmin()])

    @override
    def score_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        found = self.read(batch.inputs, state)
        return compute_nats(found.whole, batch), self.score_network(batch, found), found.state

    def score_network(self, batch: Batch, found: Reading) -> dict[str, Tensor]:
        """Compute the nats of a batch's targets by the network alone, by its name."""
        logits = found.logits if self.short_list is None else self.short_list.divide(found.logits)
        return {"network": compute_nats(logits, batch)}

    @override
    def predict_parts(
        self, batch: Batch, state: State | None
    ) -> tuple[Tensor, dict[str, Tensor], State]:
        hidden, rows, state = self._read(batch.inputs, state)
        shape, hidden, rows = batch.inputs.shape, hidden.flatten(0, 1), rows.flatten(1)
        logits = self._compute_class_logits(hidden)
        passed = self._distributions_on(logits, logarithms=self.multiplies).passed_shares(rows)
        weights = self.weights(hidden, passed.T).view(*shape, -1).unbind(-1)
        names = [*(f"{order}-gram" for order in range(1, len(rows) + 1)), "network"]
        mixed = self.mix(hidden, logits, rows).view(*shape, -1)
        return mixed, dict(zip(names, weights, strict=True)), state

    @override
    def score_next(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        hidden, rows, _ = self._read(inputs, None)
        texts = torch.arange(len(inputs))
        last, rows = hidden[texts, lengths - 1], rows[:, texts, lengths - 1]  # (B, H), (K, B)
        mixed = self.mix(last, self._compute_class_logits(last), rows)
        return F.nll_loss(mixed, targets.long(), reduction="none")

    @override
    def layer_steps(self) -> list[LayerStep]:
        return self.network.layer_steps()

    def _distributions_on(self, logits: Tensor, *, logarithms: bool) -> Distributions:
        """Find the distributions of characters, or the logarithms of class probabilities."""
        made = self._distributions.get(logarithms)
        if made is None or (made.device, made.dtype) != (logits.device, logits.dtype):
            made = self._distributions[logarithms] = Distributions(
                *(whole_levels(self.ngram.model), self.vocabulary_size),
                *(logits.device, logits.dtype),
                logarithms=logarithms,
                classes=self.short_list.numbers if self.short_list and logarithms else None,
            )
        return made
