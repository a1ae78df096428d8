"""Character network: input, recurrence, output layer, and initial weights.

B batch, T time steps, V vocabulary, E embedding, H hidden size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.errors import UserError
from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell, State
from lyricgen.models.options import (
    CellOptions,
    DepthOptions,
    RecurrentArchitecture,
)


class RecurrentStack(nn.Module):
    """L layers of one cell; with `residual`, each layer after the first adds its input.

    One module a layer, whatever stands between them: a checkpoint reads the same, and dropout is
    ours. cuDNN's own draws from a state that nothing can restore, so that a run could not go on
    exactly. Residual connections: He et al. 2016.
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


class CharacterNetwork(nn.Module):
    """An embedding or one-hot input, a recurrence, and an output layer over the characters.

    The start symbol, where there is one, is a row of its own in the embedding and the zero vector
    among one-hot inputs. It is never predicted.

    Args:
        architecture: sizes and options.

    Raises:
        UserError: tied weights without an embedding of the hidden size.
    """

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
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def description(self) -> str:
        """A few words on what it is."""
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
        """Draw the initial weights as `model.init` has it, where that is not as torch has done it.

        That is every matrix from N(0, 0.01²), biases 0 but those that a cell has an option for;
        from torch's global generator, or from NumPy's legacy one. The matrices are drawn as
        (outputs, inputs), in the order in which they follow each other: of each layer the input's,
        then the hidden state's, and at last the output layer's, as course code in NumPy does.

        Args:
            seed: of NumPy's generator.
        """
        init = self.architecture.model.init
        numbers = np.random.RandomState(seed)
        if init == "normal_0.01":
            self._draw(lambda shape: torch.normal(0.0, 0.01, shape))
        elif init == "numpy_normal_0.01":
            self._draw(lambda shape: torch.from_numpy(0.01 * numbers.randn(*shape)))

    def _draw(self, drawn: Callable[[torch.Size], Tensor]) -> None:
        with torch.no_grad():
            for module in self.modules():
                for parameter in module.parameters(recurse=False):
                    if parameter.dim() == 1:
                        parameter.zero_()
                        continue
                    transposed = isinstance(module, Cell) and module.row_vectors
                    matrix = parameter.T if transposed else parameter
                    matrix.copy_(drawn(matrix.shape))
        for module in self.modules():
            if isinstance(module, Cell):
                module.set_chosen_biases()


class LanguageModel(CharacterNetwork):
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
