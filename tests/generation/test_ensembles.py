"""Several checkpoints as one model: fitted weights, commands and refusals."""

import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lyricgen
from lyricgen import evaluate, export, generate
from lyricgen.errors import UserError
from lyricgen.evaluation.scores import open_checkpoints, split_nats
from lyricgen.generation import ensembles
from lyricgen.generation.ensembles import fit_weights, join_models, minimise_on_simplex
from lyricgen.generation.training_text import find_splits
from lyricgen.models.architectures import EnsembleArchitecture
from lyricgen.models.model import eval_mode
from tests.conftest import CommandOutput, run_main
from tests.helpers import fill_models
from tests.helpers.checkpoints import VOCABULARY, content_of, model_of, save_checkpoint
from tests.helpers.ensembles import MORE, Floats, average, writing_model_of
from tests.helpers.generating import train_run

Command = Callable[..., CommandOutput]
TEXT = "abab cdcd efef\nabcd abcd ffee\n想要有直升机 abab\n" * 40


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on one text, in a directory with a space and Chinese in its name."""
    place = tmp_path_factory.mktemp("合 一")
    (place / "歌 词.txt").write_text(TEXT, "utf-8")
    text = ("data=text", f"data.path={place / '歌 词.txt'}", "optimizer.lr=0.03")
    settings = {
        "first": ["seed=1"],
        "second": ["seed=2", "hidden_size=8"],
        "ngram": ["model=ngram", "model.order=2"],
        "hybrid": ["model=hybrid", "seed=3"],
        "elsewhere": ["data.val_fraction=0.3"],
        "whole": ["data.val_fraction=0", "data.test_fraction=0"],
    }
    return {
        name: train_run(place / name, *text, "model=recurrent", *more).rename(place / f"跑 {name}")
        for name, more in settings.items()
    }


@pytest.fixture
def commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, Command]:
    monkeypatch.chdir(tmp_path)
    # the training of the fixture has left its own
    for name, value in (("handlers", []), ("propagate", False)):
        monkeypatch.setattr(logging.getLogger("lyricgen"), name, value)
    modules = {"generate": generate, "export": export, "evaluate": evaluate}
    return {name: partial(run_main, one.main, capsys) for name, one in modules.items()}


def distributions_of(runs: list[Path], split: str) -> tuple[Floats, Floats]:
    """Distributions of each run, (N, M, V), on a split read at once, and the targets, (M,)."""
    models = [lyricgen.load(run) for run in runs]
    ids = find_splits(models[0], "the test", "text")[split].ids.long()
    found = []
    for model in models:
        with torch.no_grad(), eval_mode(model.network):
            logits = model.next_model(ids[None, :-1])[0][0].double().numpy()
        exact = np.exp(logits - logits.max(-1, keepdims=True))
        found.append(exact / exact.sum(-1, keepdims=True))
    return np.stack(found), ids[1:].numpy()


def chosen_of(model: Any) -> EnsembleArchitecture:
    """Average and weights of an ensemble."""
    architecture: EnsembleArchitecture = model.network.architecture
    return architecture


def loss_of(parts: Floats, targets: Any, weights: Any, combination: str) -> float:
    mixed = average(list(parts), weights, combination)
    return float(-np.log(mixed[np.arange(len(targets)), targets]).mean())


@pytest.mark.parametrize("names", [("first", "second"), ("first", "ngram"), ("second", "ngram")])
def test_the_fit_is_the_best_of_a_grid(runs: dict[str, Path], names: tuple[str, str]) -> None:
    paths = [runs[name] for name in names]
    joined = chosen_of(join_models([lyricgen.load(path) for path in paths]))
    parts, targets = distributions_of(paths, "val")
    grid = [
        (loss_of(parts, targets, (w, 1 - w), combination), combination, w)
        for combination in ("arithmetic", "geometric")
        for w in np.linspace(0, 1, 201)
    ]
    loss, _, weight = min(grid)
    found = loss_of(parts, targets, joined.weights, joined.combination)
    assert loss - 1e-4 < found < loss + 1e-7
    other = min(each for each in grid if each[1] != joined.combination)
    assert found < other[0] + 1e-7
    if loss < other[0] - 1e-4:
        assert joined.weights[0] == pytest.approx(weight, abs=0.02)


def test_no_move_between_three_members_is_better(runs: dict[str, Path]) -> None:
    paths = [runs[name] for name in ("first", "second", "ngram")]
    joined = chosen_of(join_models([lyricgen.load(path) for path in paths]))
    parts, targets = distributions_of(paths, "val")
    best = loss_of(parts, targets, joined.weights, joined.combination)
    assert sum(joined.weights) == pytest.approx(1, abs=1e-12)
    assert min(joined.weights) >= 0
    for combination in ("arithmetic", "geometric"):
        for low, high in itertools.permutations(range(3), 2):
            for step in (1e-3, 1e-2, 0.1):
                tried = np.array(joined.weights)
                tried[low] += min(step, tried[high])
                tried[high] -= min(step, tried[high])
                assert loss_of(parts, targets, tried, combination) > best - 1e-6
    assert best < min(loss_of(parts, targets, row, "arithmetic") for row in np.eye(3))


def test_a_parabola_with_its_minimum_outside() -> None:
    """The minimum over the simplex of |w - (2, -1, 0)|² is (1, 0, 0), by its geometry."""
    centre = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)

    def terms(weights: Tensor) -> ensembles.Terms:
        apart = weights - centre
        return apart @ apart, 2 * apart, 2 * torch.eye(3).double()

    equal = torch.full_like(centre, 1 / 3)
    np.testing.assert_allclose(minimise_on_simplex(terms, equal), [1, 0, 0], atol=1e-9)
    centre = torch.tensor([0.7, 0.5, -0.5]).double()  # to the plane, then clipped: (0.6, 0.4, 0)
    np.testing.assert_allclose(minimise_on_simplex(terms, equal), [0.6, 0.4, 0], atol=1e-6)


@pytest.mark.parametrize("combination", ["arithmetic", "geometric"])
def test_equal_and_useless_members(combination: str) -> None:
    """The fit of a good member, two equal ones and two useless ones is that of a fine grid."""
    draw = np.random.default_rng(0)
    base = 2 * draw.normal(size=(600, 6))
    noise = draw.normal(size=(5, 600, 6)) * np.array([0.5, 1, 1, 8, 8])[:, None, None]
    noise[2] = noise[1]
    logs = torch.from_numpy(base + noise).log_softmax(-1)
    shares = np.exp(base) / np.exp(base).sum(-1, keepdims=True)
    targets = (draw.random((600, 1)) > shares.cumsum(-1)).sum(-1)
    seen, parts = logs[:, range(600), targets], logs.exp().numpy()

    def terms(weights: Tensor) -> ensembles.Terms:
        if combination == "arithmetic":
            return ensembles.arithmetic_terms(seen, weights)
        return ensembles.geometric_terms(logs, seen, weights)

    found = minimise_on_simplex(terms, torch.full((5,), 0.2, dtype=torch.float64)).numpy()
    loss = loss_of(parts, targets, found, combination)
    moves = [(low, high, step) for low, high in itertools.permutations(range(5), 2)
             for step in np.geomspace(1e-6, 1, 25)]  # fmt: skip
    for low, high, step in moves:
        tried = found.copy()
        tried[low] += min(step, tried[high])
        tried[high] -= min(step, tried[high])
        assert loss_of(parts, targets, tried, combination) > loss - 1e-6


@pytest.mark.parametrize("combination", ["arithmetic", "geometric"])
def test_the_terms_are_derivatives_of_the_loss(
    combination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensembles, "AT_ONCE", 3 * 4 * 2)  # two characters at a time
    draw = np.random.default_rng(0)
    logs = torch.from_numpy(draw.normal(size=(3, 5, 4))).log_softmax(-1)
    targets = draw.integers(0, 4, 5)
    seen, parts = logs[:, range(5), targets], logs.exp().numpy()

    def terms(weights: Floats) -> list[Floats]:
        given = torch.from_numpy(weights)
        if combination == "arithmetic":
            return [each.numpy() for each in ensembles.arithmetic_terms(seen, given)]
        return [each.numpy() for each in ensembles.geometric_terms(logs, seen, given)]

    weights, step = np.array([0.5, 0.2, 0.3]), 1e-5
    loss, slopes, curvatures = terms(weights)
    assert loss == pytest.approx(loss_of(parts, targets, weights, combination), rel=1e-12)
    for number, move in enumerate(step * np.eye(3)):
        more, less = terms(weights + move), terms(weights - move)
        assert slopes[number] == pytest.approx((more[0] - less[0]) / (2 * step), rel=1e-6)
        np.testing.assert_allclose(curvatures[number], (more[1] - less[1]) / (2 * step), rtol=1e-6)


def test_the_geometric_weights_are_fitted_on_spread_windows(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [lyricgen.load(runs[name]) for name in ("first", "second")]
    joined: Any = join_models(models)
    split = find_splits(models[0], "the test", "text")["val"]
    own, whole, targets = ensembles.read_members(joined, split)
    assert own.shape[1] == whole.shape[1] == len(split.ids) - 1
    most = 2 * len(joined.vocabulary) * 3 * ensembles.WINDOW
    monkeypatch.setattr(ensembles, "MOST_NUMBERS", most)
    again, some, chosen = ensembles.read_members(joined, split)
    assert torch.equal(again, own)
    assert whole.shape[1] / 3 > some.shape[1] > 2 * ensembles.WINDOW
    assert some.numel() <= most
    places = [16 * k + j for k in (0,) for j in range(ensembles.WINDOW - 1)]  # of the first window
    torch.testing.assert_close(some[:, : len(places)], whole[:, places])
    assert torch.equal(chosen[: len(places)], targets[places])
    assert fit_weights(joined, split)[0] in ("arithmetic", "geometric")


def test_together_is_the_ensemble_that_the_others_write_with(
    runs: dict[str, Path], commands: dict[str, Command]
) -> None:
    paths = [runs[name] for name in ("first", "ngram", "second")]
    model = lyricgen.load(paths)
    printed = commands["generate"](*paths, "--prefix", "ab", "--count", "3", "--length", "20")
    texts = model.generate_many(["ab"], count=3, length=20)
    assert printed.out == "\n\n".join(texts) + "\n"
    assert printed.err.startswith("ensemble of 3 models, ")
    assert printed.err.count("\n") == 1
    exported = commands["export"](*paths, "--out", "合 一.safetensors")
    assert exported.out.splitlines()[1:] == [export.COUNTS]
    read = lyricgen.load("合 一.safetensors")
    assert read.generate_many(["ab"], count=3, length=20) == texts
    assert read.network.architecture == model.network.architecture

    done = commands["evaluate"](*paths, "--together", "--json", "--resamples", "100")
    assert done.status == 0, done.err
    figures = json.loads(done.out)
    assert len(figures["checkpoints"]) == 3
    ensemble, weights = figures["ensemble"], model.network.architecture.weights
    assert list(ensemble["weights"].values()) == list(weights)
    for split in ("val", "test"):
        parts, targets = distributions_of(paths, split)
        loss = loss_of(parts, targets, weights, ensemble["combination"])
        [row] = [one for one in figures["parts"][split]["models"] if one["kind"] == "ensemble"]
        assert row["name"] == ensemble["name"] == model.network.description
        assert row["loss"]["value"] == pytest.approx(loss, rel=1e-6)
        assert row["difference"]["value"] < 0
    table = commands["evaluate"](*paths, "--together", "--split", "val", "--resamples", "100").out
    for weight in weights:
        assert f"{weight:.3f}" in table
    single = commands["evaluate"](*paths, "--split", "val", "--json", "--resamples", "100")
    assert json.loads(single.out)["ensemble"] is None


def test_an_arithmetic_ensemble_of_its_nats(runs: dict[str, Path]) -> None:
    """The score of the command's reading equals the average of the members' scores."""
    opened = open_checkpoints([runs["first"], runs["second"]])
    joined = join_models([each.model for each in opened], opened[0].splits)
    nats = [split_nats(each.model, each.splits["test"], "scoring") for each in opened]
    found = split_nats(joined, opened[0].splits["test"], "scoring")
    chosen = chosen_of(joined)
    if chosen.combination == "arithmetic":
        shares = [w * np.exp(-each) for w, each in zip(chosen.weights, nats, strict=True)]
        np.testing.assert_allclose(found, -np.log(sum(shares)), rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        ["--top-k", "3"],
        ["--temperature", "0"],
        ["--beams", "3"],
        ["--lines", "2", "--line-length", "4", "--only", "a-f"],
        ["--watch"],
        ["--no-repeat-ngram", "2", "--format", "jsonl"],
    ],
)
def test_every_strategy_writes(
    runs: dict[str, Path], commands: dict[str, Command], options: list[str]
) -> None:
    done = commands["generate"](runs["first"], runs["ngram"], *options)
    assert done.status == 0, done.err
    assert done.out.strip()


def log_of(caplog: pytest.LogCaptureFixture, models: list[Any]) -> tuple[Any, list[str]]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "lyricgen"):
        joined = join_models(models)
    return joined, [record.getMessage() for record in caplog.records]


def test_equal_weights_where_no_text_is_shared(
    runs: dict[str, Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    first = lyricgen.load(runs["first"])
    cases = {
        "different texts, or other parts or characters of one": lyricgen.load(runs["elsewhere"]),
        "does not say which text it has learnt": model_of(vocabulary=first.vocabulary),
    }
    for why, other in cases.items():
        joined, said = log_of(caplog, [first, other])
        assert said == [
            "ensemble of 2 models, arithmetic average, equal weights: "
            + next(line.partition("weights: ")[2] for line in said)
        ]
        assert why in said[0]
        assert (chosen_of(joined).combination, chosen_of(joined).weights) == (
            "arithmetic",
            (0.5, 0.5),
        )
        assert (joined.options, joined.corpus_digest) == ({}, None)
    whole = lyricgen.load(runs["whole"])
    twice = [whole, replace(whole, file=None)]
    assert "the text has no validation split" in log_of(caplog, twice)[1][0]
    text = Path(first.options["data"]["path"])
    hidden = text.rename(tmp_path / "hidden.txt")
    try:
        joined, said = log_of(caplog, [first, lyricgen.load(runs["second"])])
    finally:
        hidden.rename(text)
    assert "a fit of the weights needs the text that the model has learnt: " in said[-1]
    assert chosen_of(joined).weights == (0.5, 0.5)


def test_members_of_other_characters(caplog: pytest.LogCaptureFixture) -> None:
    """The ensemble knows the shared characters, and each member is restricted to them."""
    models = [model_of("gru", vocabulary=MORE), model_of("lstm", vocabulary=VOCABULARY)]
    joined, said = log_of(caplog, models)
    assert said[0] == "the ensemble knows 9 characters, those of all models (14, 9)"
    assert joined.vocabulary == VOCABULARY
    ids = torch.tensor([[0, 1, 2, 8]])
    places = [MORE.characters.index(one) for one in VOCABULARY.characters]
    with torch.no_grad():
        wide = models[0].next_model(torch.tensor(places)[ids])[0].double().numpy()[..., places]
        narrow = models[1].next_model(ids)[0].double().numpy()
        found = joined.network(ids)[0].double().exp().numpy()
    parts = [np.exp(each) / np.exp(each).sum(-1, keepdims=True) for each in (wide, narrow)]
    np.testing.assert_allclose(found, (parts[0] + parts[1]) / 2, rtol=1e-5, atol=1e-7)
    assert set(joined.generate("ab", length=50)) <= set(VOCABULARY.characters)


def test_models_that_do_not_go_together() -> None:
    stream, lines = model_of(), model_of(layout="lines")
    fill = lyricgen.api.models.WritingModel(
        fill_models.model_of("gru", vocabulary_size=9, start_symbol=False),
        *(VOCABULARY, "stream", False),
    )
    foreign = model_of(vocabulary=type(VOCABULARY).of("xyz分"))
    for other, phrase in (
        (lines, "writes single lines, the first model running text"),
        (fill, "fills gaps"),
        (writing_model_of(), "is an ensemble already"),
        (foreign, "have 1 characters in common"),
    ):
        with pytest.raises(UserError, match=phrase):
            join_models([stream, other])
    with pytest.raises(UserError, match=r"'a\.ckpt' is named twice"):
        join_models([replace(stream, file=Path("a.ckpt")), replace(stream, file=Path("a.ckpt"))])
    for number in (0, 1, 33):
        with pytest.raises(UserError, match="has 2 to 32 models"):
            join_models([stream] * number)
    assert len(chosen_of(join_models([stream] * 10)).weights) == 10


def test_a_diverged_member_is_named(runs: dict[str, Path]) -> None:
    models = [lyricgen.load(runs[name]) for name in ("first", "second")]
    with torch.no_grad():
        models[1].next_model.output.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="model 2 of the ensemble: it predicts no probabilities"):
        join_models(models)


@pytest.mark.parametrize(
    ("name", "options", "phrase"),
    [
        ("generate", ["--member", "network"], "--member is for single models"),
        ("generate", ["--mixture"], "--mixture is for single models"),
        ("generate", ["--fill", "a_c"], "--fill is for single models"),
        ("generate", ["--compare", "x"], "--compare is for single models"),
        ("export", ["--network-only"], "--network-only is for single models"),
        ("evaluate", ["--together", "--gates", "a.png", "--text", "ab"], "do not go together"),
    ],
)
def test_options_of_single_models(
    runs: dict[str, Path], commands: dict[str, Command], name: str, options: list[str], phrase: str
) -> None:
    done = commands[name](runs["first"], runs["second"], *options)
    assert done.status == 2
    assert phrase in done.err
    assert done.err.count("\n") == 1
    assert not list(Path().iterdir())


def test_one_checkpoint_is_no_ensemble(runs: dict[str, Path], commands: dict[str, Command]) -> None:
    done = commands["evaluate"](runs["first"], "--together")
    assert done.err == "error: --together needs two checkpoints or more\n"
    empty = Path("empty")
    empty.mkdir()
    done = commands["generate"](runs["first"], empty)
    assert done.err.startswith("error: 'empty' has no checkpoints/best.ckpt")
    save_checkpoint(Path(), content_of(writing_model_of()))
    for options, phrase in (
        (["--member", "network"], "this model joins several models: leave --member network out"),
        (["--mixture"], "--mixture is for runs with model=recurrent"),
    ):
        assert phrase in commands["generate"]("some.ckpt", *options).err
    done = commands["export"]("some.ckpt", "--network-only", "--out", "a.safetensors")
    assert "this model joins several models: leave --network-only out" in done.err
    done = commands["evaluate"]("some.ckpt", "--gates", "a.png", "--text", "ab")
    assert "this model joins several models" in done.err
