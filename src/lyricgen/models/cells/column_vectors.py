"""The recurrences in NumPy, equation by equation, to read and to check torch's layers.

Vectors are columns, as in deep-learning courses: n_x input size, n_a hidden units, n_y outputs, m
samples, T_x time steps. [a; x] is the stack of a over x, (n_a + n_x, m).

The parameters are a dictionary. A gate's matrix, such as Wz, is (n_a, n_a + n_x) and acts on [a;
x]. A bias is (n_a, 1), except `by`:

- RNN: Wax (n_a, n_x), Waa (n_a, n_a), ba; output Wya (n_y, n_a), by (n_y, 1)
- GRU: Wz, bz update; Wr, br reset; Wc, bc candidate; also bca if the reset gate acts after the
  matrix product; output Wy (n_y, n_a), by (n_y, 1)
- LSTM: Wf, bf forget; Wi, bi update; Wc, bc candidate; Wo, bo output gate; output Wy, by, as above
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def forward(step: Step, x: Array, state: tuple[Array, ...], parameters: Parameters) -> Activations:
    """Compute all T_x steps, one after the other.

    Args:
        step: `rnn_step`, `gru_step` or `lstm_step`.
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
