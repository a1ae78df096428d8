"""The weights of a recurrent layer as the dictionary of `column_vectors`, and back.

I input size, H hidden size, G gates, V outputs; n_x is I, n_a is H, n_y is V. torch's layers add
two biases, one beside each matrix; they become one, but for a GRU's candidate, where the reset gate
may come between them.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell
from lyricgen.models.cells.column_vectors import Array, Parameters, Step


def step_of(layer: nn.Module) -> Step:
    """The step of `column_vectors` that computes what a layer does.

    Raises:
        TypeError: it is no recurrent layer that this module knows.
    """
    return _kind(layer).column_step(cast(Cell, layer))


def to_columns(layer: nn.Module, output_weight: Tensor, output_bias: Tensor) -> Parameters:
    """The parameters of a layer, and of the softmax above it.

    Args:
        layer: one of `cells.CELLS`, or torch's RNN, GRU or LSTM of one layer and one direction.
        output_weight: (V, H).
        output_bias: (V,).

    Returns:
        The dictionary that `column_vectors` describes, in the type of the layer.

    Raises:
        TypeError: it is no recurrent layer that this module knows.
    """
    kind = _kind(layer)
    weights = kind.weights(cast(Cell, layer))
    # a GRU whose reset gate acts after the matrix product
    resets_after = "r" in kind.gates and len(weights.state_bias) > 0
    parts = *weights[:3], weights.whole_state_bias
    blocks = zip(*(_blocks(part, kind.gates) for part in parts), strict=True)
    parameters: Parameters = {}
    for gate, block in zip(kind.gates, blocks, strict=True):
        on_input, on_state, bias, state_bias = map(_array, block)
        if gate == "a":
            parameters |= {"Wax": on_input, "Waa": on_state}
        else:
            parameters[f"W{gate}"] = np.concatenate([on_state, on_input], axis=1)
        if gate == "c" and resets_after:
            parameters |= {"bc": bias, "bca": state_bias}
        else:
            parameters[f"b{gate}"] = bias + state_bias
    parameters["Wya" if kind.gates == "a" else "Wy"] = _array(output_weight)
    parameters["by"] = _array(output_bias)[:, None]
    return parameters


@torch.no_grad()
def from_columns(
    parameters: Parameters, layer: nn.Module, output_weight: Tensor, output_bias: Tensor
) -> None:
    """Write a dictionary into a layer and the softmax above it; the inverse of `to_columns`.

    Args:
        parameters: as `column_vectors` describes them.
        layer: as for `to_columns`; changed in place. Of two biases that add up, the second becomes
            zero.
        output_weight: (V, H), changed in place.
        output_bias: (V,), changed in place.

    Raises:
        TypeError: `layer` is no recurrent layer that this module knows.
        ValueError: a parameter is missing, unknown, or of another shape than the layer's.
    """
    held = to_columns(layer, output_weight, output_bias)
    for name in sorted(held.keys() | parameters.keys()):
        wanted, given = (p[name].shape if name in p else None for p in (held, parameters))
        if wanted != given:
            raise ValueError(f"{name} should be {wanted or 'absent'}, it is {given or 'absent'}")
    kind = _kind(layer)
    weights = kind.weights(cast(Cell, layer))
    blocks = zip(*(_blocks(part, kind.gates) for part in weights[:3]), strict=True)
    tensors = {name: torch.from_numpy(array) for name, array in parameters.items()}
    for gate, (on_input, on_state, bias) in zip(kind.gates, blocks, strict=True):
        if gate == "a":
            on_state.copy_(tensors["Waa"])
            on_input.copy_(tensors["Wax"])
        else:
            on_state.copy_(tensors[f"W{gate}"][:, : len(bias)])
            on_input.copy_(tensors[f"W{gate}"][:, len(bias) :])
        bias.copy_(tensors[f"b{gate}"])
    weights.state_bias.zero_()
    if "bca" in tensors:
        weights.state_bias[-len(tensors["bca"]) :] = tensors["bca"][:, 0]
    output_weight.copy_(tensors["Wya" if kind.gates == "a" else "Wy"])
    output_bias.copy_(tensors["by"][:, 0])


def _kind(layer: nn.Module) -> type[Cell]:
    """The class whose methods know a layer: its own, or the cell's that is derived from it."""
    for kind in CELLS.values():
        if isinstance(layer, kind) or type(layer) in kind.__bases__:
            return kind
    raise TypeError(f"{type(layer).__name__} is no recurrent layer that has columns")


def _blocks(part: Tensor, gates: str) -> tuple[Tensor, ...]:
    """Rows of each gate, as columns multiply them: (…, G·H) -> (H, …) or, of a bias, (H, 1)."""
    return part.reshape(-1, part.shape[-1]).T.chunk(len(gates))


def _array(tensor: Tensor) -> Array:
    # a copy: what is done with the dictionary must not reach the layer
    array: Array = tensor.detach().cpu().numpy().copy()
    return array
