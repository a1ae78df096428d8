"""Layers of a recurrence, one on the other.

B batch, T time steps, H hidden size, L layers.
"""

import torch
from torch import Tensor, nn

from lyricgen.models.cells.layers import CELLS
from lyricgen.models.options import CellOptions, DepthOptions
from lyricgen.models.recurrence import State


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
