"""N-gram distributions in torch, beside those of NumPy."""

import numpy as np
import pytest
import torch

from lyricgen.models.ngram import distributions
from lyricgen.models.ngram.distributions import Distributions, multiply
from lyricgen.models.ngram.left_out import leave_out
from lyricgen.models.ngram.levels import Level, join, whole_levels
from lyricgen.models.ngram.model import Floats, NgramCounts, NgramModel, Numbers, smooth_counts
from tests.helpers.hybrid_models import probabilities_of

V, ORDER = 7, 5
CPU = torch.device("cpu")


def model_and_text(lines: bool) -> tuple[NgramModel, Numbers, Numbers]:
    draw = np.random.default_rng(5)
    ids = draw.integers(0, V, 900) * draw.integers(0, 2, 900)
    other = draw.integers(0, V, 300)
    if lines:
        ids[::8] = other[::11] = V
    return smooth_counts(NgramCounts(ids, V, ORDER), ORDER, "kneser_ney"), ids, other


def distributions_by_hand(levels: list[Level], rows: Numbers) -> list[Floats]:
    """Compute the distributions of each order, (M, V), from rows, (K, M)."""
    found = [np.full((rows.shape[1], V), 1 / V)]
    for level, numbers in zip(levels, rows, strict=True):
        each = found[-1] * np.where(numbers < 0, 1.0, level.passed[numbers])[:, None]
        for position, row in enumerate(numbers):
            some = slice(level.first[row], level.first[row + 1]) if row >= 0 else slice(0)
            each[position, level.symbols[some]] += level.direct[some]
        found.append(each)
    return found[1:]


@pytest.mark.parametrize("dense_bytes", [0, 2**9, 2**11, 2**26])
@pytest.mark.parametrize("lines", [False, True])
def test_every_order_equals_numpy(
    monkeypatch: pytest.MonkeyPatch, lines: bool, dense_bytes: int
) -> None:
    monkeypatch.setattr(distributions, "DENSE_BYTES", dense_bytes)
    model, _, other = model_and_text(lines)
    contexts = model.contexts(other)  # some contexts are unseen
    assert min(int(numbers.min()) for numbers in contexts) == -1
    made = Distributions(whole_levels(model), V, CPU, torch.float64, logarithms=True)
    rows = torch.from_numpy(np.stack(contexts))
    for k, probabilities in enumerate(probabilities_of(made.logs(rows))):
        lower = NgramModel(model.grams, model.terms[: k + 1], "kneser_ney")
        expected = lower.distributions(contexts[: k + 1])
        torch.testing.assert_close(probabilities, torch.from_numpy(expected), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dense_bytes", [0, 2**10, 2**26])
def test_a_mixture_is_the_sum_of_the_orders(
    monkeypatch: pytest.MonkeyPatch, dense_bytes: int
) -> None:
    monkeypatch.setattr(distributions, "DENSE_BYTES", dense_bytes)
    model, ids, other = model_and_text(lines=False)
    blocks = np.arange(len(ids)) // 300
    left_out = list(leave_out(NgramCounts(ids, V, ORDER), ORDER, ids, blocks))
    own, whole = [one.level for one in left_out], whole_levels(model)
    own_rows = np.stack([one.rows for one in left_out])
    for levels, numbers in ((own, own_rows), (whole, np.stack(model.contexts(other)))):
        made, rows = (
            Distributions(levels, V, CPU, torch.float64, logarithms=False),
            torch.from_numpy(numbers),
        )
        passed = made.passed_shares(rows)
        weights = torch.rand(ORDER, rows.shape[1], dtype=torch.float64)
        expected = sum(
            weight[:, None] * torch.from_numpy(one)
            for weight, one in zip(weights, distributions_by_hand(levels, numbers), strict=True)
        )
        torch.testing.assert_close(made.mix(weights, rows, passed), expected)


@pytest.mark.parametrize("dense_bytes", [0, 2**9, 2**26])
def test_a_product_and_its_gradient(monkeypatch: pytest.MonkeyPatch, dense_bytes: int) -> None:
    monkeypatch.setattr(distributions, "DENSE_BYTES", dense_bytes)
    model, _, other = model_and_text(lines=False)
    rows = torch.from_numpy(np.stack(model.contexts(other[:9])))
    made = Distributions(whole_levels(model), V, CPU, torch.float64, logarithms=True)
    logs = made.logs(rows)
    weights = torch.randn(9, ORDER + 1, dtype=torch.float64, requires_grad=True)
    network = torch.randn(9, V, dtype=torch.float64, requires_grad=True)
    members = [*distributions_by_hand(whole_levels(model), rows.numpy()), network.softmax(-1)]
    powers = [torch.as_tensor(each) ** weights[:, k, None] for k, each in enumerate(members)]
    expected = torch.stack(powers).prod(0)
    found = multiply(logs, network, weights)
    torch.testing.assert_close(found.log_softmax(-1), (expected / expected.sum(-1, True)).log())
    torch.autograd.gradcheck(lambda n, w: multiply(logs, n, w), (network, weights))


def test_joined_levels_keep_the_rows_of_both() -> None:
    model, ids, other = model_and_text(lines=True)
    counts = NgramCounts(ids, V, ORDER)
    own = [one.level for one in leave_out(counts, ORDER, ids, np.arange(len(ids)) // 300)]
    whole = whole_levels(model)
    joined = Distributions(join(own, whole), V, CPU, torch.float64, logarithms=True)
    alone = Distributions(whole, V, CPU, torch.float64, logarithms=True)
    rows = torch.from_numpy(np.stack(model.contexts(other)))
    moved = torch.tensor([[len(level.passed)] for level in own])
    behind = torch.where(rows < 0, rows, rows + moved)
    passed = alone.passed_shares(rows)
    assert torch.equal(joined.passed_shares(behind), passed)
    found, expected = joined.logs(behind), alone.logs(rows)
    for one, two in zip(probabilities_of(found), probabilities_of(expected), strict=True):
        torch.testing.assert_close(one, two)
