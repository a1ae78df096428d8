"""NumPy recurrences against torch's layers and cells, in float64, in both directions."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lyricgen.models.cells import CELLS
from lyricgen.models.cells.column_vectors import (
    Activations,
    find_step,
    forward,
    from_columns,
    gru_step,
    lstm_step,
    relu,
    rnn_step,
    sigmoid,
    softmax,
    to_columns,
)
from tests.helpers.networks import CELLS as SMALL
from tests.helpers.networks import architecture

N_X, N_A, N_Y, M, T_X = 5, 4, 6, 3, 7
OPTIONS = {name: architecture(name).cell for name in SMALL}


def build(name: str, seed: int = 0) -> tuple[nn.Module, nn.Linear]:
    """A recurrent layer and an output layer with random weights in float64."""
    torch.manual_seed(seed)
    options = OPTIONS[name]
    layer = CELLS[options.kind](options, N_X, N_A).double()
    output = nn.Linear(N_A, N_Y).double()
    with torch.no_grad():
        for parameter in (*layer.parameters(), *output.parameters()):
            parameter.uniform_(-1.5, 1.5)
    return layer, output


def columns(layer: nn.Module, output: nn.Linear) -> dict[str, np.ndarray]:
    return to_columns(layer, output.weight, output.bias)


def draw_inputs(name: str) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Inputs (B, T, I) and a state of (1, B, H) tensors."""
    torch.manual_seed(3)
    inputs = torch.randn(M, T_X, N_X, dtype=torch.float64)
    parts = 2 if name.startswith("lstm") else 1
    return inputs, tuple(torch.randn(1, M, N_A, dtype=torch.float64) for _ in range(parts))


def run_forward(name: str, layer: nn.Module, output: nn.Linear) -> Activations:
    inputs, state = draw_inputs(name)
    x = inputs.permute(2, 0, 1).numpy()  # (n_x, m, T_x)
    before = tuple(s[0].T.numpy() for s in state)
    return forward(find_step(layer), x, before, columns(layer, output))


def close(array: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(array), np.asarray(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OPTIONS)
def test_states_and_predictions_equal_those_of_the_layer(name: str) -> None:
    layer, output = build(name)
    inputs, state = draw_inputs(name)
    got = run_forward(name, layer, output)
    with torch.no_grad():
        hidden, after = layer(inputs, state)  # (B, T, H)
        predicted = output(hidden).softmax(-1)  # (B, T, V)
    assert got.a.shape == (N_A, M, T_X)
    assert got.y.shape == (N_Y, M, T_X)
    assert got.a.dtype == got.y.dtype == np.float64
    close(got.a, hidden.permute(2, 0, 1))
    close(got.y, predicted.permute(2, 0, 1))
    if name.startswith("lstm"):
        assert got.c is not None
        close(got.c[:, :, -1], after[1][0].T)
    else:
        assert got.c is None


def test_lstm_gates_equal_those_of_torchs_cell() -> None:
    """Gates in torch's documented order i, f, g, o; states by nn.LSTMCell."""
    layer, output = build("lstm")
    inputs, (hidden, cell) = draw_inputs("lstm")
    got = run_forward("lstm", layer, output)
    alone = nn.LSTMCell(N_X, N_A).double()
    alone.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    h, c = hidden[0], cell[0]
    assert list(got.gates) == ["forget", "update", "candidate", "output"]
    assert got.c is not None
    with torch.no_grad():
        for t in range(T_X):
            z = inputs[:, t] @ alone.weight_ih.T + alone.bias_ih + h @ alone.weight_hh.T
            i, f, g, o = (z + alone.bias_hh).chunk(4, dim=1)
            h, c = alone(inputs[:, t], (h, c))
            close(got.gates["update"][:, :, t], i.sigmoid().T)
            close(got.gates["forget"][:, :, t], f.sigmoid().T)
            close(got.gates["candidate"][:, :, t], g.tanh().T)
            close(got.gates["output"][:, :, t], o.sigmoid().T)
            close(got.c[:, :, t], c.T)
            close(got.a[:, :, t], h.T)


def test_gru_gates_equal_those_of_torchs_cell() -> None:
    """Gates in torch's documented order r, z, n; states by nn.GRUCell."""
    layer, output = build("gru")
    inputs, (hidden,) = draw_inputs("gru")
    got = run_forward("gru", layer, output)
    alone = nn.GRUCell(N_X, N_A).double()
    alone.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    h = hidden[0]
    assert list(got.gates) == ["update", "reset", "candidate"]
    with torch.no_grad():
        for t in range(T_X):
            from_input = (inputs[:, t] @ alone.weight_ih.T + alone.bias_ih).chunk(3, dim=1)
            from_state = (h @ alone.weight_hh.T + alone.bias_hh).chunk(3, dim=1)
            r = (from_input[0] + from_state[0]).sigmoid()
            close(got.gates["reset"][:, :, t], r.T)
            close(got.gates["update"][:, :, t], (from_input[1] + from_state[1]).sigmoid().T)
            close(got.gates["candidate"][:, :, t], (from_input[2] + r * from_state[2]).tanh().T)
            h = alone(inputs[:, t], h)
            close(got.a[:, :, t], h.T)


def test_gru_with_the_reset_gate_before_the_product_follows_its_equations() -> None:
    """H~ = tanh(X W_xh + (R∘H) W_hh + b_h), Cho et al. 2014, as a loop over units and samples."""
    rng = np.random.default_rng(0)
    p = {f"W{gate}": rng.normal(size=(N_A, N_A + N_X)) for gate in "zrc"}
    p |= {f"b{gate}": rng.normal(size=(N_A, 1)) for gate in "zrc"}
    p |= {"Wy": rng.normal(size=(N_Y, N_A)), "by": rng.normal(size=(N_Y, 1))}
    x, a = rng.normal(size=(N_X, M)), rng.normal(size=(N_A, M))
    got = gru_step(x, a, p)
    for s in range(M):
        both = [*a[:, s], *x[:, s]]
        z, r = (
            [1 / (1 + np.exp(-np.dot(p[f"W{g}"][u], both) - p[f"b{g}"][u, 0])) for u in range(N_A)]
            for g in "zr"
        )
        reset = [*(r[u] * a[u, s] for u in range(N_A)), *x[:, s]]
        for u in range(N_A):
            candidate = np.tanh(np.dot(p["Wc"][u], reset) + p["bc"][u, 0])
            close(got.gates["candidate"][u, s], candidate)
            close(got.a[u, s], z[u] * a[u, s] + (1 - z[u]) * candidate)
    assert not np.allclose(gru_step(x, a, p | {"bca": np.zeros((N_A, 1))}).a, got.a)


def test_the_dictionary_has_the_courses_names_and_shapes() -> None:
    """An LSTM's bc is a column, like all biases."""
    stacked, column = (N_A, N_A + N_X), (N_A, 1)
    above = {"Wy": (N_Y, N_A), "by": (N_Y, 1)}
    shapes = {name: {k: v.shape for k, v in columns(*build(name)).items()} for name in OPTIONS}
    assert shapes["rnn"] == shapes["relu"] == shapes["rnn_scratch"]
    assert shapes["lstm"] == shapes["lstm_scratch"]
    assert shapes["gru"] == shapes["gru_scratch"] | {"bca": column} == shapes["gru_scratch_after"]
    assert shapes["rnn"] == {
        "Wax": (N_A, N_X), "Waa": (N_A, N_A), "ba": column, "Wya": (N_Y, N_A), "by": (N_Y, 1)
    }  # fmt: skip
    gates = [{f"W{gate}": stacked, f"b{gate}": column} for gate in "fico"]
    assert shapes["lstm"] == above | gates[0] | gates[1] | gates[2] | gates[3]
    gates = [{f"W{gate}": stacked, f"b{gate}": column} for gate in "zrc"]
    assert shapes["gru"] == above | gates[0] | gates[1] | gates[2] | {"bca": column}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_layer_with_another_layers_dictionary_computes_the_same(name: str) -> None:
    """Two layers with equal dictionaries have equal outputs."""
    layer, output = build(name)
    parameters = columns(layer, output)
    other, above = build(name, seed=1)
    from_columns(parameters, other, above.weight, above.bias)
    again = columns(other, above)
    assert list(again) == list(parameters)
    for key, value in parameters.items():
        assert np.array_equal(again[key], value), key
    inputs, state = draw_inputs(name)
    with torch.no_grad():
        close(other(inputs, state)[0], layer(inputs, state)[0])
        close(above(inputs[..., :N_A]), output(inputs[..., :N_A]))


@pytest.mark.parametrize(
    ("name", "other"),
    [("rnn", "rnn_scratch"), ("gru", "gru_scratch_after"), ("lstm", "lstm_scratch")],
)
def test_the_dictionary_connects_torchs_and_the_written_out_layers(name: str, other: str) -> None:
    """Weights pass from torch's layer to the written-out one and back."""
    inputs, state = draw_inputs(name)
    for source, target in ((name, other), (other, name)):
        layer, output = build(source)
        written, _ = build(target, seed=1)
        from_columns(columns(layer, output), written, output.weight, output.bias)
        with torch.no_grad():
            close(written(inputs, state)[0], layer(inputs, state)[0])


@pytest.mark.parametrize("name", OPTIONS)
def test_the_dictionary_is_a_copy(name: str) -> None:
    changed, untouched = build(name), build(name)
    for value in columns(*changed).values():
        value.fill(1.0)
    for module, same in zip(changed, untouched, strict=True):
        for after, before in zip(module.parameters(), same.parameters(), strict=True):
            assert torch.equal(after, before)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        # some course texts give bc the shape (n_a, n_a + n_x); it must not be broadcast
        ("lstm", {"bc": np.zeros((N_A, N_A + N_X))}, "bc should be (4, 1), it is (4, 9)"),
        ("lstm", {"Wf": np.zeros((N_A, 1))}, "Wf should be (4, 9), it is (4, 1)"),
        ("rnn", {"Wy": np.zeros((N_Y, N_A))}, "Wy should be absent, it is (6, 4)"),
        ("gru", {"bca": None}, "bca should be (4, 1), it is absent"),
        ("gru_scratch", {"bca": np.zeros((N_A, 1))}, "bca should be absent, it is (4, 1)"),
    ],
)
def test_a_dictionary_that_does_not_fit_changes_nothing(
    name: str, change: dict[str, np.ndarray | None], message: str
) -> None:
    layer, output = build(name)
    before = columns(layer, output)
    changed = {k: v for k, v in (before | change).items() if v is not None}
    with pytest.raises(ValueError) as raised:
        from_columns(changed, layer, output.weight, output.bias)
    assert str(raised.value) == message
    for key, value in columns(layer, output).items():
        assert np.array_equal(before[key], value)


def test_every_cell_has_columns() -> None:
    assert {options.kind for options in OPTIONS.values()} == set(CELLS)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)],
)
def test_torchs_own_layers_have_columns(name: str, plain: type[nn.RNNBase]) -> None:
    """Layers as a notebook builds them, without a cell around them."""
    layer, output = build(name)
    own = plain(N_X, N_A, batch_first=True).double()
    from_columns(columns(layer, output), own, output.weight, output.bias)
    inputs, state = draw_inputs(name)
    with torch.no_grad():
        found, _ = own(inputs, state if name == "lstm" else state[0])
        close(found, layer(inputs, state)[0])
    x = inputs.permute(2, 0, 1).numpy()
    before = tuple(s[0].T.numpy() for s in state)
    close(forward(find_step(own), x, before, columns(own, output)).a, found.permute(2, 0, 1))


@pytest.mark.slow
def test_the_modules_former_names_are_found() -> None:
    program = (
        "from lyricgen.model.column_vectors import lstm_step as step\n"
        "from lyricgen.model import column_parameters\n"
        "import lyricgen.model.column_vectors as columns\n"
        "from lyricgen.models.cells.column_parameters import to_columns\n"
        "from lyricgen.models.cells import column_parameters as parameters, column_vectors\n"
        "assert step is columns.lstm_step is column_vectors.lstm_step\n"
        "assert to_columns is column_vectors.to_columns is column_parameters.to_columns\n"
        "assert to_columns is parameters.to_columns"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["lyricgen.model", "lyricgen.models.cells"])
@pytest.mark.parametrize("name", ["column_vectors", "column_parameters"])
def test_a_former_name_is_imported_like_any_other(folder: str, name: str) -> None:
    program = (
        f"import {folder}.{name}\n"
        f"from {folder}.{name} import *\n"
        "from lyricgen.models.cells import column_vectors\n"
        f"assert rnn_step is {folder}.{name}.rnn_step is column_vectors.rnn_step"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_former_names_load_no_module_twice_and_torch_on_demand() -> None:
    program = (
        "import sys, lyricgen\n"
        "assert 'torch' not in sys.modules\n"
        "import lyricgen.model.gru, lyricgen.models.cells.gru as gru\n"
        "assert lyricgen.model.gru is gru and gru.__name__ == 'lyricgen.models.cells.gru'"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_other_modules_are_refused() -> None:
    output = nn.Linear(N_A, N_Y)
    with pytest.raises(TypeError, match="Linear"):
        find_step(output)
    with pytest.raises(TypeError, match="Linear"):
        to_columns(output, output.weight, output.bias)


def test_a_forward_pass_equals_its_steps() -> None:
    """The pass keeps the type of its inputs, here float32."""
    parameters = {k: v.astype(np.float32) for k, v in columns(*build("lstm")).items()}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_X, M, T_X)).astype(np.float32)
    a, c = np.zeros((2, N_A, M), np.float32)
    whole = forward(lstm_step, x, (a, c), parameters)
    assert whole.c is not None
    for t in range(T_X):
        now = lstm_step(x[:, :, t], a, c, parameters)
        assert now.c is not None
        a, c = now.a, now.c
        assert a.dtype == now.y.dtype == whole.a.dtype == np.float32
        assert np.array_equal(whole.a[:, :, t], a)
        assert np.array_equal(whole.c[:, :, t], c)
        assert np.array_equal(whole.y[:, :, t], now.y)
        for name, gate in now.gates.items():
            assert np.array_equal(whole.gates[name][:, :, t], gate)


def test_rnn_steps_by_hand() -> None:
    """One unit: tanh(0.5·1 + 2·0.25 − 1) is 0; max(0, 0.5·2 + 2·1 − 1) is 2."""
    p = {"Wax": [[0.5]], "Waa": [[2]], "ba": [[-1]], "Wya": [[1], [0]], "by": [[1], [1]]}
    parameters = {k: np.array(v, dtype=np.float64) for k, v in p.items()}
    one = rnn_step(np.array([[1.0]]), np.array([[0.25]]), parameters)
    assert one.a.tolist() == [[0.0]]
    assert one.y.tolist() == [[0.5], [0.5]]
    two = rnn_step(np.array([[2.0]]), np.array([[1.0]]), parameters, relu)
    assert two.a.tolist() == [[2.0]]
    close(two.y, [[np.e**2 / (np.e**2 + 1)], [1 / (np.e**2 + 1)]])


def test_sigmoid_and_softmax_do_not_overflow() -> None:
    huge = np.array([[-1e4, 0.0, 1e4], [1e4, 0.0, 1e4]], dtype=np.float32)
    assert sigmoid(huge).tolist() == [[0, 0.5, 1], [1, 0.5, 1]]
    assert softmax(huge).tolist() == [[0, 0.5, 0.5], [1, 0.5, 0.5]]
