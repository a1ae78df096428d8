"""The network: characters in, a recurrence of any depth, logits of the next character out.

B batch, T time steps, V vocabulary, E embedding, H hidden size, L layers.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lyricgen.errors import UserError
from lyricgen.model.cells import CELLS, CellOptions
from lyricgen.model.recurrence import Cell, State
from lyricgen.options import Options

# Limits that only a mistake or a hostile file goes past.
Layers = Annotated[int, Field(ge=1, le=256)]
Size = Annotated[int, Field(ge=1, le=2**16)]


class DepthOptions(Options):
    """Options of `depth=`: what stands between the layers."""

    dropout: float = Field(ge=0, lt=1)
    residual: bool


class RecurrentOptions(Options):
    """Options of `model=recurrent`: what surrounds the recurrence."""

    kind: Literal["recurrent"]
    input: Literal["embedding", "one_hot"]
    embedding_size: Size | None
    tie_weights: bool
    dropout: float = Field(ge=0, lt=1)
    init: Literal["torch", "normal_0.01", "numpy_normal_0.01"]
    output_bias: Literal["zero", "unigram"]


class RecurrentArchitecture(Options):
    """All that it takes to build the network again; a checkpoint holds it as plain values."""

    kind: Literal["recurrent"]
    vocabulary_size: int = Field(ge=1, le=0x110000)
    start_symbol: bool  # lines begin with one more input symbol, id V
    layers: Layers
    hidden_size: Size
    cell: CellOptions
    depth: DepthOptions
    model: RecurrentOptions


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
        self.takes_ids = build.takes_ids
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


class LanguageModel(nn.Module):
    """P(next character | all before), by an embedding or one-hot input and a recurrence.

    The start symbol, where there is one, is a row of its own in the embedding and the zero vector
    among one-hot inputs. It is never predicted.

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
        self.recurrence = RecurrentStack(
            architecture.cell, input_size, hidden_size, architecture.layers, architecture.depth
        )
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(hidden_size, self.vocabulary_size)
        if self.tied and self.embedding is not None:
            # an output layer's scale: rows of N(0, 1) would start far off
            nn.init.uniform_(self.embedding.weight, -(hidden_size**-0.5), hidden_size**-0.5)
            self.output.weight = None  # type: ignore[assignment]
        if options.init == "normal_0.01":
            self._init(lambda matrix: torch.normal(0.0, 0.01, matrix.shape))

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict the character after each.

        Args:
            inputs: (B, T) int64 character ids, V for the start of a line.
            state: (L, B, H) tensors from the characters before, or None for zero.

        Returns:
            Logits (B, T, V) and the state after the last character.
        """
        if self.embedding is not None:
            features = self.dropout(self.embedding(inputs))  # (B, T, E)
        elif self.recurrence.takes_ids:
            features = inputs
        else:
            one_hot = F.one_hot(inputs, self.vocabulary_size + 1)[..., : self.vocabulary_size]
            features = one_hot.to(self.output.bias.dtype)  # (B, T, V), zeros for the start
        hidden, state = self.recurrence(features, state)  # (B, T, H)
        return F.linear(self.dropout(hidden), self.output_weight, self.output.bias), state

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

    def set_output_bias(self, counts: Tensor) -> None:
        """Start from the unigram distribution of the training text, add-one smoothed.

        Args:
            counts: (V,) how often each character occurs.
        """
        smoothed = counts.double() + 1
        with torch.no_grad():
            self.output.bias.copy_((smoothed / smoothed.sum()).log())

    def init_from_numpy(self, seed: int) -> None:
        """Weights N(0, 0.01²) from NumPy's legacy generator, biases 0.

        Drawn one matrix (outputs, inputs) after the other, as they follow each other in the
        network: of each layer the input's, then the hidden state's, and at last the output
        layer's. So course code in NumPy draws them from the same seed.
        """
        generator = np.random.RandomState(seed)
        self._init(lambda matrix: torch.from_numpy(0.01 * generator.randn(*matrix.shape)))

    def _init(self, draw: Callable[[Tensor], Tensor]) -> None:
        """Fill every matrix (outputs, inputs) with what is drawn in its shape, biases with 0."""
        with torch.no_grad():
            for module in self.modules():
                for parameter in module.parameters(recurse=False):
                    if parameter.dim() == 1:
                        parameter.zero_()
                        continue
                    transposed = isinstance(module, Cell) and module.row_vectors
                    matrix = parameter.T if transposed else parameter
                    matrix.copy_(draw(matrix))
        for module in self.modules():
            if isinstance(module, Cell):
                module.set_chosen_biases()
