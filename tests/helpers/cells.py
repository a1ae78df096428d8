"""Sizes, random arrays and comparisons for tests of cells."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lyricgen.models.cells.cell import State
from lyricgen.models.network import RecurrentStack
from lyricgen.models.options import CellOptions, DepthOptions

Floats = npt.NDArray[np.float64]


B, T, E, H = 3, 5, 4, 6


def sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))


def run_layer(layer: nn.RNNBase, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
    """Run torch's own layer; its states are tuples."""
    given = state if state is None or isinstance(layer, nn.LSTM) else state[0]
    output, after = layer(inputs, given)
    return output, after if isinstance(after, tuple) else (after,)


def stack(
    options: CellOptions, layers: int, *, residual: bool = False, dropout: float = 0.0
) -> RecurrentStack:
    depth = DepthOptions(dropout=dropout, residual=residual)
    return RecurrentStack(options, E, H, layers, depth).double()


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def assert_same(left: Tensor, right: Tensor | Floats) -> None:
    torch.testing.assert_close(left, torch.as_tensor(right), rtol=1e-12, atol=1e-12)
