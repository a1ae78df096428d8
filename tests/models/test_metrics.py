"""Totals of nats and their figures, against sums and grids in NumPy."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.metrics import (
    best_mixture_weight,
    loss_figures,
    mixture_nats,
    perplexity,
)
from lyricgen.training.totals import NatsTotal

Floats = npt.NDArray[np.float64]


def batches(count: int, seed: int = 0) -> list[Floats]:
    """Nats of single characters, in batches of uneven size and difficulty."""
    generator = np.random.default_rng(seed)
    return [
        generator.gamma(2.0, generator.uniform(0.2, 3.0), size=generator.integers(1, 40))
        for _ in range(count)
    ]


def total_of(parts: list[Floats]) -> NatsTotal:
    total = NatsTotal(Vocabulary("ab"))
    for part in parts:
        total.add(torch.tensor(part.sum()), len(part), torch.zeros(1))
    return total


def test_perplexity_is_exp_of_all_nats_over_all_characters() -> None:
    parts = batches(30)
    every = np.concatenate(parts)
    figures = total_of(parts).figures("val")
    assert set(figures) == {"val/loss", "val/perplexity", "val/bits_per_char"}
    assert figures["val/loss"] == pytest.approx(every.mean(), rel=1e-12)
    assert figures["val/perplexity"] == pytest.approx(np.exp(every.mean()), rel=1e-12)
    # 2 to the power of the bits is the perplexity
    assert 2 ** figures["val/bits_per_char"] == pytest.approx(np.exp(every.mean()), rel=1e-12)

    means = np.array([part.mean() for part in parts])
    for wrong in (np.exp(means.mean()), np.exp(means).mean(), np.exp(every).mean()):
        assert abs(figures["val/perplexity"] - wrong) > 0.01 * figures["val/perplexity"]


def test_batch_sizes_do_not_change_the_totals() -> None:
    every = np.concatenate(batches(30))
    whole = total_of([every]).figures("test")
    for size in (1, 7, 100):
        cut = total_of([every[first : first + size] for first in range(0, len(every), size)])
        assert cut.characters == len(every)
        assert cut.figures("test") == pytest.approx(whole, rel=1e-12)


def test_figures_by_hand() -> None:
    # a coin and a die: (1·ln 2 + 3·ln 6) / 4
    total = NatsTotal(Vocabulary("ab"))
    total.add(torch.tensor(math.log(2)), 1, torch.zeros(1))
    total.add(torch.tensor(3 * math.log(6)), 3, torch.zeros(1))
    figures = total.figures("train")
    assert figures["train/perplexity"] == pytest.approx((2 * 6**3) ** 0.25, rel=1e-6)
    assert figures["train/bits_per_char"] == pytest.approx(math.log2(2 * 6**3) / 4, rel=1e-6)


def test_totals_are_kept_in_float64() -> None:
    total = NatsTotal(Vocabulary("ab"))
    total.add(torch.tensor(2.0**24), 1, torch.zeros(1))  # float32 cannot count by ones from here
    for _ in range(1000):
        total.add(torch.tensor(1.0), 1, torch.zeros(1))
    assert total.figures("val")["val/loss"] == (2.0**24 + 1000) / 1001


def test_half_precision_batches_are_added_in_float64() -> None:
    total = NatsTotal(Vocabulary("ab"))
    for _ in range(100):
        total.add(
            torch.tensor(60_000.0, dtype=torch.float16), 1, torch.zeros(1)
        )  # the largest float16 is 65,504
    assert total.figures("val")["val/loss"] == 60_000  # 59,968 + 32


def test_totals_hold_no_graph() -> None:
    total = NatsTotal(Vocabulary("ab"))
    total.add(torch.tensor(1.0, requires_grad=True) * 2, 1, torch.zeros(1))
    assert total.nats is not None
    assert not total.nats.requires_grad


def test_a_new_epoch_begins_with_an_empty_total() -> None:
    total = total_of(batches(3))
    total.reset()
    assert total.figures("train") == {}
    total.add(torch.tensor(6.0), 3, torch.zeros(1))
    assert total.figures("train")["train/loss"] == 2.0


def test_no_characters_give_no_figures() -> None:
    assert NatsTotal(Vocabulary("ab")).figures("val") == {}


def test_overflow_is_infinite() -> None:
    assert perplexity(math.log(1e300)) == pytest.approx(1e300, rel=1e-9)
    assert perplexity(1e6) == math.inf
    assert perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))
    assert loss_figures("val", 1000.0) == {
        "val/loss": 1000.0,
        "val/perplexity": math.inf,
        "val/bits_per_char": pytest.approx(1000 * math.log2(math.e)),
    }
    assert perplexity(0.0) == 1.0


def probabilities(count: int, seed: int, edge: float) -> tuple[Floats, Floats]:
    """Probabilities of each character by two models; `edge` favours the first."""
    generator = np.random.default_rng(seed)
    left = generator.beta(edge, 4, count)
    return left, generator.beta(1, 4, count)


def nats_of(probability: Floats) -> torch.Tensor:
    return torch.from_numpy(-np.log(probability))


@pytest.mark.parametrize("edge", [0.3, 0.7, 1.0, 1.5, 4.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mixture_weight_is_the_best_of_a_fine_grid(edge: float, seed: int) -> None:
    network, ngram = probabilities(300, seed, edge)
    grid = np.linspace(0, 1, 20_001)
    losses = np.array([-np.log(w * network + (1 - w) * ngram).mean() for w in grid])
    weight = best_mixture_weight(nats_of(network), nats_of(ngram))
    assert weight == pytest.approx(grid[losses.argmin()], abs=1e-4)
    assert -np.log(weight * network + (1 - weight) * ngram).mean() <= losses.min() + 1e-12


def test_the_best_grid_weights_cover_the_interval() -> None:
    weights = [
        best_mixture_weight(*map(nats_of, probabilities(300, 0, edge)))
        for edge in (0.3, 0.7, 1.0, 1.5, 4.0)
    ]
    assert weights == sorted(weights)
    assert 0.01 < weights[1] < weights[3] < 0.99


def test_a_better_model_everywhere_gets_all_the_weight() -> None:
    good, bad = nats_of(np.array([0.5, 0.6, 0.7])), nats_of(np.array([0.1, 0.2, 0.3]))
    assert best_mixture_weight(good, bad) == pytest.approx(1, abs=1e-12)
    assert best_mixture_weight(bad, good) == pytest.approx(0, abs=1e-12)


def test_mixture_weight_by_hand() -> None:
    # p = (0.8, 0.2) and (0.4, 0.6): d/dw ln((0.4 + 0.4 w)(0.6 - 0.4 w)) = 0 at w = 1/4
    weight = best_mixture_weight(nats_of(np.array([0.8, 0.2])), nats_of(np.array([0.4, 0.6])))
    assert weight == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, 1e-9, 0.3, 0.5, 1.0])
def test_mixture_nats_equal_those_of_the_mixed_probabilities(weight: float) -> None:
    network, ngram = probabilities(50, 0, 1.0)
    mixed = mixture_nats(weight, nats_of(network), nats_of(ngram))
    assert mixed.dtype == torch.float64
    np.testing.assert_allclose(
        mixed.numpy(), -np.log(weight * network + (1 - weight) * ngram), rtol=1e-12
    )


def test_a_network_with_one_very_wrong_prediction_keeps_its_weight() -> None:
    # ln(0.5 + 0.5 w) three times and ln(0.5 - 0.5 w) once: best at w = 1/2
    network = torch.tensor([0.0, 0.0, 0.0, 900.0], dtype=torch.float64)
    weight = best_mixture_weight(network, nats_of(np.full(4, 0.5)))
    assert weight == pytest.approx(0.5, abs=1e-12)


def test_mixture_nats_of_probabilities_below_float64_are_finite() -> None:
    network = torch.tensor([2000.0, math.inf, 1.0], dtype=torch.float64)
    ngram = torch.tensor([2000.0, 1.0, math.inf], dtype=torch.float64)
    mixed = mixture_nats(0.25, network, ngram)
    expected = [2000.0, 1 - math.log(0.75), 1 - math.log(0.25)]
    assert mixed.tolist() == pytest.approx(expected, rel=1e-12)
