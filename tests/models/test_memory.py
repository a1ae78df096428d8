"""A model with a memory, against the formula worked by hand."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lyricgen.api.models import WritingModel
from lyricgen.data.batch import BatchLoader
from lyricgen.data.samplers import evaluation_sampler
from lyricgen.data.splits import Split
from lyricgen.errors import UserError
from lyricgen.models.memory_model import MemoryModel, add_memory
from lyricgen.models.scoring import read_split
from tests.helpers import checkpoints, hybrid_models
from tests.helpers.checkpoints import VOCABULARY
from tests.helpers.fill_models import model_of as fill_model_of
from tests.helpers.hybrid_models import random_ids
from tests.helpers.memory_models import RECALL, network_of

V = len(VOCABULARY)


def by_hand(model: MemoryModel, ids: list[int]) -> np.ndarray:
    """Distributions after each character, (N, V), by dictionaries in float64."""
    with torch.inference_mode():
        logits, _ = model.inner(torch.tensor([ids]))
    base = logits[0].double().softmax(-1).numpy()
    a, big = (one.detach().double().numpy() for one in (model.memory.bias, model.memory.on_counts))
    options = model.architecture.recall
    lean = np.tile(a, (len(ids), 1))
    if model.reads_hidden:
        with torch.inference_mode():
            hidden = model.hybrid.read(torch.tensor([ids]), None).hidden[0].double().numpy()
        lean = a + hidden @ model.memory.on_hidden.detach().double().numpy().T
    found = []
    for now in range(1, len(ids) + 1):
        newest = [ids[max(0, now - options.recent) : now]]
        for k in options.orders:
            places = [p for p in range(k, now) if ids[p - k : p] == ids[now - k : now]]
            newest.append([ids[p] for p in places[::-1][: options.occurrences]] if now >= k else [])
        n = np.array([len(one) for one in newest])
        u = np.array([len(set(one)) for one in newest])
        most = np.array([options.recent] + [options.occurrences] * len(options.orders))
        features = np.concatenate([n / np.maximum(n + u, 1), u / most])
        trust = np.exp(np.clip(lean[now - 1] + big @ features, -12, 12))
        p = base[now - 1]
        for k, one in enumerate(newest):
            if one:
                counts = Counter(one)
                own = np.array([counts[w] for w in range(V)])
                p = (own + trust[k] * u[k] * p) / (n[k] + trust[k] * u[k])
        found.append(p)
    return np.array(found)


MODELS = [
    network_of(hybrid_models.network_of()),
    network_of(hybrid_models.network_of(), reads_hidden=True),
    network_of(checkpoints.model_of("gru").next_model),
    network_of(hybrid_models.network_of().ngram),
]


@pytest.mark.parametrize("model", MODELS)
def test_predictions_are_those_of_the_formula(model: MemoryModel) -> None:
    ids = random_ids(4, lines=False, length=90)
    with torch.inference_mode():
        found, _ = model(ids[None])
        first, state = model(ids[None, :37])
        second, _ = model(ids[None, 37:], state)
    expected = by_hand(model, ids.tolist())
    np.testing.assert_allclose(found[0].exp().numpy(), expected, atol=2e-6)
    torch.testing.assert_close(torch.cat([first, second], dim=1), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_the_predictions(model: MemoryModel) -> None:
    ids = random_ids(4, lines=False, length=90)
    predicted = torch.from_numpy(by_hand(model, ids.tolist()))
    expected = -predicted[:-1].log().gather(1, ids[1:, None])[:, 0]
    split = Split(ids, None)
    loader = BatchLoader(
        *(ids, evaluation_sampler(split, V), torch.device("cpu")),
        recollection=model.recollect(split),
    )
    [batch] = loader
    with torch.inference_mode():
        found, _ = model.score(batch, None)
    torch.testing.assert_close(found[0].double(), expected, rtol=0, atol=1e-5)


def test_the_parts_of_a_prediction_have_weights_that_sum_to_one() -> None:
    model, ids = network_of(hybrid_models.network_of()), random_ids(4, lines=False, length=90)
    trained = WritingModel(model, VOCABULARY, "stream", False)

    def read(batch: Any, state: Any) -> Any:
        _, parts, state = model.predict_parts(batch, state)
        return parts, state

    [(_, parts)] = read_split(trained, Split(ids, None), "reading", read)
    assert list(parts)[-1] == "memory"
    torch.testing.assert_close(sum(parts.values()), torch.ones(1, 89), rtol=0, atol=1e-5)
    assert float(parts["memory"].max()) > 0.5


def test_a_fit_finds_the_least_nats() -> None:
    """Nats of a text that repeats itself fall; no small change of a parameter lowers them."""
    model = network_of(hybrid_models.network_of())
    ids = random_ids(V, lines=False, length=150).repeat(3)
    split = Split(ids, None)
    recollection = model.recollect(split)
    assert recollection is not None
    counts = recollection.counts[1:]
    with torch.inference_mode():
        logits, _ = model.inner(ids[None, :-1])
    nats = torch.nn.functional.cross_entropy(logits[0].double(), ids[1:], reduction="none").clone()
    model.memory.fit(nats, counts)

    def mean(bias: Tensor, on_counts: Tensor) -> float:
        penalty = 1e-5 * on_counts.square().sum()
        return float(model.memory.nats_with(nats, counts, bias, on_counts).mean() + penalty)

    fitted = [one.detach().double() for one in (model.memory.bias, model.memory.on_counts)]
    least = mean(*fitted)
    assert least < 0.7 * float(nats.mean())
    draw = torch.Generator().manual_seed(2)
    for _ in range(50):
        moved = [
            one + 0.05 * torch.randn(one.shape, generator=draw, dtype=torch.float64)
            for one in fitted
        ]
        assert mean(*moved) > least - 1e-5


def test_a_memory_begins_anew_in_each_block_that_the_n_grams_leave_out() -> None:
    network, ids = hybrid_models.network_of(), random_ids(3, lines=False, length=90)
    blocks = np.repeat([0, 1, 2], 30)
    network.training_tables = SimpleNamespace(  # type: ignore[assignment]
        ids=ids.numpy(), blocks=blocks, begin=7
    )
    model = network_of(network)
    found = model.recollect_training()
    assert found is not None
    assert found.begin == 7
    each = [model.recollect(Split(part, None)) for part in torch.split(ids, 30)]
    assert torch.equal(found.counts, torch.cat([one.counts for one in each if one is not None]))


def test_in_training_each_block_of_a_list_is_a_text_of_its_own() -> None:
    """A small memory is as full as in a held-out text, although blocks alternate."""
    ids = random_ids(len(VOCABULARY), lines=True, length=600)
    line = torch.cumsum(ids == len(VOCABULARY), 0).numpy()
    network = hybrid_models.network_of("lines")
    network.training_tables = SimpleNamespace(  # type: ignore[assignment]
        ids=ids.numpy(), blocks=line % 3, begin=0
    )
    model = network_of(network, RECALL.model_copy(update={"size": 40}))
    found = model.recollect_training()
    assert found is not None
    for block in range(3):
        chosen = torch.from_numpy(line % 3 == block)
        alone = model.recollect(Split(ids[chosen], None))
        assert torch.equal(found.counts[chosen], alone.counts)


def test_rows_of_a_batch_do_not_depend_on_each_other() -> None:
    recall = RECALL.model_copy(update={"scope": "document"})
    model = network_of(checkpoints.model_of("gru").next_model, recall)
    text = random_ids(3, lines=False, length=40)
    with torch.inference_mode():
        one, _ = model(text[None])
        both, _ = model(torch.stack([text, text]))
    torch.testing.assert_close(both, one.expand_as(both), rtol=0, atol=1e-5)


def test_a_tiny_probability_stays_finite_and_has_a_gradient() -> None:
    memory = network_of(hybrid_models.network_of()).memory
    nats = torch.tensor([110.0, 1.0], requires_grad=True)
    found = memory.nats(nats, torch.zeros(2, 3, 4))
    assert bool(found.isfinite().all())
    found.sum().backward()
    assert bool(nats.grad.isfinite().all())  # type: ignore[union-attr]


def test_no_more_than_its_size_is_recalled() -> None:
    model = network_of(hybrid_models.network_of(), RECALL.model_copy(update={"size": 2}))
    counts = model.recollect(Split(random_ids(4, lines=False, length=50), None)).counts
    assert int(counts[:, 1, 0].max()) == 2


def test_only_models_that_continue_texts_get_a_memory() -> None:
    with pytest.raises(UserError, match="fills gaps"):
        add_memory(fill_model_of("gru"), RECALL, VOCABULARY)
    with pytest.raises(UserError, match="memory already"):
        add_memory(network_of(hybrid_models.network_of()), RECALL, VOCABULARY)
