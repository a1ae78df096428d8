"""Character networks: input, recurrence, output layer, and initial weights.

B batch, T time steps, K characters known after them, V vocabulary, E embedding, H hidden size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.errors import UserError
from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell, LayerStep, State
from lyricgen.models.model import Model, NextModel, exact
from lyricgen.models.options import CellOptions, DepthOptions, RecurrentArchitecture


class RecurrentStack(nn.Module):
    """L layers of one cell; with `residual`, each layer after the first adds its input.

    Each layer is a module of its own: the names in a checkpoint do not depend on what stands
    between the layers, and dropout draws from torch's generator. cuDNN's own dropout draws from a
    state that nothing can restore, so no run could be resumed exactly. Residual connections: He et
    al. 2016.
    """

    def __init__(
        self,
        cell: CellOptions,
        input_size: int,
        hidden_size: int,
        layers: int,
        depth: DepthOptions,
    ) -> None:
        super().__init__()
        build = CELLS[cell.kind]
        self.residual = depth.residual
        self.dropout = nn.Dropout(depth.dropout)
        sizes = [input_size] + [hidden_size] * (layers - 1)
        self.blocks = nn.ModuleList([build(cell, size, hidden_size) for size in sizes])

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Read (B, T, input), or ids (B, T) if it takes them, from (L, B, H) tensors or zero."""
        states = []
        output = inputs
        for layer, block in enumerate(self.blocks):
            before = None if state is None else tuple(s[layer : layer + 1] for s in state)
            below = output if layer == 0 else self.dropout(output)
            above, after = block(below, before)
            output = above + output if self.residual and layer > 0 else above
            states.append(after)
        return output, tuple(torch.cat(parts) for parts in zip(*states, strict=True))


class BothSides(nn.Module):
    """Two stacks, one from left to right and one from right to left, and a layer that joins them.

    The layers of one never read those of the other. In an ordinary bidirectional network of two
    or more layers (Schuster and Paliwal 1997) they do, and with the second layer's input at t + 1
    comes, through the first layer from the left, the character at t that is to be predicted.
    """

    def __init__(self, stack: Callable[[], RecurrentStack], hidden_size: int) -> None:
        super().__init__()
        self.left = stack()
        self.right = stack()
        self.join = nn.Linear(2 * hidden_size, hidden_size)


class CharacterNetwork(Model):
    """An embedding or one-hot input, a recurrence, and an output layer over the characters.

    The start symbol, where there is one, is a row of its own in the embedding and the zero vector
    among one-hot inputs. It is never predicted.

    Args:
        architecture: sizes and options.

    Raises:
        UserError: tied weights without an embedding of the hidden size.
    """

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
            self.embedding = nn.Embedding(symbols, embedding_size)
            input_size = embedding_size
        self.tied = options.tie_weights and self.embedding is not None
        if self.tied and embedding_size != hidden_size:
            raise UserError(
                f"model.tie_weights=true needs model.embedding_size={embedding_size} equal to "
                f"hidden_size={hidden_size}: set model.tie_weights=false"
            )
        self.recurrence = self.build_recurrence(
            lambda: RecurrentStack(
                architecture.cell, input_size, hidden_size, architecture.layers, architecture.depth
            )
        )
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(hidden_size, self.vocabulary_size)
        if self.tied and self.embedding is not None:
            # an output layer's scale: rows of N(0, 1) would start far off
            nn.init.uniform_(self.embedding.weight, -(hidden_size**-0.5), hidden_size**-0.5)
            self.output.weight = None  # type: ignore[assignment]

    def build_recurrence(self, stack: Callable[[], RecurrentStack]) -> Any:
        """Build the recurrence between input and output from new stacks."""
        return stack()

    def features(self, ids: Tensor) -> Tensor:
        """Input of the recurrence: (B, T) int64 -> (B, T, E or V), or the ids if it takes them."""
        if self.embedding is not None:
            embedded: Tensor = self.dropout(self.embedding(ids))
            return embedded  # (B, T, E)
        if CELLS[self.architecture.cell.kind].takes_ids:
            return ids
        return self.one_hot(ids)

    def one_hot(self, ids: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, V), zeros for the start of a line."""
        vectors = F.one_hot(ids, self.vocabulary_size + 1)[..., : self.vocabulary_size]
        return vectors.to(self.output.bias.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, V)."""
        return F.linear(self.dropout(hidden), self.output_weight, self.output.bias)

    @property
    def device(self) -> torch.device:
        """Where the inputs belong."""
        return self.output.bias.device

    @property
    def description(self) -> str:
        """A few words on the network."""
        built = self.architecture
        return f"{built.cell.kind} {built.layers}x{built.hidden_size}"

    @property
    def output_weight(self) -> Tensor:
        """(V, H)."""
        if self.tied and self.embedding is not None:
            return self.embedding.weight[: self.vocabulary_size]
        return self.output.weight

    def character_dimensions(self) -> dict[str, int]:
        """The dimension that counts characters, of each parameter that has one, by its name."""
        found = {"embedding.weight": 0, "output.weight": 0, "output.bias": 0}
        for path, cell in self.recurrence.named_modules(prefix="recurrence"):
            if self.embedding is None and isinstance(cell, Cell) and path.endswith("blocks.0"):
                weight, _ = next(cell.named_parameters(prefix=path))
                found[weight] = 0 if cell.row_vectors else 1
        return found

    def set_output_bias(self, counts: Tensor) -> None:
        """Start from the unigram distribution of the training text, add-one smoothed.

        Args:
            counts: (V,) how often each character occurs.
        """
        smoothed = counts.double() + 1
        with torch.no_grad():
            self.output.bias.copy_((smoothed / smoothed.sum()).log())

    def initialise(self, seed: int) -> None:
        """Draw the initial weights that `model.init` names; "torch" keeps those that there are.

        The others draw every matrix from N(0, 0.01²), by torch's global generator or by NumPy's
        legacy one, and set biases to 0, but for those that are options of a cell. Matrices are
        drawn as (outputs, inputs), of each layer the input's, then the hidden state's, and at last
        the output layer's, as course code in NumPy does.

        Args:
            seed: of NumPy's generator.
        """
        init = self.architecture.model.init
        numbers = np.random.RandomState(seed)
        if init == "normal_0.01":
            self._set_weights(lambda shape: torch.normal(0.0, 0.01, shape))
        elif init == "numpy_normal_0.01":
            self._set_weights(lambda shape: torch.from_numpy(0.01 * numbers.randn(*shape)))

    def _set_weights(self, draw: Callable[[torch.Size], Tensor]) -> None:
        with torch.no_grad():
            for module in self.modules():
                for parameter in module.parameters(recurse=False):
                    if parameter.dim() == 1:
                        parameter.zero_()
                        continue
                    transposed = isinstance(module, Cell) and module.row_vectors
                    matrix = parameter.T if transposed else parameter
                    matrix.copy_(draw(matrix.shape))
        for module in self.modules():
            if isinstance(module, Cell):
                module.set_chosen_biases()


class LanguageModel(CharacterNetwork, NextModel):
    """P(next character | all before), by a recurrence from left to right."""

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            state: (L, B, H) tensors from the characters before, or None for zero.

        Returns:
            Logits (B, T, V) and the state after the last character.
        """
        hidden, state = self.recurrence(self.features(inputs), state)  # (B, T, H)
        return self.logits(hidden), state

    def score_one(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Nats of one character after each row."""
        hidden, _ = self.recurrence(self.features(inputs), None)  # (B, T, H)
        # the output layer costs as much as the rest: only the last step needs it
        logits = self.logits(hidden[torch.arange(len(inputs)), lengths - 1])  # (B, V)
        return F.cross_entropy(exact(logits), targets.long(), reduction="none")

    def layer_steps(self) -> list[LayerStep]:
        """Steps in place of the layers, from the input up; none where one has no such step."""
        steps = [block.layer_step() for block in self.recurrence.blocks]
        return [] if None in steps else steps


class FillModel(CharacterNetwork):
    """P(x_t | all characters before and after), from the left state at t-1 and the right at t+1.

    It is no model of a text's probability: the product over t of what it predicts is the
    pseudo-likelihood (Besag 1975), exp of its mean negative logarithm the pseudo-perplexity.
    """

    fills_gaps = True
    metric_prefix = "pseudo_"

    def build_recurrence(self, stack: Callable[[], RecurrentStack]) -> BothSides:
        """One stack for each side."""
        return BothSides(stack, self.architecture.hidden_size)

    def forward(
        self, characters: Tensor, lengths: Tensor, steps: int, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Predict characters 1 … T of each row, each as if it were not there.

        Args:
            characters: (B, 1 + T + K) int64 ids; the first may be V, the start of a line.
            lengths: (B,) int64, where each row's last known character stands; what comes after is
                padding.
            steps: T.
            state: (L, B, H) tensors of the left stack from the characters before, or None.

        Returns:
            Logits (B, T, V), and the left stack's state after character T - 1.
        """
        before, state = self.recurrence.left(self.features(characters[:, :steps]), state)
        hidden = torch.cat([before, self._after(characters, lengths, steps)], dim=-1)  # (B, T, 2H)
        return self.logits(torch.tanh(self.recurrence.join(hidden))), state

    def _after(self, characters: Tensor, lengths: Tensor, steps: int) -> Tensor:
        """State of the right stack after reading all characters behind each of 1 … T, (B, T, H)."""
        nothing = len(characters), 1, self.architecture.hidden_size
        after = self.output.bias.new_zeros(nothing)  # before it has read anything
        places = torch.arange(characters.shape[1], device=characters.device)
        backwards = lengths[:, None] - places[: max(0, characters.shape[1] - 2)]  # to character 2
        if backwards.shape[1]:
            read = self.features(characters.gather(1, backwards.clamp(min=0)))
            states, _ = self.recurrence.right(read, None)  # (B, T + K - 1, H)
            after = F.pad(states, (0, 0, 1, 0))
        number_read = (lengths[:, None] - places[1 : steps + 1]).clamp(min=0)  # (B, T)
        return after.gather(1, number_read[..., None].expand(-1, -1, after.shape[-1]))

    def predict(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        """Logits of a batch's targets, each from all known characters around it, and left state."""
        steps = batch.targets.shape[1]
        known = [batch.inputs[:, :1], batch.targets]
        lengths = (batch.targets != IGNORED).sum(dim=1)  # (B,)
        if batch.following is not None:
            known.append(batch.following)
            after = (batch.following != IGNORED).sum(dim=1)
            lengths = torch.where(lengths == steps, lengths + after, lengths)
        characters = torch.cat(known, dim=1)  # (B, 1 + T + K)
        characters = characters.masked_fill(characters == IGNORED, 0)  # padding: never read
        logits, state = self(characters, lengths, steps, state)
        return logits, state


def recurrent(architecture: RecurrentArchitecture) -> LanguageModel | FillModel:
    """The recurrent network for an objective, with its initial weights."""
    fills = architecture.objective == "fill"
    return FillModel(architecture) if fills else LanguageModel(architecture)
