"""N-gram distributions in torch, beside those of NumPy."""

import numpy as np
import pytest
import torch

from lyricgen.models.ngram import distributions
from lyricgen.models.ngram.distributions import Distributions, join, whole_levels
from lyricgen.models.ngram.left_out import leave_out
from lyricgen.models.ngram.model import NgramCounts, NgramModel, Numbers, smooth_counts

V, ORDER = 7, 5
CPU = torch.device("cpu")


def model_and_text(lines: bool) -> tuple[NgramModel, Numbers, Numbers]:
    draw = np.random.default_rng(5)
    ids = draw.integers(0, V, 900) * draw.integers(0, 2, 900)
    other = draw.integers(0, V, 300)
    if lines:
        ids[::8] = other[::11] = V
    return smooth_counts(NgramCounts(ids, V, ORDER), ORDER, "kneser_ney"), ids, other


@pytest.mark.parametrize("dense_bytes", [0, 2**9, 2**11, 2**26])
@pytest.mark.parametrize("lines", [False, True])
def test_every_order_equals_numpy(
    monkeypatch: pytest.MonkeyPatch, lines: bool, dense_bytes: int
) -> None:
    monkeypatch.setattr(distributions, "DENSE_BYTES", dense_bytes)
    model, _, other = model_and_text(lines)
    contexts = model.contexts(other)  # some contexts are unseen
    assert min(int(numbers.min()) for numbers in contexts) == -1
    made = Distributions(whole_levels(model), V, CPU, torch.float64)
    rows = torch.from_numpy(np.stack(contexts))
    passed = made.passed_shares(rows)
    for k, logs in enumerate(made.logs(rows, passed)):
        lower = NgramModel(model.grams, model.terms[: k + 1], "kneser_ney")
        expected = lower.distributions(contexts[: k + 1])
        torch.testing.assert_close(logs.exp(), torch.from_numpy(expected), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dense_bytes", [0, 2**10, 2**26])
def test_a_mixture_is_the_sum_of_the_orders(
    monkeypatch: pytest.MonkeyPatch, dense_bytes: int
) -> None:
    monkeypatch.setattr(distributions, "DENSE_BYTES", dense_bytes)
    model, ids, other = model_and_text(lines=False)
    blocks = np.arange(len(ids)) // 300
    left_out = list(leave_out(NgramCounts(ids, V, ORDER), ORDER, ids, blocks))
    own = Distributions([one.level for one in left_out], V, CPU, torch.float64)
    whole = Distributions(whole_levels(model), V, CPU, torch.float64)
    own_rows = np.stack([one.rows for one in left_out])
    for made, numbers in ((own, own_rows), (whole, np.stack(model.contexts(other)))):
        rows = torch.from_numpy(numbers)
        passed = made.passed_shares(rows)
        weights = torch.rand(ORDER, rows.shape[1], dtype=torch.float64)
        expected = sum(
            weight[:, None] * logs.exp()
            for weight, logs in zip(weights, made.logs(rows, passed), strict=True)
        )
        torch.testing.assert_close(made.mix(weights, rows, passed), expected)


def test_joined_levels_keep_the_rows_of_both() -> None:
    model, ids, other = model_and_text(lines=True)
    counts = NgramCounts(ids, V, ORDER)
    own = [one.level for one in leave_out(counts, ORDER, ids, np.arange(len(ids)) // 300)]
    whole = whole_levels(model)
    joined = Distributions(join(own, whole), V, CPU, torch.float64)
    alone = Distributions(whole, V, CPU, torch.float64)
    rows = torch.from_numpy(np.stack(model.contexts(other)))
    moved = torch.tensor([[len(level.passed)] for level in own])
    behind = torch.where(rows < 0, rows, rows + moved)
    passed = alone.passed_shares(rows)
    assert torch.equal(joined.passed_shares(behind), passed)
    found, expected = joined.logs(behind, passed), alone.logs(rows, passed)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)
