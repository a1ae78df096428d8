"""The written-out recurrences equal torch's layers and the equations in NumPy."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.api.models import load
from lyricgen.errors import UserError
from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell, State
from lyricgen.models.network import LanguageModel, RecurrentStack
from lyricgen.models.options import (
    CellOptions,
    GruScratchOptions,
    LstmOptions,
    LstmScratchOptions,
    RnnScratchOptions,
)
from lyricgen.models.trained_model import CopiedWeights, copy_weights
from tests.conftest import TINY, Train
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
from tests.helpers.checkpoints import content_of, model_of, save_checkpoint
from tests.helpers.networks import START, V, architecture, characters
from tests.helpers.transfer import NEW, OLD, SHARED, clone_weights, network, source_model

RNN = RnnScratchOptions(kind="rnn_scratch", kernel="torch")
BEFORE = GruScratchOptions(kind="gru_scratch", kernel="torch", reset="before")
AFTER = GruScratchOptions(kind="gru_scratch", kernel="torch", reset="after")
LSTM = LstmScratchOptions(kind="lstm_scratch", kernel="torch", forget_bias=None)
COUPLED = LstmOptions(kind="lstm_coupled", forget_bias=None, kernel="fused")
NAMES = {"rnn": RNN, "before": BEFORE, "after": AFTER, "lstm": LSTM, "coupled": COUPLED}
NAMES["written-out coupled"] = COUPLED.model_copy(update={"kernel": "torch"})
ALL = pytest.mark.parametrize("options", NAMES.values(), ids=NAMES)
LIKE_TORCH = pytest.mark.parametrize("options", [RNN, AFTER, LSTM], ids=["rnn", "gru", "lstm"])
LAYERS = pytest.mark.parametrize("layers", [1, 2, 3])
CARRIED = pytest.mark.parametrize("carried", [False, True], ids=["zero", "carried"])

TORCH = {"rnn_scratch": nn.RNN, "gru_scratch": nn.GRU, "lstm_scratch": nn.LSTM}
# torch's index of each of our gates: update, reset, new; input, forget, output, cell
ORDER = {"rnn_scratch": [0], "gru_scratch": [1, 0, 2], "lstm_scratch": [0, 1, 3, 2]}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def cell_of(options: CellOptions, input_size: int = E, hidden_size: int = H) -> Cell:
    return CELLS[options.kind](options, input_size, hidden_size).double()


def state_of(options: CellOptions, layers: int) -> State:
    parts = 2 if "lstm" in options.kind else 1
    return tuple(random_tensor(layers, B, H, seed=10 + part) for part in range(parts))


def from_torch(kind: str, layer: int, found: dict[str, Tensor], both: bool) -> dict[str, Tensor]:
    """Torch's weights of a layer in our layout; two biases become their sum, or the first."""

    def gates(name: str) -> list[Tensor]:
        parts = found[f"{name}_l{layer}"].chunk(len(ORDER[kind]))
        return [parts[place] for place in ORDER[kind]]

    biases, seconds = gates("bias_ih"), gates("bias_hh")
    reset = {"reset_bias": seconds.pop()} if kind == "gru_scratch" else {}
    sums = [bias + second * both for bias, second in zip(biases, seconds, strict=False)]
    return {
        "input_weight": torch.cat(gates("weight_ih")).T,
        "hidden_weight": torch.cat(gates("weight_hh")).T,
        "bias": torch.cat([*sums, *biases[len(sums) :]]),
        **reset,
    }


def stack_from_torch(
    kind: str, layers: int, found: dict[str, Tensor], both: bool
) -> dict[str, Tensor]:
    return {
        f"blocks.{layer}.{name}": weight
        for layer in range(layers)
        for name, weight in from_torch(kind, layer, found, both).items()
    }


@LIKE_TORCH
@LAYERS
@CARRIED
def test_outputs_and_gradients_of_a_stack_equal_those_of_torchs_layers(
    options: CellOptions, layers: int, carried: bool
) -> None:
    layer = TORCH[options.kind](E, H, layers, batch_first=True).double()
    ours = stack(options, layers)
    ours.load_state_dict(stack_from_torch(options.kind, layers, layer.state_dict(), True))
    results = []
    for each in (layer, ours):
        inputs = random_tensor(B, T, E).requires_grad_()
        state = tuple(part.requires_grad_() for part in state_of(options, layers))
        given = state if carried else None
        if isinstance(each, RecurrentStack):
            output, after = each(inputs, given)
        else:
            output, after = run_layer(each, inputs, given)
        pulled = [output, *after]
        weighted = [part * random_tensor(*part.shape, seed=20 + k) for k, part in enumerate(pulled)]
        sum(part.sum() for part in weighted).backward()
        leaves = [inputs, *(state if carried else ())]
        results.append([*pulled, *(leaf.grad for leaf in leaves)])
    for here, there in zip(results[1], results[0], strict=True):
        assert_same(here, there)
    found = {name: weight.grad for name, weight in layer.named_parameters()}
    expected = stack_from_torch(options.kind, layers, found, False)
    assert set(expected) == {name for name, _ in ours.named_parameters()}
    for name, weight in ours.named_parameters():
        assert_same(weight.grad, expected[name])


def gru_before(x: Floats, h: Floats, w: dict[str, Floats]) -> Floats:
    w_xz, w_xr, w_xh = np.split(w["input_weight"], 3, axis=1)
    w_hz, w_hr, w_hh = np.split(w["hidden_weight"], 3, axis=1)
    b_z, b_r, b_h = np.split(w["bias"], 3)
    z = sigmoid(x @ w_xz + h @ w_hz + b_z)
    r = sigmoid(x @ w_xr + h @ w_hr + b_r)
    return z * h + (1 - z) * np.tanh(x @ w_xh + (r * h) @ w_hh + b_h)


@CARRIED
def test_reset_before_the_product_follows_its_equations(carried: bool) -> None:
    cell = cell_of(BEFORE)
    weights = {name: weight.numpy() for name, weight in cell.state_dict().items()}
    assert set(weights) == {"input_weight", "hidden_weight", "bias"}
    state = state_of(BEFORE, 1) if carried else None
    inputs = random_tensor(B, T, E)
    output, (after,) = cell(inputs, state)
    assert output.shape == (B, T, H)
    assert after.shape == (1, B, H)
    for b in range(B):
        h = np.zeros(H) if state is None else state[0][0, b].numpy()
        for t in range(T):
            h = gru_before(inputs[b, t].numpy(), h, weights)
            assert_same(output[b, t], h)
        assert_same(after[0, b], h)


@ALL
def test_gradients_equal_finite_differences(options: CellOptions) -> None:
    cell = cell_of(options, 2, 3)
    names = [name for name, _ in cell.named_parameters()]
    state = [part[:, :2, :3].clone().requires_grad_() for part in state_of(options, 1)]
    inputs = random_tensor(2, 3, 2).requires_grad_()

    def read_with(features: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        given, weights = others[: len(state)], others[len(state) :]
        called = torch.func.functional_call(
            cell, dict(zip(names, weights, strict=True)), (features, given)
        )
        return (called[0], *called[1])

    assert torch.autograd.gradcheck(read_with, (inputs, *state, *cell.parameters()))


@ALL
@CARRIED
def test_ids_are_read_as_one_hot_vectors(options: CellOptions, carried: bool) -> None:
    cell = cell_of(options, V)
    ids = characters(B, T)
    ids[0, 0] = ids[1, 2] = START
    ids[2] = V - 1  # the last character's row is not the start symbol's
    vectors = F.one_hot(ids, V + 1)[..., :V].double()
    assert vectors.sum() == (ids != START).sum()
    state = state_of(options, 1) if carried else None
    weights = list(cell.parameters())
    pull = random_tensor(B, T, H, seed=3)
    results = []
    for inputs in (ids, vectors):
        output, after = cell(inputs, state)
        gradients = torch.autograd.grad((output * pull).sum(), weights)
        results.append([output, *after, *gradients])
    for rows, dense in zip(*results, strict=True):
        assert_same(rows, dense)


@ALL
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
def test_a_network_reads_one_hot_vectors_without_making_them(
    options: CellOptions, residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = one_hot_network(options.model_dump(), layers=2, residual=residual)
    ids = characters(2, 6)
    ids[0, 0] = START
    hidden, after = model.recurrence(F.one_hot(ids, V + 1)[..., :V].double(), None)

    def refuse(*arguments: Any) -> Tensor:
        raise AssertionError("a one-hot tensor was made")

    monkeypatch.setattr(F, "one_hot", refuse)
    logits, state = model(ids)
    assert_same(logits, hidden @ model.output.weight.T + model.output.bias)
    for part, expected_part in zip(state, after, strict=True):
        assert_same(part, expected_part)
    with pytest.raises(AssertionError, match="was made"):  # torch's layers need one-hot vectors
        one_hot_network("gru")(ids)


def one_hot_network(cell: Any, **options: Any) -> LanguageModel:
    model = LanguageModel(architecture(cell, input="one_hot", **options)).double()
    model.initialise(seed=1)
    return model


@ALL
def test_an_embedding_is_read_as_features(options: CellOptions) -> None:
    model = LanguageModel(architecture(options.model_dump(), embedding_size=3)).double()
    assert model.embedding is not None
    ids = characters(2, 6)
    hidden, _ = model.recurrence(model.embedding.weight[ids], None)
    assert_same(model(ids)[0], hidden @ model.output.weight.T + model.output.bias)


@ALL
def test_initial_weights_are_uniform_as_in_torch(options: CellOptions) -> None:
    bound = 1 / math.sqrt(400)
    for name, weight in cell_of(options, 300, 400).named_parameters():
        values = weight.detach()
        assert values.abs().max() <= bound, name
        assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1), name
        assert abs(float(values.mean())) < 5 * bound / math.sqrt(3 * values.numel()), name


@pytest.mark.parametrize("init", ["torch", "normal_0.01"])
@pytest.mark.parametrize("bias", [1.5, 0.0])
def test_the_forget_bias_is_the_second_quarter(init: str, bias: float) -> None:
    cell = {"kind": "lstm_scratch", "forget_bias": bias}
    model = one_hot_network(cell, layers=2, init=init)
    for block in model.recurrence.blocks:
        size = block.hidden_size
        assert block.bias[size : 2 * size].tolist() == [bias] * size
        others = torch.cat([block.bias[:size], block.bias[2 * size :]])
        assert others.any() == (init == "torch")


def test_normal_initialisation_leaves_no_bias() -> None:
    for cell in (RNN, BEFORE, AFTER, LSTM):
        model = one_hot_network(cell.model_dump(), init="normal_0.01", layers=2, hidden_size=100)
        for name, parameter in model.named_parameters():
            if "bias" in name:
                assert not parameter.any(), name
            else:
                assert float(parameter.detach().std()) == pytest.approx(0.01, rel=0.2), name


@ALL
@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("given", ["one_hot", "embedding"])
def test_a_saved_model_writes_the_same_texts(
    tmp_path: Path, options: CellOptions, layout: str, given: str
) -> None:
    model = model_of(options.model_dump(), layout=layout, layers=2, input=given)
    loaded = load(save_checkpoint(tmp_path, content_of(model)))
    assert loaded.network.architecture.cell == options
    for temperature in (0.0, 1.0):
        arguments: Any = {"count": 2, "length": 20, "temperature": temperature, "seed": 5}
        texts = loaded.generate_many(["", "ab"], **arguments)
        assert texts == model.generate_many(["", "ab"], **arguments)


@ALL
@pytest.mark.parametrize("start", [False, True])
def test_rows_of_shared_characters_are_copied(options: CellOptions, start: bool) -> None:
    cell: Any = options.model_dump()
    source = source_model(OLD, cell, start=start, input="one_hot")
    model = network(NEW, cell, start=start, input="one_hot")
    there = clone_weights(source.network)
    assert copy_weights(source, model, NEW) == CopiedWeights(kept=3, new=2)
    after = model.state_dict()
    for name in ("recurrence.blocks.0.input_weight", "output.weight", "output.bias"):
        rows = after.pop(name)
        assert len(rows) == len(NEW)
        mean = there[name][: len(OLD)].mean(0)
        for row, character in zip(rows, NEW.characters, strict=True):
            brought = character in SHARED
            expected_part = there[name][OLD.characters.index(character)] if brought else mean
            torch.testing.assert_close(row, expected_part, msg=f"{name} {character}")
    assert "recurrence.blocks.1.input_weight" in after
    for name, weight in after.items():
        assert torch.equal(weight, there[name]), name


def test_transfer_to_another_place_of_the_reset_gate_is_refused() -> None:
    there: Any = {"kind": "gru_scratch", "reset": "after"}
    here: Any = {"kind": "gru_scratch", "reset": "before"}
    with pytest.raises(UserError, match=r"cell\.reset=after there and before here"):
        copy_weights(source_model(OLD, there), network(NEW, here), NEW)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        "cell=rnn_scratch",
        "cell=gru_scratch layers=2",
        "cell=gru_scratch cell.reset=after depth=deep",
        "cell=lstm_scratch",
        "cell=lstm_scratch cell.forget_bias=1 data=dino",
        "cell=gru_scratch trainer.precision=bf16-mixed",
        "cell=lstm_scratch trainer.precision=bf16-true",
    ],
)
def test_the_command_trains_scratch_cells(train: Train, choice: str) -> None:
    done = train(*TINY, "model.input=one_hot", *choice.split())
    assert done.status == 0, done.err
    assert done.directory is not None
    with (done.directory / "metrics.csv").open(encoding="utf-8") as stream:
        losses = [float(row["train/loss"]) for row in csv.DictReader(stream)]
    assert losses[1] < losses[0]
    model = load(done.directory)
    assert f"cell={model.network.architecture.cell.kind}" in choice
    assert model.generate("", length=5, seed=1)
