"""Each cell computes the same as torch's own layer and as the layer's equations."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import State
from lyricgen.models.network import RecurrentStack
from lyricgen.models.options import (
    CellOptions,
    DepthOptions,
    GruOptions,
    LstmOptions,
    RnnOptions,
)
from tests.helpers.cells import (
    B,
    E,
    Floats,
    H,
    T,
    assert_same,
    random_tensor,
    run_layer,
    sigmoid,
    stack,
)

# (input, hidden state, cell state, weights by torch's names) -> hidden state, cell state
Step = Callable[[Floats, Floats, Floats, dict[str, Floats]], tuple[Floats, Floats]]


RNN = RnnOptions(kind="rnn", nonlinearity="tanh", kernel="torch")
RELU = RnnOptions(kind="rnn", nonlinearity="relu", kernel="torch")
GRU = GruOptions(kind="gru", kernel="torch")
LSTM = LstmOptions(kind="lstm", forget_bias=1.0, kernel="torch")
NAMES = {"rnn": RNN, "relu": RELU, "gru": GRU, "lstm": LSTM}
FUSED = {name: options.model_copy(update={"kernel": "fused"}) for name, options in NAMES.items()}
ALL = pytest.mark.parametrize(
    "options",
    [*NAMES.values(), *FUSED.values()],
    ids=[*NAMES, *(f"fused {name}" for name in FUSED)],
)
LAYERS = pytest.mark.parametrize("layers", [1, 2, 3])
RESIDUAL = pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def rnn_step(
    x: Floats, h: Floats, c: Floats, w: dict[str, Floats], squash: Callable[[Floats], Floats]
) -> tuple[Floats, Floats]:
    return squash(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]), c


def tanh_step(x: Floats, h: Floats, c: Floats, w: dict[str, Floats]) -> tuple[Floats, Floats]:
    return rnn_step(x, h, c, w, np.tanh)


def relu_step(x: Floats, h: Floats, c: Floats, w: dict[str, Floats]) -> tuple[Floats, Floats]:
    return rnn_step(x, h, c, w, lambda z: np.maximum(z, 0))


def gru_step(x: Floats, h: Floats, c: Floats, w: dict[str, Floats]) -> tuple[Floats, Floats]:
    from_input = np.split(w["weight_ih"] @ x + w["bias_ih"], 3)
    from_state = np.split(w["weight_hh"] @ h + w["bias_hh"], 3)
    reset = sigmoid(from_input[0] + from_state[0])
    update = sigmoid(from_input[1] + from_state[1])
    candidate = np.tanh(from_input[2] + reset * from_state[2])  # after the matrix product
    return (1 - update) * candidate + update * h, c


def lstm_step(x: Floats, h: Floats, c: Floats, w: dict[str, Floats]) -> tuple[Floats, Floats]:
    total = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"]
    i, f, g, o = np.split(total, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


STEPS: list[tuple[CellOptions, Step]] = [
    (RNN, tanh_step),
    (RELU, relu_step),
    (GRU, gru_step),
    (LSTM, lstm_step),
]


def state_size(options: CellOptions) -> int:
    """Number of tensors in the state of a cell."""
    return 2 if options.kind == "lstm" else 1


def torch_layer(options: CellOptions, input_size: int, layers: int) -> nn.RNNBase:
    """Torch's own layer with new random weights."""
    if isinstance(options, RnnOptions):
        how = options.nonlinearity
        return nn.RNN(input_size, H, layers, nonlinearity=how, batch_first=True)
    kind = nn.GRU if options.kind == "gru" else nn.LSTM
    return kind(input_size, H, layers, batch_first=True)


def random_state(options: CellOptions, layers: int, generator: torch.Generator) -> State:
    return tuple(
        torch.randn(layers, B, H, generator=generator, dtype=torch.float64)
        for _ in range(state_size(options))
    )


def stack_weights(network: RecurrentStack) -> dict[str, Tensor]:
    """Weights of a stack by the names of torch's own stacked layer."""
    return {
        f"{name.removesuffix('_l0')}_l{layer}": weight
        for layer, block in enumerate(network.blocks)
        for name, weight in block.state_dict().items()
    }


@ALL
@pytest.mark.parametrize("carried", [False, True], ids=["zero", "carried"])
def test_a_cell_equals_torchs_layer(options: CellOptions, carried: bool) -> None:
    cell = CELLS[options.kind](options, E, H).double()
    layer = torch_layer(options, E, 1).double()
    layer.load_state_dict(cell.state_dict())
    state = random_state(options, 1, torch.Generator().manual_seed(1)) if carried else None
    inputs = random_tensor(B, T, E)
    output, after = cell(inputs, state)
    expected, expected_after = run_layer(layer, inputs, state)
    assert output.shape == (B, T, H)
    assert len(after) == state_size(options)
    assert_same(output, expected)
    for part, expected_part in zip(after, expected_after, strict=True):
        assert part.shape == (1, B, H)
        assert_same(part, expected_part)


@pytest.mark.parametrize(("options", "step"), STEPS, ids=["rnn", "relu", "gru", "lstm"])
@pytest.mark.parametrize("kernel", ["torch", "fused"])
@pytest.mark.parametrize("carried", [False, True], ids=["zero", "carried"])
def test_a_cell_follows_its_equations(
    options: CellOptions, step: Step, kernel: str, carried: bool
) -> None:
    torch.manual_seed(2)
    layers = 2
    network = stack(options.model_copy(update={"kernel": kernel}), layers)
    weights = {name: value.numpy() for name, value in stack_weights(network).items()}
    state = random_state(options, layers, torch.Generator().manual_seed(3)) if carried else None
    inputs = random_tensor(B, T, E)
    output, after = network(inputs, state)

    for b in range(B):
        sequence = list(inputs[b].numpy())
        for layer in range(layers):
            own = {name[:-3]: w for name, w in weights.items() if name.endswith(f"_l{layer}")}
            h, c = np.zeros(H), np.zeros(H)
            if state is not None:
                h, c = state[0][layer, b].numpy(), state[-1][layer, b].numpy()
            for t in range(T):
                h, c = step(sequence[t], h, c, own)
                sequence[t] = h
            assert_same(after[0][layer, b], h)
            if options.kind == "lstm":
                assert_same(after[1][layer, b], c)
        assert_same(output[b], np.stack(sequence))


@pytest.mark.parametrize("bias", [1.5, -2.0, 0.0])
@LAYERS
@RESIDUAL
def test_the_forget_bias_is_the_sum_of_both_biases(
    bias: float, layers: int, residual: bool
) -> None:
    network = stack(
        LstmOptions(kind="lstm", forget_bias=bias, kernel="torch"), layers, residual=residual
    )
    sums = [block.bias_ih_l0 + block.bias_hh_l0 for block in network.blocks]
    assert len(sums) == layers
    for total in sums:
        assert (total[H : 2 * H] == bias).all()  # torch's order is i, f, g, o
        others = torch.cat([total[:H], total[2 * H :]])
        assert (others != 0).all()
        assert len(set(others.tolist())) == 3 * H


def test_the_forget_bias_acts_on_the_memory() -> None:
    cell = CELLS["lstm"](LstmOptions(kind="lstm", forget_bias=1.5, kernel="torch"), E, H).double()
    with torch.no_grad():  # only the forget bias remains
        for name, parameter in cell.named_parameters():
            if name.startswith("weight"):
                parameter.zero_()
            else:
                parameter[:H] = parameter[2 * H :] = 0
    remembered = random_tensor(1, B, H)
    _, (hidden, memory) = cell(random_tensor(B, 1, E), (torch.zeros_like(remembered), remembered))
    assert_same(memory, sigmoid(np.array(1.5)) * remembered.numpy())
    assert_same(hidden, 0.5 * np.tanh(memory.detach().numpy()))


@pytest.mark.parametrize("bias", [None, 1.0])
@LAYERS
def test_other_initial_weights_of_an_lstm_are_torchs_own(bias: float | None, layers: int) -> None:
    options = LstmOptions(kind="lstm", forget_bias=bias, kernel="torch")
    torch.manual_seed(4)
    depth = DepthOptions(dropout=0.0, residual=False)
    weights = stack_weights(RecurrentStack(options, E, H, layers, depth))
    torch.manual_seed(4)
    layer = nn.LSTM(E, H, layers)
    forget = torch.zeros(4 * H, dtype=torch.bool)
    forget[H : 2 * H] = bias is not None
    expected = dict(layer.named_parameters())
    for name, parameter in weights.items():
        if name.startswith("bias"):
            assert torch.equal(parameter[~forget], expected[name][~forget])
        else:
            assert torch.equal(parameter, expected[name])
    assert len(expected) == 4 * layers


@pytest.mark.parametrize("options", [RNN, RELU, GRU], ids=["rnn", "relu", "gru"])
def test_initial_weights_of_other_cells_are_torchs_own(options: CellOptions) -> None:
    torch.manual_seed(4)
    depth = DepthOptions(dropout=0.0, residual=False)
    weights = stack_weights(RecurrentStack(options, E, H, 2, depth))
    torch.manual_seed(4)
    layer = torch_layer(options, E, 2)
    for name, parameter in layer.named_parameters():
        assert torch.equal(weights[name], parameter)


@ALL
@LAYERS
def test_a_plain_stack_equals_torchs_stacked_layer(options: CellOptions, layers: int) -> None:
    network = stack(options, layers)
    layer = torch_layer(options, E, layers).double()
    layer.load_state_dict(stack_weights(network))
    state = random_state(options, layers, torch.Generator().manual_seed(5))
    inputs = random_tensor(B, T, E)
    output, after = network(inputs, state)
    expected, expected_after = run_layer(layer, inputs, state)
    assert_same(output, expected)
    for part, expected_part in zip(after, expected_after, strict=True):
        assert_same(part, expected_part)


@ALL
@LAYERS
@pytest.mark.parametrize("carried", [False, True], ids=["zero", "carried"])
def test_with_residuals_each_layer_after_the_first_adds_its_input(
    options: CellOptions, layers: int, carried: bool
) -> None:
    network = stack(options, layers, residual=True)
    state = random_state(options, layers, torch.Generator().manual_seed(6)) if carried else None
    inputs = random_tensor(B, T, E)
    output, after = network(inputs, state)

    below = inputs
    for number, block in enumerate(network.blocks):
        layer = torch_layer(options, E if number == 0 else H, 1).double()
        layer.load_state_dict(block.state_dict())
        before = None if state is None else tuple(part[[number]] for part in state)
        above, expected_after = run_layer(layer, below, before)
        below = above if number == 0 else above + below
        for part, expected_part in zip(after, expected_after, strict=True):
            assert_same(part[[number]], expected_part)
    assert len(network.blocks) == layers
    assert after[0].shape == (layers, B, H)
    assert_same(output, below)


@ALL
@LAYERS
@RESIDUAL
@pytest.mark.parametrize("first", [1, 3])
def test_a_sequence_in_two_pieces_equals_the_whole(
    options: CellOptions, layers: int, residual: bool, first: int
) -> None:
    network = stack(options, layers, residual=residual)
    inputs = random_tensor(B, T, E)
    whole, end = network(inputs, None)
    left, between = network(inputs[:, :first], None)
    right, after = network(inputs[:, first:], between)
    assert_same(torch.cat([left, right], dim=1), whole)
    for part, expected_part in zip(after, end, strict=True):
        assert_same(part, expected_part)


@ALL
@RESIDUAL
def test_sequences_of_a_batch_do_not_mix(options: CellOptions, residual: bool) -> None:
    network = stack(options, 2, residual=residual)
    inputs = random_tensor(B, T, E)
    output, _ = network(inputs, None)
    for b in range(B):
        assert_same(network(inputs[[b]], None)[0][0], output[b])


@ALL
@RESIDUAL
def test_dropout_is_for_training_only(options: CellOptions, residual: bool) -> None:
    torch.manual_seed(7)
    network = stack(options, 2, residual=residual, dropout=0.5)
    without = stack(options, 2, residual=residual)
    without.load_state_dict(network.state_dict())
    inputs = random_tensor(B, T, E)
    assert not torch.equal(network(inputs, None)[0], network(inputs, None)[0])
    assert_same(network.eval()(inputs, None)[0], without(inputs, None)[0])


@pytest.mark.parametrize("options", [RNN, GRU, LSTM], ids=["rnn", "gru", "lstm"])
@RESIDUAL
def test_dropout_between_layers_leaves_a_single_layer_unchanged(
    options: CellOptions, residual: bool
) -> None:
    network = stack(options, 1, residual=residual, dropout=0.9)
    without = stack(options, 1, residual=residual)
    without.load_state_dict(network.state_dict())
    inputs = random_tensor(B, T, E)
    assert_same(network(inputs, None)[0], without(inputs, None)[0])


@pytest.mark.parametrize("options", [RNN, GRU, LSTM], ids=["rnn", "gru", "lstm"])
def test_dropout_acts_between_layers_but_not_on_the_residual(options: CellOptions) -> None:
    network = stack(options, 2, residual=True, dropout=0.5)
    inputs = random_tensor(B, T, E)
    torch.manual_seed(8)
    output, _ = network(inputs, None)
    torch.manual_seed(8)
    lower, _ = network.blocks[0](inputs, None)
    upper, _ = network.blocks[1](F.dropout(lower, 0.5), None)
    assert_same(output, upper + lower)


def test_dropout_of_a_plain_stack_leaves_its_output() -> None:
    network = stack(LSTM, 3, dropout=0.9)
    output, after = network(random_tensor(B, T, E), None)
    assert (output != 0).all()
    assert_same(output[:, -1], after[0][-1])
    below = stack(LSTM, 3)
    below.load_state_dict(network.state_dict())
    assert_same(
        after[0][0], below(random_tensor(B, T, E), None)[1][0][0]
    )  # nothing is dropped before layer 1
