"""Log-probabilities of continuations, against a loop over single characters."""

import math

import pytest
import torch

from lyricgen.generation import texts
from lyricgen.generation.texts import log_probabilities
from lyricgen.models.model import NextModel
from lyricgen.models.network import LanguageModel
from tests.helpers.ngram_models import V as FEW
from tests.helpers.ngram_models import fit_model
from tests.helpers.stepping import PREFIXES, V, network

ROWS = [[(row * k) % V for k in range(1, 1 + row % 7)] for row in range(len(PREFIXES))]


@torch.no_grad()
def score_one_by_one(model: NextModel, prefix: list[int], row: list[int]) -> float:
    total: list[float] = []
    state = None
    for symbol in prefix:
        logits, state = model(torch.tensor([[symbol]]), state)
    for symbol in row:
        weights = [math.exp(one) for one in logits[0, 0].tolist()]
        total.append(math.log(weights[symbol] / math.fsum(weights)))
        logits, state = model(torch.tensor([[symbol]]), state)
    return math.fsum(total)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "lstm_scratch"])
@pytest.mark.parametrize("kind", ["embedding", "one_hot"])
@pytest.mark.parametrize("largest", [1, V * 5, V * 100, 2**22])
def test_sums_equal_a_loop(
    cell: str, kind: str, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums do not depend on the number of logits computed at a time."""
    model = network(cell, torch.float64, input=kind, layers=2)
    each = zip(PREFIXES, ROWS, strict=True)
    expected = [score_one_by_one(model, prefix.tolist(), row) for prefix, row in each]
    shapes = []
    forward = LanguageModel.forward

    def note_shape(self: LanguageModel, *given: torch.Tensor) -> object:
        shapes.append(given[0].numel())
        return forward(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(LanguageModel, "forward", note_shape)
    monkeypatch.setattr(texts, "MOST_LOGITS", largest)
    found = log_probabilities(model, PREFIXES, ROWS)
    assert max(shapes) <= max(1, largest // V)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, abs=1e-10)
    assert (found[[row == [] for row in ROWS]] == 0).all()


def test_sums_of_an_ngram_model_equal_a_loop() -> None:
    model = fit_model(3, "kneser_ney", lines=True)
    prefixes, rows = [[FEW], [FEW, 1, 2], [FEW, 0]], [[2, 1, 1, 0], [], [FEW - 1, 1]]
    found = log_probabilities(model, [torch.tensor(prefix) for prefix in prefixes], rows)
    expected = [score_one_by_one(model, *each) for each in zip(prefixes, rows, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-10)


def test_single_precision_is_summed_in_double() -> None:
    """A long text of a network whose probabilities are known."""
    model = network()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.arange(V) / V)
    logits = (torch.arange(V) / V).double()
    p = float(logits.log_softmax(dim=0)[3])
    found = log_probabilities(model, [torch.tensor([V])], [[3] * 20_000])
    assert float(found) == pytest.approx(20_000 * p, rel=1e-7)


def test_nothing_to_score() -> None:
    model = network()
    assert log_probabilities(model, [], []).tolist() == []
    assert log_probabilities(model, PREFIXES[:2], [[], []]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="prefix"):
        log_probabilities(model, [torch.tensor([], dtype=torch.int64)], [[1]])


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_comes_back(training: bool) -> None:
    model = network(dropout=0.5).train(training)
    first = log_probabilities(model, PREFIXES, ROWS)
    assert torch.equal(first, log_probabilities(model, PREFIXES, ROWS))
    assert model.training == training
