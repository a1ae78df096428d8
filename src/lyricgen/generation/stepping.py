"""Steppers of single models, which read one character of many texts at a time.

Shapes: B texts, R rows that hold them, P prefix characters, V vocabulary, L layers, H hidden size,
G gates, E embedding.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lyricgen.models.cells.cell import LayerStep, State, zeros_with_gaps
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.model import NextModel, at_least_float32
from lyricgen.models.network import LanguageModel
from lyricgen.models.ngram.distributions import GrowingContexts

LARGEST_TABLE = 2**26  # most numbers in a table of inputs


class ModelStepper:
    """Stepper that calls a model once for each step.

    Attributes:
        logits: (B, V) of the next character of each text, valid until the next step.
        state: the model's state.
    """

    def __init__(self, model: NextModel, prefixes: Sequence[Tensor]) -> None:
        self._model = model
        self.logits, self.state = read_prefixes(model, prefixes)

    def step(self, characters: Tensor) -> None:
        """Read one more character of each text, (B,) int64.

        The id V stands for no character; the logits of its text are then arbitrary.
        """
        known = characters.clamp(max=self.logits.shape[1] - 1)
        output, self.state = self._model(known[:, None], self.state)
        self.logits = output[:, -1]

    def select(self, rows: Tensor) -> None:
        """Keep only the texts at `rows`, in this order; a row may occur more than once."""
        self.logits = self.logits.index_select(0, rows)
        # the state of n-grams is on the CPU
        self.state = tuple(part.index_select(1, rows.to(part.device)) for part in self.state)


class RecurrentStepper:
    """Stepper that computes the layers of a recurrent network with their fast steps.

    The logits of a text depend on the other texts as little as possible. Matrix products on most
    CPUs process four rows at a time, and round differently for the remaining rows and for rows that
    are not aligned in memory. So this class holds a multiple of four rows, all aligned. With
    AVX-512 a text then gets the same bits in every batch, except in float64 on several threads. On
    other CPUs and on GPUs rounding may differ. A single text is held as one row, which takes half
    the time; its logits differ by some 1e-6.

    `layers` are the steps of the network's layers, and `output` the weight and bias of its outputs;
    `stepper` explains the other arguments.

    Attributes:
        logits: (B, C) of the next character of each text by `output`, valid until the next step;
            before the first step (B, V), of all characters.
        hidden: (B, H) last hidden states, valid until the next step.
    """

    logits: Tensor
    hidden: Tensor

    def __init__(
        self,
        model: LanguageModel,
        prefixes: Sequence[Tensor],
        layers: list[LayerStep],
        output: tuple[Tensor, Tensor],
        length: int,
    ) -> None:
        self._layers = layers
        self._residual = model.recurrence.residual
        weight, bias = output
        self._outputs, more = len(bias), -len(bias) % 16
        self._single = len(prefixes) == 1
        # padded to whole vectors of the processor: a tenth faster
        self._bias = F.pad(bias, (0, more))
        self._weight = F.pad(weight, (0, 0, 0, more)).T
        self._input = _input_share(model, layers[0], len(prefixes) * length)
        self.logits, state = read_prefixes(model, prefixes)
        each = zip(*(part.unbind() for part in state), strict=True)
        self._hold(list(each))

    def step(self, characters: Tensor) -> None:
        """Read one more character of each text."""
        self._ids[: len(characters)] = characters
        self._input(self._ids, self._layers[0].totals)
        self._layers[0].step()
        output = self._layers[0].state[0]  # (R, H)
        for layer in self._layers[1:]:
            torch.addmm(layer.bias, output, layer.on_input, out=layer.totals)
            layer.step()
            above = layer.state[0]
            output = torch.add(above, output, out=self._sum) if self._residual else above
        self.hidden = output[: len(characters)]
        torch.addmm(self._bias, output, self._weight, out=self._all_logits)
        self.logits = self._all_logits[: len(characters), : self._outputs]

    def select(self, rows: Tensor) -> None:
        """Keep only the texts at `rows`, in this order; a row may occur more than once."""
        self.logits = self.logits.index_select(0, rows)
        self._hold([[part.index_select(0, rows) for part in one.state] for one in self._layers])

    def _hold(self, states: Sequence[Sequence[Tensor]]) -> None:
        """Make buffers, and copy the state of each layer, (B, H) tensors, into them."""
        texts = len(states[0][0])
        rows = 1 if self._single else texts + -texts % 4
        for layer, state in zip(self._layers, states, strict=True):
            layer.hold(state, rows)
        outputs = [hidden for hidden, *_ in states]
        self.hidden = torch.stack(outputs).sum(dim=0) if self._residual else outputs[-1]
        self._ids = torch.zeros(rows, dtype=torch.int64, device=self._bias.device)
        self._sum = zeros_with_gaps(self._bias, rows, self._weight.shape[0])
        self._all_logits = self._bias.new_empty(rows, len(self._bias))


class HybridStepper:
    """Stepper of a hybrid model: fast steps of its network, and a search for the n-grams.

    `stepper` explains the other arguments.

    Args:
        network: stepper of the network of the model.

    Attributes:
        logits: (B, V) log-probabilities of the next character of each text.
    """

    logits: Tensor

    def __init__(
        self, model: HybridModel, prefixes: Sequence[Tensor], network: RecurrentStepper
    ) -> None:
        self._model, self._network = model, network
        self._contexts = GrowingContexts(model.ngram.model, prefixes, model.device)
        if model.short_list is not None:
            network.logits = model.short_list.take(network.logits)
        self._mix()

    def step(self, characters: Tensor) -> None:
        """Read one more character of each text."""
        self._network.step(characters)
        self._contexts.append(characters)
        self._mix()

    def select(self, rows: Tensor) -> None:
        """Keep only the texts at `rows`, in this order; a row may occur more than once."""
        self._network.select(rows)
        self._contexts.select(rows)
        self.logits = self.logits.index_select(0, rows)

    @property
    def hidden(self) -> Tensor:
        """Last hidden states of the network, (B, H), valid until the next step."""
        return self._network.hidden

    def _mix(self) -> None:
        network = self._network
        logits = at_least_float32(network.logits)
        self.logits = self._model.mix(network.hidden, logits, self._contexts.rows)


def _input_share(
    model: LanguageModel, layer: LayerStep, characters: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Make a function of ids, (R,), that writes the first layer's product with them to totals.

    The totals, (R, G·H), include the bias. If enough `characters` will be read, and a table of the
    totals of all ids is not too large, the table is computed once.
    """
    weight, bias, vocabulary = layer.on_input, layer.bias, model.vocabulary_size
    small, last = vocabulary * len(bias) <= LARGEST_TABLE, vocabulary - 1
    if model.embedding is None:  # a one-hot vector times a matrix is a row of the matrix
        if not small or characters < vocabulary:
            return lambda ids, totals: torch.add(
                weight.index_select(0, ids.clamp(max=last)), bias, out=totals
            )
        table = bias.new_zeros(vocabulary + 1, len(bias))
        table[:vocabulary].copy_(weight).add_(bias)
    else:
        symbols = model.embedding.weight[:vocabulary]  # (V, E)
        more = -symbols.shape[1] % 16  # zeros, so that all rows begin alike in memory
        weight = F.pad(weight.T, (0, more)).T if more else weight
        # in one product of all rows, a row costs a fourth or less
        if not small or 4 * characters < vocabulary:
            return lambda ids, totals: torch.addmm(
                bias,
                F.pad(symbols.index_select(0, ids.clamp(max=last)), (0, more)),
                weight,
                out=totals,
            )
        by_fours = 4 - vocabulary % 4  # additional rows, at least one, that of the id V
        table = torch.addmm(bias, F.pad(symbols, (0, more, 0, by_fours)), weight)
    return lambda ids, totals: torch.index_select(table, 0, ids, out=totals)


def read_prefixes(model: NextModel, prefixes: Sequence[Tensor]) -> tuple[Tensor, State]:
    """Read each distinct prefix once; return the logits of each prefix, (B, V), and the state.

    Raises:
        ValueError: a prefix is empty.
    """
    keys = [tuple(prefix.tolist()) for prefix in prefixes]
    if () in keys:
        raise ValueError("a prefix needs at least one input symbol")
    distinct = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    read = [model(torch.tensor([key], device=model.device)) for key in distinct]
    index = torch.tensor([distinct[key] for key in keys], device=model.device)
    state = tuple(
        torch.cat(parts, dim=1).index_select(1, index.to(parts[0].device))
        for parts in zip(*(state for _, state in read), strict=True)
    )
    return torch.cat([output[:, -1] for output, _ in read]).index_select(0, index), state
