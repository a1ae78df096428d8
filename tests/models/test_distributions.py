"""N-gram distributions in torch, beside those of NumPy."""

import numpy as np
import pytest
import torch

from lyricgen.models.ngram import distributions
from lyricgen.models.ngram.distributions import Distributions
from lyricgen.models.ngram.model import NgramCounts, NgramModel, smooth_counts

V, ORDER = 7, 5


@pytest.mark.parametrize("dense_bytes", [0, 2**9, 2**11, 2**26])
@pytest.mark.parametrize("lines", [False, True])
def test_a_mixture_is_the_sum_of_the_orders(
    monkeypatch: pytest.MonkeyPatch, lines: bool, dense_bytes: int
) -> None:
    monkeypatch.setattr(distributions, "DENSE_BYTES", dense_bytes)
    draw = np.random.default_rng(5)
    ids = draw.integers(0, V, 900) * draw.integers(0, 2, 900)
    other = draw.integers(0, V, 300)
    if lines:
        ids[::8] = other[::11] = V
    model = smooth_counts(NgramCounts(ids, V, ORDER), ORDER, "kneser_ney")
    contexts = model.contexts(other)
    assert min(int(numbers.min()) for numbers in contexts) == -1  # unseen ones
    made = Distributions(model, torch.device("cpu"), torch.float64)
    rows, weights = torch.from_numpy(np.stack(contexts)), draw.random((ORDER, 300))
    expected = sum(
        weights[k, :, None]
        * NgramModel(model.grams, model.terms[: k + 1], "kneser_ney").distributions(
            contexts[: k + 1]
        )
        for k in range(ORDER)
    )
    passed = made.passed_shares(rows)
    mixed = made.mix(torch.from_numpy(weights), rows, passed)
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-12)
    for k, (_, terms) in enumerate(model.terms):
        np.testing.assert_array_equal(passed[k].numpy(), terms[contexts[k]])
