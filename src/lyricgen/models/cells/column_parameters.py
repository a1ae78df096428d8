"""Conversion of a layer's weights to the parameters of `column_vectors`, and back.

I input size, H hidden size, V outputs, which `column_vectors` calls n_x, n_a and n_y; G gates.
torch's layers have two biases. The parameters contain their sum, except in the candidate of a GRU
whose reset gate acts between them.
"""

from typing import cast

import torch
from torch import Tensor, nn

from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell
from lyricgen.models.cells.column_vectors import Parameters, Step


def step_of(layer: nn.Module) -> Step:
    """Find the step of `column_vectors` that computes the same as a layer.

    Raises:
        TypeError: the layer is neither one of `cells.CELLS` nor torch's RNN, GRU or LSTM.
        UserError: the cell has no step in NumPy.
    """
    return _kind(layer).column_step(cast(Cell, layer))


@torch.no_grad()
def to_columns(layer: nn.Module, output_weight: Tensor, output_bias: Tensor) -> Parameters:
    """Copy the weights of a layer, and of the output layer above it, into a dictionary.

    Args:
        layer: one of `cells.CELLS`, or torch's RNN, GRU or LSTM of one layer and one direction,
            with biases.
        output_weight: (V, H).
        output_bias: (V,).

    Returns:
        The dictionary that `column_vectors` describes, in the type of the layer.

    Raises:
        TypeError: the layer is of another kind, or in bfloat16, which NumPy does not have.
    """
    kind = _kind(layer)
    views = _views(layer, output_weight, output_bias)
    state_biases = _blocks(kind.weights(cast(Cell, layer)).whole_state_bias, kind.gates)
    parameters: Parameters = {
        name: torch.cat(parts, dim=1).cpu().numpy() for name, parts in views.items()
    }
    for gate, state_bias in zip(kind.gates, state_biases, strict=True):
        if f"b{gate}a" not in parameters:
            parameters[f"b{gate}"] += state_bias.cpu().numpy()
    return parameters


@torch.no_grad()
def from_columns(
    parameters: Parameters, layer: nn.Module, output_weight: Tensor, output_bias: Tensor
) -> None:
    """Write a dictionary into a layer and the output layer above it; the inverse of `to_columns`.

    Args:
        parameters: as `column_vectors` describes them.
        layer: as for `to_columns`; changed in place. If its two biases are added, the second
            becomes zero.
        output_weight: (V, H), changed in place.
        output_bias: (V,), changed in place.

    Raises:
        TypeError: as for `to_columns`.
        ValueError: a parameter is missing, unknown, or of another shape than the layer's.
    """
    held = to_columns(layer, output_weight, output_bias)
    for name in sorted(held.keys() | parameters.keys()):
        wanted, given = (p[name].shape if name in p else None for p in (held, parameters))
        if wanted != given:
            raise ValueError(f"{name} should be {wanted or 'absent'}, it is {given or 'absent'}")
    _kind(layer).weights(cast(Cell, layer)).state_bias.zero_()
    for name, parts in _views(layer, output_weight, output_bias).items():
        widths = [part.shape[1] for part in parts]
        blocks = torch.split(torch.from_numpy(parameters[name]), widths, dim=1)
        for part, block in zip(parts, blocks, strict=True):
            part.copy_(block)


def _kind(layer: nn.Module) -> type[Cell]:
    """Find the cell that a layer belongs to, or, for a layer of torch, the cell derived from it."""
    for kind in CELLS.values():
        if isinstance(layer, kind) or type(layer) in kind.__bases__:
            return kind
    raise TypeError(f"{type(layer).__name__} is no recurrent layer that has columns")


def _views(
    layer: nn.Module, output_weight: Tensor, output_bias: Tensor
) -> dict[str, tuple[Tensor, ...]]:
    """Find the views of the weights that form, side by side, each entry of the dictionary."""
    kind = _kind(layer)
    weights = kind.weights(cast(Cell, layer))
    views: dict[str, tuple[Tensor, ...]] = {}
    blocks = zip(*(_blocks(part, kind.gates) for part in weights[:3]), strict=True)
    for gate, (on_input, on_state, bias) in zip(kind.gates, blocks, strict=True):
        if gate == "a":
            views |= {"Wax": (on_input,), "Waa": (on_state,)}
        else:
            views[f"W{gate}"] = on_state, on_input
        views[f"b{gate}"] = (bias,)
        if gate == "c" and "r" in kind.gates and len(weights.state_bias):
            views["bca"] = (weights.state_bias[-len(bias) :, None],)
    views["Wya" if kind.gates == "a" else "Wy"] = (output_weight,)
    views["by"] = (output_bias[:, None],)
    return views


def _blocks(part: Tensor, gates: str) -> tuple[Tensor, ...]:
    """Split weights (…, G·H) into gates and transpose each, (H, …); a bias becomes (H, 1)."""
    return part.reshape(-1, part.shape[-1]).T.chunk(len(gates))
