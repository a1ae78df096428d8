"""The network around the recurrence: inputs, outputs, tied weights and initial values."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.errors import UserError
from lyricgen.models.network import LanguageModel
from tests.helpers.networks import START, E, H, V, architecture, characters

LIBRARY = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
EACH_CELL = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
EACH_INPUT = pytest.mark.parametrize("kind", ["embedding", "one_hot"])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def network(*arguments: Any, **options: Any) -> LanguageModel:
    model = LanguageModel(architecture(*arguments, **options)).double()
    model.initialise(seed=1)
    return model


def same(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def torch_logits(model: LanguageModel, kind: str, features: Tensor) -> Tensor:
    """Logits of torch's own layers from features (B, T, input), with the model's weights."""
    layers = model.architecture.layers
    layer = LIBRARY[kind](features.shape[-1], H, layers, batch_first=True).double()
    stacked = {
        f"{name.removesuffix('_l0')}_l{number}": weight
        for number, block in enumerate(model.recurrence.blocks)
        for name, weight in block.state_dict().items()
    }
    layer.load_state_dict(stacked)
    hidden, _ = layer(features)
    return hidden @ model.output_weight.T + model.output.bias


@EACH_CELL
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("start", [False, True])
def test_one_hot_input_equals_a_dense_layer_on_one_hot_vectors(
    cell: str, layers: int, start: bool
) -> None:
    model = network(cell, layers=layers, start_symbol=start, input="one_hot")
    ids = characters(2, 6, below=V + start)
    if start:
        ids[0, 0] = ids[1, 3] = START
    vectors = np.zeros((2, 6, V))  # the start symbol stays the zero vector
    for b in range(2):
        for t in range(6):
            if ids[b, t] != START:
                vectors[b, t, ids[b, t]] = 1
    assert vectors.sum() == 12 - (ids == START).sum()
    logits, _ = model(ids)
    assert logits.shape == (2, 6, V)
    same(logits, torch_logits(model, cell, torch.from_numpy(vectors)))


@EACH_CELL
@pytest.mark.parametrize("tied", [False, True])
def test_embedded_input_equals_rows_of_the_embedding(cell: str, tied: bool) -> None:
    size = H if tied else E
    model = network(cell, layers=2, embedding_size=size, tie_weights=tied)
    assert model.embedding is not None
    ids = characters(2, 6)
    ids[0, 0] = START
    rows = np.stack([model.embedding.weight.detach().numpy()[i] for i in ids.flatten()])
    logits, _ = model(ids)
    same(logits, torch_logits(model, cell, torch.from_numpy(rows).reshape(2, 6, size)))


@pytest.mark.parametrize("tied", [False, True])
def test_the_start_symbol_has_a_row_of_its_own_and_is_never_predicted(tied: bool) -> None:
    model = network(tie_weights=tied)
    assert model.embedding is not None
    assert model.embedding.weight.shape == (V + 1, H)
    assert model.output_weight.shape == (V, H)
    ordinary, started = torch.tensor([[0, 1, 2, 3, 4]]), torch.tensor([[START, 0, 1]])
    before = [model(ids)[0].clone() for ids in (ordinary, started)]
    with torch.no_grad():
        model.embedding.weight[START] += 1
    after = [model(ids)[0] for ids in (ordinary, started)]
    assert before[0].shape == (1, 5, V)
    assert torch.equal(before[0], after[0])
    assert not torch.isclose(before[1], after[1]).any()


@EACH_INPUT
def test_without_a_start_symbol_there_is_no_row_for_it(kind: str) -> None:
    model = network(start_symbol=False, input=kind)
    if model.embedding is None:
        assert model.recurrence.blocks[0].weight_ih_l0.shape == (4 * H, V)
    else:
        assert model.embedding.weight.shape == (V, H)


@pytest.mark.parametrize("start", [False, True])
def test_tied_weights_share_their_storage(start: bool) -> None:
    model = network(tie_weights=True, start_symbol=start)
    assert model.embedding is not None
    assert model.output_weight.data_ptr() == model.embedding.weight.data_ptr()
    assert "output.weight" not in model.state_dict()
    untied = network(tie_weights=False, start_symbol=start)
    assert untied.embedding is not None
    assert untied.output_weight.data_ptr() != untied.embedding.weight.data_ptr()


def test_tied_weights_get_the_gradients_of_both_uses() -> None:
    tied = network(tie_weights=True)
    untied = network(tie_weights=False)
    weights = tied.state_dict()
    untied.load_state_dict({**weights, "output.weight": weights["embedding.weight"][:V].clone()})
    inputs = torch.tensor([[START, 0, 1, 2], [START, 3, 4, 0]])
    targets = torch.tensor([[0, 1, 2, 0], [3, 4, 0, 1]])
    for model in (tied, untied):
        logits, _ = model(inputs)
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    assert tied.embedding is not None
    assert untied.embedding is not None
    expected = untied.embedding.weight.grad.clone()
    assert (expected != 0).any(dim=1).all()
    assert (untied.output.weight.grad != 0).any(dim=1).all()
    expected[:V] += untied.output.weight.grad
    same(tied.embedding.weight.grad, expected)


def test_a_tied_embedding_starts_at_the_scale_of_an_output_layer() -> None:
    model = network(vocabulary_size=400, hidden_size=64, tie_weights=True)
    bound = 1 / math.sqrt(64)  # torch.nn.Linear draws from U(-bound, bound)
    drawn = model.output_weight.detach()
    assert drawn.abs().max() <= bound
    assert float(drawn.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_one_hot_input_has_no_embedding_to_tie() -> None:
    model = network(input="one_hot", tie_weights=True)
    assert model.embedding is None
    assert model.output.weight.shape == (V, H)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # 12 input and 16 recurrent weights, 4 + 4 biases; 18 embedding; 20 + 5 output
        ({"cell": "rnn", "embedding_size": 3}, (12 + 16 + 8) + 18 + 25),
        # three times as many
        ({"cell": "gru", "embedding_size": 3}, 3 * (12 + 16 + 8) + 18 + 25),
        # four times as many
        ({"cell": "lstm", "embedding_size": 3}, 4 * (12 + 16 + 8) + 18 + 25),
        ({"cell": "lstm", "embedding_size": 3, "start_symbol": False}, 4 * 36 + 15 + 25),
        # the second layer reads 4 inputs
        ({"cell": "lstm", "embedding_size": 3, "layers": 2}, 4 * 36 + 4 * (16 + 16 + 8) + 18 + 25),
        (
            {"cell": "gru", "embedding_size": 3, "layers": 3, "residual": True},
            3 * 36 + 2 * 3 * 40 + 18 + 25,
        ),
        # tied: 6 rows of 4 once, and 5 output biases
        ({"cell": "rnn", "tie_weights": True}, (16 + 16 + 8) + 24 + 5),
        ({"cell": "rnn", "tie_weights": False}, (16 + 16 + 8) + 24 + 25),
        # one-hot: 5 input columns, no embedding
        ({"cell": "lstm", "input": "one_hot"}, 4 * (20 + 16 + 8) + 25),
        ({"cell": "lstm", "input": "one_hot", "start_symbol": False}, 4 * (20 + 16 + 8) + 25),
    ],
)
def test_number_of_parameters_by_hand(options: dict[str, Any], expected: int) -> None:
    assert sum(p.numel() for p in network(**options).parameters()) == expected


def test_tied_weights_need_an_embedding_of_the_hidden_size() -> None:
    with pytest.raises(UserError) as caught:
        network(embedding_size=3, tie_weights=True)
    message = str(caught.value)
    assert message.isprintable()
    for needed in ("model.tie_weights", "model.embedding_size=3", f"hidden_size={H}"):
        assert needed in message
    network(embedding_size=H, tie_weights=True)
    network(embedding_size=3, tie_weights=False)


@EACH_CELL
@EACH_INPUT
@pytest.mark.parametrize("tied", [False, True])
def test_normal_initialisation_has_its_standard_deviation(cell: str, kind: str, tied: bool) -> None:
    forgetful = {"kind": "lstm", "forget_bias": None} if cell == "lstm" else cell
    model = network(
        forgetful,
        vocabulary_size=150,
        hidden_size=100,
        layers=2,
        input=kind,
        tie_weights=tied,
        init="normal_0.01",
    )
    matrices = 0
    for name, parameter in model.named_parameters():
        if "bias" in name:
            assert not parameter.any(), name
            continue
        matrices += 1
        count, values = parameter.numel(), parameter.detach()
        assert abs(float(values.mean())) < 5 * 0.01 / math.sqrt(count), name
        assert abs(float(values.std()) - 0.01) < 5 * 0.01 / math.sqrt(2 * count), name
        inside = float((values.abs() < 0.01).double().mean())  # 68.3 % of a normal distribution
        assert abs(inside - 0.6827) < 5 * math.sqrt(0.6827 * 0.3173 / count), name
    assert matrices == 4 + (kind == "embedding") + (not tied or kind == "one_hot")


@pytest.mark.parametrize("residual", [False, True])
def test_normal_initialisation_keeps_the_forget_bias(residual: bool) -> None:
    cell = {"kind": "lstm", "forget_bias": 1.5}
    model = network(cell, layers=2, residual=residual, init="normal_0.01")
    biases = {n: p for n, p in model.named_parameters() if "bias_ih" in n}
    assert len(biases) == 2
    for name, bias in biases.items():
        total = bias + dict(model.named_parameters())[name.replace("bias_ih", "bias_hh")]
        assert total.tolist() == [0.0] * H + [1.5] * H + [0.0] * 2 * H


def test_the_output_bias_is_the_log_of_smoothed_frequencies() -> None:
    model = network(vocabulary_size=3)
    model.set_output_bias(torch.tensor([3, 0, 5]))  # 8 characters, and one more for each of 3 kinds
    expected = [math.log(4 / 11), math.log(1 / 11), math.log(6 / 11)]
    assert model.output.bias.tolist() == pytest.approx(expected, rel=1e-12)
    assert model.output.bias.requires_grad
    with torch.no_grad():
        model.output.weight.zero_()
    probabilities = model(torch.tensor([[0, 1]]))[0].softmax(-1)
    torch.testing.assert_close(
        probabilities, torch.tensor([4 / 11, 1 / 11, 6 / 11]).double().expand(1, 2, 3)
    )


@EACH_CELL
@EACH_INPUT
@pytest.mark.parametrize("residual", [False, True])
def test_the_state_continues_a_text(cell: str, kind: str, residual: bool) -> None:
    model = network(cell, layers=2, input=kind, residual=residual)
    ids = characters(3, 7)
    whole, end = model(ids)
    left, between = model(ids[:, :3])
    right, after = model(ids[:, 3:], between)
    same(torch.cat([left, right], dim=1), whole)
    assert len(end) == len(after) == (2 if cell == "lstm" else 1)
    for part, expected_part in zip(after, end, strict=True):
        assert part.shape == (2, 3, H)
        same(part, expected_part)


@EACH_CELL
@EACH_INPUT
def test_no_prediction_sees_later_characters(cell: str, kind: str) -> None:
    model = network(cell, layers=2, residual=True, input=kind)
    ids = characters(1, 6, below=V)
    before, _ = model(ids)
    ids[0, 3] = (ids[0, 3] + 1) % V
    after, _ = model(ids)
    same(after[:, :3], before[:, :3])
    assert not torch.isclose(after[:, 3:], before[:, 3:]).any()


def test_dropout_acts_on_the_embedded_input_and_the_output_of_the_last_layer() -> None:
    model = network("gru", dropout=0.5)
    assert model.embedding is not None
    ids = characters(2, 6)
    torch.manual_seed(1)
    logits, _ = model(ids)
    torch.manual_seed(1)
    hidden, _ = model.recurrence(F.dropout(model.embedding(ids), 0.5), None)
    same(logits, F.dropout(hidden, 0.5) @ model.output.weight.T + model.output.bias)


@EACH_INPUT
def test_dropout_is_for_training_only(kind: str) -> None:
    model = network(input=kind, dropout=0.5)
    plain = network(input=kind)
    plain.load_state_dict(model.state_dict())
    ids = characters(2, 6)
    assert not torch.equal(model(ids)[0], model(ids)[0])
    same(model.eval()(ids)[0], plain(ids)[0])


def test_one_hot_vectors_are_not_dropped() -> None:
    model = network("gru", input="one_hot", dropout=0.5)
    ids = characters(2, 6)
    vectors = F.one_hot(ids, V + 1)[..., :V].double()
    torch.manual_seed(1)
    logits, _ = model(ids)
    torch.manual_seed(1)
    hidden = F.dropout(model.recurrence(vectors, None)[0], 0.5)
    same(logits, hidden @ model.output.weight.T + model.output.bias)
