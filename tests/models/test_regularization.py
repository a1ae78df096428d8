"""Weight drop, locked and embedding dropout, and input noise: masks, frequencies and counts."""

from collections import Counter
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.models import regularization
from lyricgen.models.network import FillModel, LanguageModel
from lyricgen.models.options import RecurrentOptions
from lyricgen.models.regularization import (
    InputNoise,
    LockedDropout,
    build_noise,
    count_neighbours,
)
from tests.helpers.networks import CELLS, START, H, V, architecture, characters

LIBRARY = {"rnn": nn.RNN, "relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
ALL: dict[str, Any] = {
    "locked_dropout": True, "dropout": 0.4, "depth_dropout": 0.3, "embedding_dropout": 0.3,
    "weight_drop": 0.5, "noise": 0.3,
}  # fmt: skip


def network(*arguments: Any, **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(architecture(*arguments, **options)).double()


def features(seed: int = 1) -> Tensor:
    return torch.randn(3, 5, H, generator=torch.Generator().manual_seed(seed)).double()


def noise_of(kind: str, rate: float, ids: Tensor, size: int) -> InputNoise:
    options = architecture(noise=rate, noise_kind=kind).model
    assert isinstance(options, RecurrentOptions)
    return build_noise(options, ids, torch.bincount(ids, minlength=size)[:size])


# Weight drop


@pytest.mark.parametrize(
    ("name", "kernel"),
    [*((name, None) for name in CELLS), *((name, "fused") for name in LIBRARY)],
)
def test_weight_drop_equals_a_layer_with_a_masked_matrix(name: str, kernel: str | None) -> None:
    """Each layer and each call draws one mask; torch's own layers compute the expected values."""
    cell = CELLS[name] if kernel is None else CELLS[name] | {"kernel": kernel}
    stack = network(cell, layers=2, weight_drop=0.4).recurrence
    matrix = "weight_hh_l0" if name in LIBRARY else "hidden_weight"
    torch.manual_seed(7)
    found, after = stack(features(), None)
    torch.manual_seed(7)
    shape = stack.blocks[0].get_parameter(matrix).shape
    masks = [F.dropout(torch.ones(shape).double(), 0.4) > 0 for _ in range(2)]
    expected, state = features(), []
    for block, mask in zip(stack.blocks, masks, strict=True):
        assert mask.any() and not mask.all()
        weights = block.state_dict()
        weights[matrix] = weights[matrix] * mask / 0.6
        if name in LIBRARY:
            given = {"nonlinearity": "relu"} if name == "relu" else {}
            layer: nn.Module = LIBRARY[name](H, H, batch_first=True, **given).double()
            layer.load_state_dict(weights)
            expected, last = layer(expected)
        else:
            copy = deepcopy(block).eval()
            copy.load_state_dict(weights)
            expected, last = copy(expected, None)
        state.append(last[0] if isinstance(last, tuple) else last)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after[0], torch.cat(state), rtol=1e-12, atol=1e-12)
    assert not torch.equal(stack(features(), None)[0], found)  # the next call draws anew


@pytest.mark.parametrize("name", CELLS)
def test_dropped_weights_have_no_gradient_and_stay(name: str) -> None:
    stack = network(name, weight_drop=0.4).recurrence
    cell = stack.blocks[0]
    weight = list(cell.parameters())[1]
    before = {key: value.clone() for key, value in stack.state_dict().items()}
    torch.manual_seed(7)
    stack(features(), None)[0].square().sum().backward()
    torch.manual_seed(7)
    kept = F.dropout(torch.ones_like(weight), 0.4) > 0
    assert weight.grad is not None
    assert (weight.grad[~kept] == 0).all()
    assert (weight.grad[kept] != 0).any()
    assert all(torch.equal(value, before[key]) for key, value in stack.state_dict().items())
    copied = deepcopy(stack).eval()
    assert torch.equal(copied(features(), None)[0], stack.eval()(features(), None)[0])


def test_both_stacks_of_a_model_for_gaps_drop_weights() -> None:
    torch.manual_seed(0)
    model = FillModel(architecture(objective="fill", weight_drop=0.5)).double()
    known, lengths = characters(2, 8, below=V), torch.tensor([7, 7])
    for side in (model.recurrence.left, model.recurrence.right):
        other = model.recurrence.right if side is model.recurrence.left else model.recurrence.left
        other.weight_drop, side.weight_drop = 0.0, 0.5
        assert not torch.equal(*(model(known, lengths, 6)[0] for _ in range(2)))


# Locked and embedding dropout


def seen_by(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Collect the arguments and results of a module's calls."""
    calls: list[tuple[Tensor, Tensor]] = []
    module.register_forward_hook(lambda _, given, result: calls.append((given[0], result)))
    return calls


@pytest.mark.parametrize("locked", [False, True])
def test_a_locked_mask_stays_for_all_steps_of_a_row(locked: bool) -> None:
    model = network(layers=2, dropout=0.5, depth_dropout=0.5, locked_dropout=locked, hidden_size=40)
    around, between = seen_by(model.dropout), seen_by(model.recurrence.dropout)
    model(characters(3, 6))
    pairs = around + between
    assert len(pairs) == 3  # input, between the layers, output
    for given, result in pairs:
        mask = result != 0  # (B, T, 40)
        torch.testing.assert_close(result[mask], 2 * given[mask], rtol=1e-12, atol=0)
        assert bool((mask == mask[:, :1]).all()) == locked
        assert not torch.equal(mask[0], mask[1])


def test_the_share_of_a_locked_mask() -> None:
    torch.manual_seed(0)
    factors = LockedDropout(0.3)(torch.ones(200, 2, 500))[:, 0]
    assert float((factors == 0).float().mean()) == pytest.approx(0.3, abs=0.005)  # 100,000 draws
    assert set(factors.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.7)}


@pytest.mark.parametrize("tied", [False, True])
def test_embedding_dropout_drops_a_character_wherever_it_stands(tied: bool) -> None:
    size = 300
    model = network(
        vocabulary_size=size, embedding_dropout=0.25, tie_weights=tied, start_symbol=False
    )
    assert model.embedding is not None
    calls = seen_by(model.embedding)
    ids = torch.arange(size).repeat(2, 3)  # each character six times
    logits = [model(ids)[0] for _ in range(20)]
    assert not torch.equal(*logits[:2])
    rows = model.embedding.weight.detach()
    dropped = []
    for _, result in calls:
        whole = result.view(6, size, H)
        assert (whole == whole[:1]).all()
        gone = (whole[0] == 0).all(dim=1)
        torch.testing.assert_close(whole[0][~gone], rows[~gone] / 0.75, rtol=1e-12, atol=0)
        dropped.append(float(gone.double().mean()))
    assert np.mean(dropped) == pytest.approx(0.25, abs=0.03)  # 6,000 draws
    assert len(set(dropped)) > 1
    # the output layer keeps all rows
    hidden = features()
    assert torch.equal(
        model.logits(hidden), F.linear(hidden, model.output_weight, model.output.bias)
    )


# Input noise


def brute_force(text: list[int], size: int) -> tuple[list[int], list[int]]:
    pairs = {(x, y) for x, y in pairwise(text) if x < size and y < size}
    after, before = Counter(x for x, _ in pairs), Counter(y for _, y in pairs)
    return [after[x] for x in range(size)], [before[y] for y in range(size)]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_continuation_counts(
    monkeypatch: pytest.MonkeyPatch, piece: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(regularization, "PIECE", piece)
    for below in (5, 6):  # without and with starts of lines
        ids = characters(40, below=below, seed=3)
        after, before = count_neighbours(ids.to(dtype), 5)
        assert (after.tolist(), before.tolist()) == brute_force(ids.tolist(), 5)
    assert [side.tolist() for side in count_neighbours(ids[:1], 5)] == [[0] * 5] * 2


@pytest.mark.parametrize("kind", ["unigram", "kneser_ney"])
def test_frequencies_of_noise(kind: str) -> None:
    """P(output | input) of 600,000 draws is as the counts in NumPy say."""
    probabilities = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    text = np.random.default_rng(0).choice(5, 60, p=probabilities)
    counts = np.bincount(text, minlength=5)
    rates, weights = np.full(5, 0.6), counts
    if kind == "kneser_ney":
        after, before = brute_force(text.tolist(), 5)
        rates, weights = 0.6 * np.array(after) / counts, np.array(before)
    expected = np.diag(1 - rates) + np.outer(rates, weights / weights.sum())
    noise = noise_of(kind, 0.6, torch.from_numpy(text), 5)
    torch.manual_seed(0)
    draws = 100_000
    ids = torch.arange(6).repeat(draws, 1)  # 5 starts a line
    drawn = noise(ids)
    assert drawn.shape == ids.shape and drawn.dtype == torch.int64
    assert (drawn[:, 5] == 5).all()
    found = np.stack([np.bincount(drawn[:, x], minlength=6) / draws for x in range(5)])
    # five standard deviations of a frequency, which is at most 0.5 / √draws
    np.testing.assert_allclose(found[:, :5], expected, rtol=0, atol=2.5 / draws**0.5)
    assert (found[:, 5] == 0).all()  # the start of a line is never drawn


def test_noise_is_not_rounded_in_half_precision() -> None:
    ids = characters(900, below=V, seed=5)
    exact, half = (noise_of("kneser_ney", 0.5, ids, V) for _ in range(2))
    half.to(torch.bfloat16)
    drawn = []
    for noise in (exact, half):
        torch.manual_seed(0)
        drawn.append(noise(ids))
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], ids)


@pytest.mark.parametrize("cell", ["lstm", "lstm_scratch"])
@pytest.mark.parametrize("kind", ["embedding", "one_hot"])
def test_the_network_reads_noised_characters(cell: str, kind: str) -> None:
    model = network(cell, input=kind)
    model.noise = InputNoise(torch.ones(V), torch.tensor([0, 0, 1, 0, 0]))  # all become 2
    read = characters(2, 6)
    expected = torch.where(read == START, read, 2)
    found = model(read)[0]
    assert torch.equal(found, model.eval()(expected)[0])
    assert not torch.equal(found, model(read)[0])


# Evaluation


@pytest.mark.parametrize("name", ["gru", "lstm", "lstm_coupled"])
def test_evaluation_sees_no_regularization(name: str) -> None:
    plain, regular = network(name, layers=2), network(name, layers=2, **ALL)
    regular.noise = noise_of("unigram", 0.3, characters(90, below=V), V)
    assert plain.state_dict().keys() == regular.state_dict().keys()
    regular.load_state_dict(plain.state_dict())
    ids = characters(3, 9)
    assert not torch.equal(plain(ids)[0], regular(ids)[0])
    assert torch.equal(plain.eval()(ids)[0], regular.eval()(ids)[0])
    lengths, targets = torch.tensor([9, 4, 1]), characters(3, below=V)
    scores = [model.score_next(ids, lengths, targets) for model in (plain, regular)]
    assert torch.equal(*scores)
    assert len(regular.layer_steps()) == 2
