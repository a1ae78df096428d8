"""Networks that learn what they read: equal to loops by hand, causal, and restored."""

import copy
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lyricgen.data.options import RecallOptions
from lyricgen.data.splits import Split
from lyricgen.evaluation import dynamic, learner
from lyricgen.evaluation.dynamic import RATES
from lyricgen.evaluation.learner import STEPS, Learner, Segments
from lyricgen.evaluation.scores import CheckpointWithText, open_checkpoints
from lyricgen.models.memory_model import MemoryModel, add_memory, without_memory
from lyricgen.models.network import LanguageModel
from lyricgen.models.scoring import position_nats
from lyricgen.settings import group_settings
from tests.conftest import TINY, Evaluate, Train, messages, refusal
from tests.helpers import checkpoints, hybrid_models
from tests.helpers.hybrid_models import random_ids

V = len(checkpoints.VOCABULARY)
MODELS: dict[str, Callable[..., Any]] = {
    "lstm": checkpoints.model_of,
    "gru_scratch": partial(checkpoints.model_of, "gru_scratch"),
    "hybrid": hybrid_models.model_of,
    "product": partial(hybrid_models.model_of, combination="product"),
    "short_list": partial(hybrid_models.model_of, short_list=4),
}


def split_of(layout: str, length: int, seed: int = 0) -> Split:
    ids = random_ids(V, lines=layout == "lines", length=length + seed)[seed:]
    if layout == "stream":
        return Split(ids, None)
    ids = ids[int((ids == V).nonzero()[0]) :]
    return Split(ids, (ids == V).nonzero()[:, 0])


def segments_by_hand(split: Split) -> list[tuple[int, int, bool]]:
    """First and last symbol that is read, and whether the state is zeroed."""
    last = len(split.ids) - 1
    if split.line_starts is None:
        return [(i, min(i + STEPS, last), i == 0) for i in range(0, last, STEPS)]
    ends = [*(split.line_starts[1:] - 1).tolist(), last]
    return [(s, e, True) for s, e in zip(split.line_starts.tolist(), ends, strict=True)]


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("name", MODELS)
def test_steps_of_size_0_score_as_fixed_weights(name: str, layout: str) -> None:
    model = MODELS[name](layout=layout)
    split = split_of(layout, 150)
    found = Learner(model.network, split_of(layout, 300, 1)).read(split, 0.0, "reading")
    expected = position_nats(model, split, "scoring")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("name", ["lstm", "hybrid"])
def test_no_character_changes_earlier_nats(name: str, layout: str) -> None:
    model = MODELS[name](layout=layout)
    split = split_of(layout, 150)
    reader = Learner(model.network, split_of(layout, 300, 1))
    found = reader.read(split, 0.01, "reading")
    place = 90 if split.line_starts is None else int(split.line_starts[20]) + 1
    ids = split.ids.clone()
    ids[place] = (ids[place] + 1) % V
    other = reader.read(Split(ids, split.line_starts), 0.01, "reading")
    assert torch.equal(found[:place].nan_to_num(), other[:place].nan_to_num())
    assert found[place] != other[place]
    fixed = position_nats(model, split, "scoring")
    learnt = ~found.isclose(fixed, rtol=1e-3) & ~fixed.isnan()
    first = STEPS if split.line_starts is None else int(split.line_starts[1])
    assert not learnt[: first + 1].any()
    assert learnt[first + 1 :].double().mean() > 0.5


@pytest.mark.parametrize("layout", ["stream", "lines"])
def test_without_scales_and_decay_as_sgd(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "DECAY", 0.0)
    model = checkpoints.model_of(layout=layout)
    split = split_of(layout, 150)
    reader = Learner(model.network, split_of(layout, 300, 1))
    reader.scales = {place: torch.ones_like(one) for place, one in reader.scales.items()}
    found = reader.read(split, 0.1, "reading")

    network = copy.deepcopy(model.network)
    assert isinstance(network, LanguageModel)
    optimizer, state = torch.optim.SGD(network.parameters(), lr=0.1), None
    expected = torch.full((len(split.ids),), torch.nan, dtype=torch.float64)
    for start, stop, first in segments_by_hand(split):
        inputs, targets = split.ids[None, start:stop], split.ids[start + 1 : stop + 1]
        logits, state = network(inputs, None if first else state)
        nats = F.cross_entropy(logits[0], targets, reduction="none")
        expected[start + 1 : stop + 1] = nats.detach().double()
        optimizer.zero_grad()
        nats.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        state = tuple(part.detach() for part in state)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def class_loss(network: Any, ids: Tensor, targets: Tensor, state: Any) -> Tensor:
    """Mean loss of a hybrid model's network, for classes of a short list if there is one."""
    found = network.read(ids[None], state)
    if network.short_list is not None:
        targets = network.short_list.classes[targets]
    return F.cross_entropy(found.logits[0], targets)


@pytest.mark.parametrize("name", ["hybrid", "product", "short_list"])
def test_the_rule_by_hand(name: str) -> None:
    """Of a hybrid model the network learns by its own loss; the whole is scored."""
    rate, train, split = 0.02, split_of("stream", 300, 1), split_of("stream", 3 * STEPS + 6)
    found = Learner(MODELS[name]().network, train).read(split, rate, "reading")

    network = MODELS[name]().network
    weights = list(network.network.parameters())
    segments = segments_by_hand(train)
    squares = [0.0] * len(weights)
    for start, stop, _ in segments:
        loss = class_loss(network, train.ids[start:stop], train.ids[start + 1 : stop + 1], None)
        gradients = torch.autograd.grad(loss, weights)
        squares = [a + g.double().numpy() ** 2 for a, g in zip(squares, gradients, strict=True)]
    roots = [np.sqrt(square / len(segments)) for square in squares]
    trained = [one.detach().double().numpy() for one in weights]
    state, nats = None, []
    for start, stop, _ in segments_by_hand(split):
        inputs, targets = split.ids[start:stop], split.ids[start + 1 : stop + 1]
        whole, after = network(inputs[None], state)
        nats += F.nll_loss(whole[0], targets, reduction="none").tolist()
        loss = class_loss(network, inputs, targets, state)
        gradients = torch.autograd.grad(loss, weights)
        for one, at_first, g, r in zip(weights, trained, gradients, roots, strict=True):
            now = one.detach().double().numpy()
            moved = now + 0.01 * (at_first - now) - rate * g.double().numpy() / (r + r.mean())
            one.data.copy_(torch.from_numpy(moved))
        state = tuple(part.detach() for part in after)
    assert len(nats) == 3 * STEPS + 5
    np.testing.assert_allclose(found[1:].numpy(), nats, rtol=2e-4)
    fixed = position_nats(MODELS[name](), split, "scoring")
    assert abs(found[1:] - fixed[1:]).max() > 0.05


def test_scales_come_from_segments_at_equal_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = Segments.of(split_of("stream", 10 * STEPS + 1))
    assert segments.spread(4).starts.tolist() == [0, 3 * STEPS, 6 * STEPS, 9 * STEPS]
    assert len(segments.spread(10)) == len(segments.spread(99)) == 10
    monkeypatch.setattr(learner, "SEGMENTS", 1)
    network = checkpoints.model_of().network
    train = split_of("stream", 200)
    one = Learner(network, train).scales
    same = Learner(network, Split(train.ids[: STEPS + 1], None)).scales
    assert all(torch.equal(one[place], same[place]) for place in one)


def test_long_lines_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = checkpoints.model_of(layout="lines"), split_of("lines", 150)
    monkeypatch.setattr(learner, "EVALUATION_STEPS", 3)
    assert int(split.line_lengths.max()) > 6
    found = Learner(model.network, split).read(split, 0.0, "reading")
    expected = position_nats(model, split, "scoring")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_restored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = MODELS[name](), split_of("stream", 100)
    before = copy.deepcopy(model.network.state_dict())
    reader = Learner(model.network, split)
    reader.read(split, 0.01, "reading")
    score, calls = model.network.score_parts, []

    def fail(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(model.network, "score_parts", fail)
    with pytest.raises(KeyboardInterrupt):
        reader.read(split, 0.01, "reading")
    after = model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(one.grad is None for one in model.network.parameters())


def test_a_network_that_diverges_has_infinite_nats() -> None:
    model, split = checkpoints.model_of(), split_of("stream", 200)
    reader = Learner(model.network, split)
    found = reader.read(split, 1e38, "reading")
    assert found[1 : STEPS + 1].isfinite().all()
    assert found[-1] == math.inf
    assert reader.read(split, 0.0, "reading")[1:].isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "options", "kinds"),
    [
        ([], [], ["dynamic"]),
        (["model=hybrid"], ["--memory"], ["memory", "dynamic", "dynamic_memory"]),
        (["data=dino"], ["--memory"], ["memory", "dynamic", "dynamic_memory"]),
        (["model=hybrid", "memory=cache"], [], ["memory", "dynamic", "dynamic_memory"]),
    ],
    ids=["network", "hybrid", "lines", "cache"],
)
def test_the_figures_have_rows_of_the_best_rate(
    trained: Train,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    options: list[str],
    kinds: list[str],
) -> None:
    monkeypatch.setattr(dynamic, "TUNED_ON", 90)
    path = trained(*TINY, *overrides).directory
    assert path is not None
    done = evaluate(path, "--dynamic", *options, "--json")
    assert (done.status, messages(done.err)) == (0, [])
    parts: dict[str, Any] = json.loads(done.out)["parts"]
    assert [row["kind"] for row in parts["test"]["with_memory"]] == kinds
    assert all("dynamic" not in row["kind"] for row in parts["train"]["with_memory"])
    plain = json.loads(evaluate(path, *options, "--json").out)["parts"]
    assert [part["models"] for part in parts.values()] == [
        part["models"] for part in plain.values()
    ]

    [checkpoint] = open_checkpoints([path])
    network, splits = without_memory(checkpoint.model.network), checkpoint.splits
    reader = Learner(network, splits["train"])
    tuned = [float(reader.read(splits["val"], rate, "", 90).nanmean()) for rate in RATES]
    rate = RATES[int(np.argmin(tuned))]
    nats = {name: reader.read(splits[name], rate, "") for name in ("val", "test")}
    for name, values in nats.items():
        row = next(one for one in parts[name]["with_memory"] if one["kind"] == "dynamic")
        assert row["loss"]["value"] == pytest.approx(float(values.nanmean()), rel=1e-6)
        assert f"a step of size {rate:g}, the best one on val (on at most 90" in row["note"]
        assert row["name"].endswith(", dynamic")
        assert row["loss"]["low"] < row["loss"]["high"]
    if "memory" in kinds:
        row = parts["test"]["with_memory"][2]
        assert row["loss"]["value"] == pytest.approx(loss_with_memory(checkpoint, reader), rel=1e-5)
        assert row["note"].endswith("; the memory is fitted on val")
        assert row["reach"] == parts["test"]["characters"] - 1
        assert row["block_length"] >= 1
        assert row["name"].startswith(parts["test"]["with_memory"][0]["name"])


def loss_with_memory(checkpoint: CheckpointWithText, reader: Learner) -> float:
    """Loss of test at the rate that is best with a memory; the memory is fitted on val."""
    settings = group_settings("memory", "cache")
    del settings["kind"]
    splits, network = checkpoint.splits, without_memory(checkpoint.model.network)

    def fit(nats: Tensor) -> MemoryModel:
        found = add_memory(network, RecallOptions(**settings), checkpoint.model.vocabulary)
        scored = ~nats.isnan()
        found.memory.fit(nats[scored], found.recollect(splits["val"]).counts[scored])
        return found

    losses = []
    for rate in RATES:
        nats = reader.read(splits["val"], rate, "", 90)
        model, scored = fit(nats), ~nats.isnan()
        counts = model.recollect(splits["val"]).counts[scored]
        losses.append(float(model.memory.nats(nats[scored], counts).detach().mean()))
    rate = RATES[int(np.argmin(losses))]
    model, nats = fit(reader.read(splits["val"], rate, "")), reader.read(splits["test"], rate, "")
    found = model.memory.nats(nats, model.recollect(splits["test"]).counts)
    return float(found.detach().nanmean())


def test_a_table_shows_the_figures(trained: Train, evaluate: Evaluate) -> None:
    done = evaluate(trained(*TINY).directory, "--dynamic", "--split", "val")
    before, _, table = done.out.partition(
        "val of lyrics, with memory (these models learn as they read)"
    )
    assert "dynamic" not in before
    [line, *_] = [line for line in table.splitlines() if ", dynamic" in line]
    assert line.split()[:3] == ["lstm", "1x16,", "dynamic"]
    assert "learns each segment of 20 characters after scoring it" in " ".join(table.split())


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        (["objective=fill"], [], "--dynamic asks what the characters before are worth"),
        (["model=ngram"], [], "--dynamic lets a network learn, and 5-gram"),
        ([], ["--split", "train"], "--dynamic needs a held-out split: choose val or test"),
        (["data.val_fraction=0"], [], "--dynamic chooses its step on the validation split"),
        ([], ["--text", "ab"], "--dynamic and --text do not go together"),
        ([], ["--memorisation"], "--dynamic and --memorisation do not go together"),
    ],
    ids=["fill", "ngram", "train", "no val", "text", "memorisation"],
)
def test_what_cannot_learn_is_refused(
    trained: Train, evaluate: Evaluate, overrides: list[str], arguments: list[str], message: str
) -> None:
    done = trained(*TINY, *overrides)
    assert done.directory is not None, done.err
    assert message in refusal(evaluate(done.directory, "--dynamic", *arguments))


def test_an_ensemble_is_refused(trained: Train, evaluate: Evaluate) -> None:
    paths = [trained(*TINY, *more).directory for more in ([], ["seed=2"])]
    done = evaluate(*paths, "--together", "--dynamic", "--split", "val")
    assert done.status == 2
    assert "--dynamic lets a network learn, and ensemble of 2 (geometric) is none" in done.err


def test_a_network_that_diverges_is_refused(
    trained: Train, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic, "RATES", (1e38,))
    line = refusal(evaluate(trained(*TINY).directory, "--dynamic"))
    assert "lstm 1x16 diverges while it learns val: leave it out" in line
