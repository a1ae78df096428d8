"""Character networks: input, recurrence, output layer, and initial weights.

Shapes: B batch, T time steps, K known characters after these steps, V vocabulary, E embedding, H
hidden size, L layers.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.errors import UserError
from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell, LayerStep, State
from lyricgen.models.model import Model, NextModel, at_least_float32
from lyricgen.models.options import CellOptions, DepthOptions, RecurrentArchitecture
from lyricgen.models.regularization import DroppedEmbedding, LockedDropout, call_with_weight_drop


class RecurrentStack(nn.Module):
    """Stack of L layers of one cell, with dropout and residual connections between them.

    A residual connection (He et al. 2016) adds the input of a layer to its output; the first layer
    has none. Each layer is a module of its own, so that dropout draws from torch's generator. The
    dropout inside cuDNN has a state that cannot be restored, so a run could not be resumed exactly.
    """

    def __init__(
        self,
        cell: CellOptions,
        input_size: int,
        hidden_size: int,
        layers: int,
        depth: DepthOptions,
        weight_drop: float = 0.0,
        dropout: type[nn.Dropout] = nn.Dropout,
    ) -> None:
        super().__init__()
        build = CELLS[cell.kind]
        self.residual = depth.residual
        self.weight_drop = weight_drop
        self.dropout = dropout(depth.dropout)
        sizes = [input_size] + [hidden_size] * (layers - 1)
        self.blocks = nn.ModuleList([build(cell, size, hidden_size) for size in sizes])

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read features (B, T, input size), or ids (B, T); a state of None is zero.

        Returns:
            The last layer's output, (B, T, H), and the next state, (L, B, H) tensors.
        """
        states = []
        output = inputs
        for layer, block in enumerate(self.blocks):
            before = None if state is None else tuple(s[layer : layer + 1] for s in state)
            below = output if layer == 0 else self.dropout(output)
            if self.training and self.weight_drop:
                above, after = call_with_weight_drop(block, below, before, self.weight_drop)
            else:
                above, after = block(below, before)
            output = above + output if self.residual and layer > 0 else above
            states.append(after)
        return output, tuple(torch.cat(parts) for parts in zip(*states, strict=True))

    def last_output(self, state: State) -> Tensor:
        """Find the last layer's output, (B, H), at the step that led to a state."""
        return state[0].sum(dim=0) if self.residual else state[0][-1]


class BothSides(nn.Module):
    """A stack from left to right, a stack from right to left, and a layer that joins them.

    Neither stack reads the other. In an ordinary bidirectional network (Schuster and Paliwal 1997)
    the second layer reads both directions of the first layer, and so sees the character to predict.
    """

    def __init__(self, stack: Callable[[], RecurrentStack], hidden_size: int) -> None:
        super().__init__()
        self.left = stack()
        self.right = stack()
        self.join = nn.Linear(2 * hidden_size, hidden_size)


class CharacterNetwork(Model):
    """Base of networks: embedding or one-hot input, recurrence, and output layer.

    A start symbol is one more row in the embedding, or the zero vector among one-hot inputs. It is
    never predicted. One-hot inputs ignore `tie_weights`.

    Args:
        architecture: sizes and options.

    Raises:
        UserError: `tie_weights` is true, but the embedding does not have the hidden size.
    """

    trains_in_steps: ClassVar[Literal[True]] = True

    architecture: RecurrentArchitecture

    def __init__(self, architecture: RecurrentArchitecture) -> None:
        super().__init__()
        options = architecture.model
        self.architecture = architecture
        self.vocabulary_size = architecture.vocabulary_size
        hidden_size = architecture.hidden_size
        embedding_size = options.embedding_size or hidden_size
        self.embedding: nn.Embedding | None = None
        input_size = self.vocabulary_size
        if options.input == "embedding":
            symbols = self.vocabulary_size + architecture.start_symbol
            dropped = options.embedding_dropout
            self.embedding = DroppedEmbedding(symbols, embedding_size, dropped)
            input_size = embedding_size
        self.tied = options.tie_weights and self.embedding is not None
        if self.tied and embedding_size != hidden_size:
            raise UserError(
                f"model.tie_weights=true needs model.embedding_size={embedding_size} equal to "
                f"hidden_size={hidden_size}: set model.tie_weights=false"
            )
        dropout = LockedDropout if options.locked_dropout else nn.Dropout
        self.recurrence = self.build_recurrence(
            lambda: RecurrentStack(
                *(architecture.cell, input_size, hidden_size, architecture.layers),
                *(architecture.depth, options.weight_drop, dropout),
            )
        )
        self.dropout = dropout(options.dropout)
        self.noise: nn.Module = nn.Identity()  # training replaces it, with `model.noise`
        self.output = nn.Linear(hidden_size, self.vocabulary_size)
        if self.tied and self.embedding is not None:
            # the scale of an output layer, since rows of N(0, 1) would give a high initial loss
            nn.init.uniform_(self.embedding.weight, -(hidden_size**-0.5), hidden_size**-0.5)
            self.output.weight = None  # type: ignore[assignment]

    def build_recurrence(self, stack: Callable[[], RecurrentStack]) -> Any:
        """Build the recurrence between input and output; each call of `stack` makes a new stack."""
        return stack()

    def features(self, ids: Tensor) -> Tensor:
        """Convert ids, (B, T), to the input of the recurrence.

        The input is an embedding, (B, T, E), or one-hot vectors, (B, T, V), or ids if the cell
        takes ids.
        """
        ids = self.noise(ids)
        if self.embedding is not None:
            embedded: Tensor = self.dropout(self.embedding(ids))
            return embedded  # (B, T, E)
        if CELLS[self.architecture.cell.kind].takes_ids:
            return ids
        return self.one_hot(ids)

    def one_hot(self, ids: Tensor) -> Tensor:
        """Convert ids, (B, T), to one-hot vectors, (B, T, V); the start of a line becomes zeros."""
        vectors = F.one_hot(ids, self.vocabulary_size + 1)[..., : self.vocabulary_size]
        return vectors.to(self.output.bias.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply dropout and the output layer, (…, H) -> (…, V)."""
        return F.linear(self.dropout(hidden), self.output_weight, self.output.bias)

    @property
    @override
    def device(self) -> torch.device:
        return self.output.bias.device

    @property
    @override
    def description(self) -> str:
        built = self.architecture
        return f"{built.cell.kind} {built.layers}x{built.hidden_size}"

    @property
    def output_weight(self) -> Tensor:
        """Weight of the output layer, (V, H)."""
        if self.tied and self.embedding is not None:
            return self.embedding.weight[: self.vocabulary_size]
        return self.output.weight

    def character_dimensions(self) -> dict[str, int]:
        """Map names of parameters to the dimension in which they have an index for each character.

        Some names may be of parameters that this network does not have.
        """
        found = {"embedding.weight": 0, "output.weight": 0, "output.bias": 0}
        for path, cell in self.recurrence.named_modules(prefix="recurrence"):
            if self.embedding is None and isinstance(cell, Cell) and path.endswith("blocks.0"):
                weight, _ = next(cell.named_parameters(prefix=path))
                found[weight] = 0 if cell.row_vectors else 1
        return found

    def hidden_matrices(self) -> list[nn.Parameter]:
        """List the matrices of the recurrence, except a matrix for one-hot inputs."""
        of_characters = self.character_dimensions()
        return [
            parameter
            for name, parameter in self.named_parameters()
            if parameter.dim() == 2 and name not in of_characters
        ]

    def set_output_bias(self, counts: Tensor) -> None:
        """Set the output bias to the log-frequencies of characters, smoothed by adding one.

        Args:
            counts: (V,) occurrences of each character.
        """
        smoothed = counts.double() + 1
        with torch.no_grad():
            self.output.bias.copy_((smoothed / smoothed.sum()).log())

    def initialise(self, seed: int) -> None:
        """Draw the initial weights by `model.init`; "torch" keeps the present weights.

        The other choices draw every matrix from N(0, 0.01²), with torch's global generator or
        NumPy's legacy generator. Biases become 0, except biases that are options of a cell. As in
        NumPy code of courses, the embedding is drawn first, then for each layer its matrix for the
        input and its matrix for the state, and the output layer last. The embedding is drawn as
        (symbols, E), other matrices as (outputs, inputs).

        Args:
            seed: seed of NumPy's generator, below 2**32; torch's generator ignores it.
        """
        init, numbers = self.architecture.model.init, np.random.RandomState(seed)
        if init == "torch":
            return
        for module in self.modules():
            transposed = isinstance(module, Cell) and module.row_vectors
            for parameter in module.parameters(recurse=False):
                matrix = parameter.detach()
                if matrix.dim() == 1:
                    matrix.zero_()
                    continue
                matrix = matrix.T if transposed else matrix
                if init == "normal_0.01":
                    matrix.copy_(torch.normal(0.0, 0.01, matrix.shape))
                else:
                    matrix.copy_(torch.from_numpy(0.01 * numbers.randn(*matrix.shape)))
            if isinstance(module, Cell):
                module.set_chosen_biases()


class LanguageModel(CharacterNetwork, NextModel):
    """Network that predicts the next character from all earlier characters."""

    @override
    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each input.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            state: (L, B, H) tensors after earlier characters, or None for zero.

        Returns:
            Logits (B, T, V) and the state after the last character.
        """
        hidden, state = self.recurrence(self.features(inputs), state)  # (B, T, H)
        return self.logits(hidden), state

    @override
    def score_next(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        hidden, _ = self.recurrence(self.features(inputs), None)  # (B, T, H)
        # the output layer takes as long as the recurrence: apply it to the last step only
        logits = self.logits(hidden[torch.arange(len(inputs)), lengths - 1])  # (B, V)
        return F.cross_entropy(at_least_float32(logits), targets.long(), reduction="none")

    @override
    def layer_steps(self) -> list[LayerStep]:
        blocks = self.recurrence.blocks
        steps = [block.fast_step(block) for block in blocks if block.fast_step is not None]
        return steps if len(steps) == len(blocks) else []


class FillModel(CharacterNetwork):
    """Network that predicts each character from all other characters of the text.

    The product of its probabilities is not the probability of the text, but its pseudo-likelihood
    (Besag 1975). exp of the mean nats is the pseudo-perplexity.
    """

    fills_gaps = True
    metric_prefix = "pseudo_"

    @override
    def build_recurrence(self, stack: Callable[[], RecurrentStack]) -> BothSides:
        return BothSides(stack, self.architecture.hidden_size)

    @override
    def forward(
        self, characters: Tensor, lengths: Tensor, steps: int, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Predict characters 1 … T of each row, each from all other characters of the row.

        Args:
            characters: (B, 1 + T + K) int64 ids; the first may be V, the start of a line.
            lengths: (B,) int64, index of each row's last known character; padding follows it.
            steps: T.
            state: (L, B, H) tensors of the left stack after earlier characters, or None for zero.

        Returns:
            Logits (B, T, V), and the left stack's state after character T - 1.
        """
        before, state = self.recurrence.left(self.features(characters[:, :steps]), state)
        after = self._compute_right_states(characters, lengths, steps)
        hidden = torch.cat([before, after], dim=-1)  # (B, T, 2H)
        return self.logits(torch.tanh(self.recurrence.join(hidden))), state

    def _compute_right_states(self, characters: Tensor, lengths: Tensor, steps: int) -> Tensor:
        """Compute the states of the right stack, (B, T, H), for characters t = 1 … T.

        The state for t has read all known characters after t.
        """
        empty = len(characters), 1, self.architecture.hidden_size
        after = self.output.bias.new_zeros(empty)  # the state before the first character
        positions = torch.arange(characters.shape[1], device=characters.device)
        # read from the last known character back to character 2
        backwards = lengths[:, None] - positions[: max(0, characters.shape[1] - 2)]
        if backwards.shape[1]:
            read = self.features(characters.gather(1, backwards.clamp(min=0)))
            states, _ = self.recurrence.right(read, None)  # (B, T + K - 1, H)
            after = F.pad(states, (0, 0, 1, 0))
        number_read = (lengths[:, None] - positions[1 : steps + 1]).clamp(min=0)  # (B, T)
        return after.gather(1, number_read[..., None].expand(-1, -1, after.shape[-1]))

    @override
    def predict(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        steps = batch.targets.shape[1]
        known = [batch.inputs[:, :1], batch.targets]
        lengths = (batch.targets != IGNORED).sum(dim=1)  # (B,)
        if batch.following is not None:
            known.append(batch.following)
            after = (batch.following != IGNORED).sum(dim=1)
            lengths = torch.where(lengths == steps, lengths + after, lengths)
        characters = torch.cat(known, dim=1)  # (B, 1 + T + K)
        characters = characters.masked_fill(characters == IGNORED, 0)  # padding: any id does
        logits, state = self(characters, lengths, steps, state)
        return logits, state


def recurrent(architecture: RecurrentArchitecture) -> LanguageModel | FillModel:
    """Build the network of an architecture; `CharacterNetwork` explains the errors."""
    fills = architecture.objective == "fill"
    return FillModel(architecture) if fills else LanguageModel(architecture)
