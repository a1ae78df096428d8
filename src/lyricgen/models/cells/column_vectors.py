"""The recurrences in NumPy, equation by equation, to read and to check torch's layers.

Functions also copy the weights of a layer to the parameters of its recurrence, and back.

Vectors are columns, as in deep-learning courses: n_x input size, n_a hidden units, n_y outputs, m
samples, T_x time steps. [a; x] is the stack of a over x, (n_a + n_x, m).

The parameters are a dictionary. A gate's matrix, such as Wz, is (n_a, n_a + n_x) and acts on [a;
x]. A bias is (n_a, 1), except `by`:

- RNN: Wax (n_a, n_x), Waa (n_a, n_a), ba; output Wya (n_y, n_a), by (n_y, 1)
- GRU: Wz, bz update; Wr, br reset; Wc, bc candidate; also bca if the reset gate acts after the
  matrix product; output Wy (n_y, n_a), by (n_y, 1)
- LSTM: Wf, bf forget; Wi, bi update; Wc, bc candidate; Wo, bo output gate; output Wy, by, as above

For torch's layers n_x, n_a and n_y are named I, H and V; G gates. These layers have two biases. The
parameters contain their sum, except in the candidate of a GRU whose reset gate acts between them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lyricgen.models.cells.cell import Cell, TorchCell

Array = NDArray[np.floating]
Parameters = dict[str, Array]


@dataclass(frozen=True)
class Activations:
    """Values of one step of a recurrence, or of all T_x steps.

    Attributes:
        a: the hidden state, (n_a, m) or (n_a, m, T_x).
        c: the cell state of an LSTM, like `a`; None for other cells.
        y: the predicted probabilities, (n_y, m) or (n_y, m, T_x).
        gates: by name, each like `a`. LSTM: forget, update (also called input), candidate, output;
            GRU: update, reset, candidate; RNN: none.
    """

    a: Array
    c: Array | None
    y: Array
    gates: dict[str, Array]


Step = Callable[..., Activations]  # (x (n_x, m), a (n_a, m), [c (n_a, m),] parameters)


def rnn_step(
    x: Array, a: Array, parameters: Parameters, activation: Callable[[Array], Array] = np.tanh
) -> Activations:
    """Compute one step of an Elman network (Elman 1990).

    Args:
        x: (n_x, m).
        a: (n_a, m), the previous hidden state.
        parameters: see the module.
        activation: np.tanh or `relu`.
    """
    p = parameters
    a = activation(p["Waa"] @ a + p["Wax"] @ x + p["ba"])  # (n_a, m)
    y = softmax(p["Wya"] @ a + p["by"])  # (n_y, m)
    return Activations(a, None, y, {})


def gru_step(x: Array, a: Array, parameters: Parameters) -> Activations:
    """Compute one step of gated recurrent units (Cho et al. 2014).

    The reset gate acts on the state, before the matrix product. With a parameter bca it acts on the
    product plus bca, as in torch.nn.GRU. An update gate z of 1 keeps the state. Courses with an
    update gate u have u = 1 - z.

    Args:
        x: (n_x, m).
        a: (n_a, m), the previous hidden state.
        parameters: see the module.
    """
    p = parameters
    stack = np.concatenate([a, x])  # (n_a + n_x, m)
    z = sigmoid(p["Wz"] @ stack + p["bz"])  # (n_a, m), as all below
    r = sigmoid(p["Wr"] @ stack + p["br"])
    if "bca" in p:
        n_a = len(a)
        from_state = p["Wc"][:, :n_a] @ a + p["bca"]
        candidate = np.tanh(r * from_state + p["Wc"][:, n_a:] @ x + p["bc"])
    else:
        candidate = np.tanh(p["Wc"] @ np.concatenate([r * a, x]) + p["bc"])
    a = z * a + (1 - z) * candidate
    y = softmax(p["Wy"] @ a + p["by"])  # (n_y, m)
    return Activations(a, None, y, {"update": z, "reset": r, "candidate": candidate})


def lstm_step(x: Array, a: Array, c: Array, parameters: Parameters) -> Activations:
    """Compute one step of long short-term memory with forget gates (Gers et al. 2000).

    Args:
        x: (n_x, m).
        a: (n_a, m), the previous hidden state.
        c: (n_a, m), the previous cell state.
        parameters: see the module.
    """
    p = parameters
    stack = np.concatenate([a, x])  # (n_a + n_x, m)
    f = sigmoid(p["Wf"] @ stack + p["bf"])  # (n_a, m), as all below
    i = sigmoid(p["Wi"] @ stack + p["bi"])
    candidate = np.tanh(p["Wc"] @ stack + p["bc"])
    o = sigmoid(p["Wo"] @ stack + p["bo"])
    c = f * c + i * candidate
    a = o * np.tanh(c)
    y = softmax(p["Wy"] @ a + p["by"])  # (n_y, m)
    return Activations(a, c, y, {"forget": f, "update": i, "candidate": candidate, "output": o})


def coupled_lstm_step(x: Array, a: Array, c: Array, parameters: Parameters) -> Activations:
    """Compute one step of an LSTM whose input gate is 1 - its forget gate (Greff et al. 2017).

    `lstm_step` explains the arguments; there is no Wi and no bi.
    """
    p = parameters
    stack = np.concatenate([a, x])  # (n_a + n_x, m)
    f = sigmoid(p["Wf"] @ stack + p["bf"])  # (n_a, m), as all below
    candidate = np.tanh(p["Wc"] @ stack + p["bc"])
    o = sigmoid(p["Wo"] @ stack + p["bo"])
    c = f * c + (1 - f) * candidate
    a = o * np.tanh(c)
    y = softmax(p["Wy"] @ a + p["by"])  # (n_y, m)
    return Activations(a, c, y, {"forget": f, "candidate": candidate, "output": o})


def forward(step: Step, x: Array, state: tuple[Array, ...], parameters: Parameters) -> Activations:
    """Compute all T_x steps, one after the other.

    Args:
        step: a `Step`, such as `rnn_step`, `gru_step` or `lstm_step`.
        x: (n_x, m, T_x), one time step at least.
        state: initial state, (a,) or, for an LSTM, (a, c), each (n_a, m).
        parameters: see the module.

    Returns:
        The values of all steps, in the type of the arguments.
    """
    steps = []
    for t in range(x.shape[2]):
        now = step(x[:, :, t], *state, parameters)
        state = (now.a,) if now.c is None else (now.a, now.c)
        steps.append(now)

    def over_time(parts: Iterable[Any]) -> Array:
        return np.stack(list(parts), axis=2)

    return Activations(
        a=over_time(now.a for now in steps),
        c=None if len(state) == 1 else over_time(now.c for now in steps),
        y=over_time(now.y for now in steps),
        gates={name: over_time(now.gates[name] for now in steps) for name in steps[0].gates},
    )


def sigmoid(z: Array) -> Array:
    """Compute 1 / (1 + exp(-z)) without overflow."""
    return (1 + np.tanh(z / 2)) / 2


def relu(z: Array) -> Array:
    """Compute max(z, 0)."""
    return np.maximum(z, 0)


def softmax(z: Array) -> Array:
    """Compute the softmax of each column of `z`, (n_y, m)."""
    exponential: Array = np.exp(z - z.max(axis=0))
    total: Array = exponential.sum(axis=0)
    return exponential / total


def find_step(layer: nn.Module) -> Step:
    """Find the step that computes the same as a layer.

    Raises:
        TypeError: the layer is neither a cell nor torch's RNN, GRU or LSTM.
        UserError: the cell has no step in NumPy.
    """
    return _kind(layer).column_step(cast(Cell, layer))


@torch.no_grad()
def to_columns(layer: nn.Module, output_weight: Tensor, output_bias: Tensor) -> Parameters:
    """Copy the weights of a layer, and of the output layer above it, into a dictionary.

    Args:
        layer: a cell, or torch's RNN, GRU or LSTM of one layer and one direction, with biases.
        output_weight: (V, H).
        output_bias: (V,).

    Returns:
        The parameters, see the module, in the type of the layer.

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
        parameters: see the module.
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
        expected, given = (p[name].shape if name in p else None for p in (held, parameters))
        if expected != given:
            raise ValueError(f"{name} should be {expected or 'absent'}, it is {given or 'absent'}")
    _kind(layer).weights(cast(Cell, layer)).state_bias.zero_()
    for name, parts in _views(layer, output_weight, output_bias).items():
        widths = [part.shape[1] for part in parts]
        blocks = torch.split(torch.from_numpy(parameters[name]), widths, dim=1)
        for part, block in zip(parts, blocks, strict=True):
            part.copy_(block)


def _kind(layer: nn.Module) -> type[Cell]:
    """Find the cell that a layer belongs to, or, for a layer of torch, the cell derived from it."""
    if isinstance(layer, Cell):
        return type(layer)
    for kind in TorchCell.__subclasses__():
        if type(layer) in kind.__bases__:
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
