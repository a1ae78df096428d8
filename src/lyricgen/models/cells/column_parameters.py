"""The weights of a recurrent layer as the dictionary of `column_vectors`, and back.

I input size, H hidden size, G gates, V outputs; n_x is I, n_a is H, n_y is V. torch's layers add
two biases, one beside each matrix; they become one, but for a GRU's candidate, where the reset gate
may come between them.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lyricgen.models.cells.column_vectors import (
    Array,
    Parameters,
    Step,
    gru_step,
    lstm_step,
    relu,
    rnn_step,
)
from lyricgen.models.cells.written_out import GruScratch, LstmScratch, RnnScratch, ScratchCell

# the gates in a layer's weights, by the letter that the dictionary has for each
ORDERS: dict[type[nn.Module], str] = {
    nn.RNN: "a",
    nn.GRU: "rzc",
    nn.LSTM: "ifco",
    RnnScratch: "a",
    GruScratch: "zrc",
    LstmScratch: "ifoc",
}


class _Weights(NamedTuple):
    """A layer's weights, G blocks of H rows."""

    on_input: Array  # (G·H, I)
    on_state: Array  # (G·H, H)
    bias: Array  # (G·H, 1)
    state_bias: Array  # (G·H, 1)


def step_of(layer: nn.Module) -> Step:
    """The step of `column_vectors` that computes what a layer does.

    Raises:
        TypeError: it is no recurrent layer that this module knows.
    """
    order = _order(layer)
    if order == "a":
        rectified = getattr(layer, "nonlinearity", "tanh") == "relu"
        return partial(rnn_step, activation=relu if rectified else np.tanh)
    return gru_step if "r" in order else lstm_step


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
    order = _order(layer)
    parameters: Parameters = {}
    blocks = (np.split(array, len(order)) for array in _read(layer))
    for gate, on_input, on_state, bias, state_bias in zip(order, *blocks, strict=True):
        if gate == "a":
            parameters |= {"Wax": on_input, "Waa": on_state}
        else:
            parameters[f"W{gate}"] = np.concatenate([on_state, on_input], axis=1)
        if gate == "c" and _resets_after(layer):
            parameters |= {"bc": bias, "bca": state_bias}
        else:
            parameters[f"b{gate}"] = bias + state_bias
    parameters["Wya" if order == "a" else "Wy"] = _array(output_weight)
    parameters["by"] = _array(output_bias)[:, None]
    return parameters


@torch.no_grad()
def from_columns(
    parameters: Parameters, layer: nn.Module, output_weight: Tensor, output_bias: Tensor
) -> None:
    """Write a dictionary into a layer and the softmax above it; what `to_columns` undoes.

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
    order = _order(layer)
    blocks = [_block(parameters, gate) for gate in order]
    _write(layer, _Weights(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True))))
    output_weight.copy_(torch.from_numpy(parameters["Wya" if order == "a" else "Wy"]))
    output_bias.copy_(torch.from_numpy(parameters["by"][:, 0]))


def _block(parameters: Parameters, gate: str) -> _Weights:
    """One gate's rows: G is 1."""
    bias = parameters[f"b{gate}"]  # (H, 1)
    if gate == "a":
        return _Weights(parameters["Wax"], parameters["Waa"], bias, np.zeros_like(bias))
    weight = parameters[f"W{gate}"]  # (H, H + I)
    hidden = len(weight)
    state_bias = parameters.get("bca") if gate == "c" else None
    state_bias = np.zeros_like(bias) if state_bias is None else state_bias
    return _Weights(weight[:, hidden:], weight[:, :hidden], bias, state_bias)


def _order(layer: nn.Module) -> str:
    for kind, order in ORDERS.items():
        if isinstance(layer, kind):
            return order
    raise TypeError(f"{type(layer).__name__} is no recurrent layer that has columns")


def _resets_after(layer: nn.Module) -> bool:
    after = isinstance(layer, GruScratch) and layer.reset_bias is not None
    return after or isinstance(layer, nn.GRU)


def _read(layer: nn.Module) -> _Weights:
    if isinstance(layer, ScratchCell):
        bias = _array(layer.bias)[:, None]
        state_bias = np.zeros_like(bias)
        if _resets_after(layer):
            state_bias[-layer.hidden_size :, 0] = _array(layer.get_parameter("reset_bias"))
        return _Weights(
            _array(layer.input_weight).T, _array(layer.hidden_weight).T, bias, state_bias
        )
    return _Weights(
        _array(layer.get_parameter("weight_ih_l0")),
        _array(layer.get_parameter("weight_hh_l0")),
        _array(layer.get_parameter("bias_ih_l0"))[:, None],
        _array(layer.get_parameter("bias_hh_l0"))[:, None],
    )


def _write(layer: nn.Module, weights: _Weights) -> None:
    on_input, on_state, bias, state_bias = map(torch.from_numpy, weights)
    if isinstance(layer, ScratchCell):
        layer.input_weight.copy_(on_input.T)
        layer.hidden_weight.copy_(on_state.T)
        layer.bias.copy_(bias[:, 0])
        if _resets_after(layer):
            layer.get_parameter("reset_bias").copy_(state_bias[-layer.hidden_size :, 0])
        return
    layer.get_parameter("weight_ih_l0").copy_(on_input)
    layer.get_parameter("weight_hh_l0").copy_(on_state)
    layer.get_parameter("bias_ih_l0").copy_(bias[:, 0])
    layer.get_parameter("bias_hh_l0").copy_(state_bias[:, 0])


def _array(tensor: Tensor) -> Array:
    # a copy: what is done with the dictionary must not reach the layer
    array: Array = tensor.detach().cpu().numpy().copy()
    return array
