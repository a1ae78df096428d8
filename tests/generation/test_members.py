"""Texts of the parts of a hybrid model, and of the final mixture of a run."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import lyricgen
from lyricgen.errors import UserError
from lyricgen.evaluation.scores import open_checkpoints
from lyricgen.generate import main
from lyricgen.models.scoring import split_nats
from tests.conftest import CommandOutput, run_main
from tests.helpers.generating import train_run

Generate = Callable[..., CommandOutput]


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run, since the best may be the n-grams before the first step."""
    place = tmp_path_factory.mktemp("hybrid")
    chosen = ("model=hybrid", "model.order=3", "model.combination=mixture")
    return train_run(place, "data=dino", *chosen) / "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recurrent")
    return train_run(place, "data=dino", "callbacks.baseline.enabled=true", "optimizer.lr=0.03")


@pytest.fixture
def generate(capsys: pytest.CaptureFixture[str]) -> Generate:
    return partial(run_main, main, capsys)


def test_a_member_is_a_model_of_its_own(generate: Generate, hybrid: Path) -> None:
    model = lyricgen.load(hybrid)
    ids = torch.tensor([[len(model.vocabulary), 3, 5]])
    with torch.inference_mode():
        logits, _ = model.member("network").network(ids)
        counted, _ = model.member("ngram").network(ids)
        mixed, _ = model.network(ids)
    model.network.on_hidden.weight.data.zero_()
    model.network.on_hidden.bias.data.copy_(torch.tensor([-1e4, -1e4, 1.0, 1.0]))
    model.network.on_passed.weight.data.zero_()
    model.network.shift.zero_()
    model.network.eval()
    with torch.inference_mode():
        halves, _ = model.network(ids)
    expected = (logits.softmax(-1).double() + counted.exp()) / 2
    torch.testing.assert_close(halves.exp().double(), expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(halves, mixed)
    model = lyricgen.load(hybrid)
    assert model.member("whole") is model
    for member in ("whole", "network", "ngram"):
        printed = generate(hybrid, "--member", member, "--count", "3").texts
        assert printed == model.member(member).generate_many([""], count=3)
    texts = [generate(hybrid, "--member", each).texts for each in ("whole", "network", "ngram")]
    assert generate(hybrid).texts == texts[0]
    assert len({str(text) for text in texts}) == 3


@pytest.mark.parametrize(
    "options",
    [
        ["--top-k", "3"],
        ["--top-p", "0.5", "--max-length", "6"],
        ["--beams", "3"],
        ["--temperature", "0"],
        ["--starts-with", "a", "--novel", "--count", "2"],
        ["--watch"],
    ],
)
def test_a_hybrid_model_writes_by_every_strategy(
    generate: Generate, hybrid: Path, options: list[str]
) -> None:
    done = generate(hybrid, *options)
    assert done.status == 0, done.err
    assert done.texts


def test_other_models_have_no_members(generate: Generate, recurrent: Path) -> None:
    done = generate(recurrent, "--member", "network")
    assert done.status == 2
    assert "this model is a network alone: leave --member network out" in done.err
    with pytest.raises(UserError, match="choose whole, network, ngram"):
        lyricgen.load(recurrent).member("both")  # type: ignore[arg-type]


def test_the_mixture_is_that_of_the_run(generate: Generate, recurrent: Path) -> None:
    figures = json.loads((recurrent / "summary.json").read_text("utf-8"))
    model = lyricgen.load(recurrent).mixture()
    [opened] = open_checkpoints([recurrent])
    for split in ("val", "test"):
        nats = split_nats(model, opened.splits[split], "scoring")
        found = math.exp(np.nanmean(nats))
        assert found == pytest.approx(figures[f"{split}/mixture_perplexity"], rel=1e-5)
        alone = math.exp(np.nanmean(split_nats(opened.model, opened.splits[split], "scoring")))
        assert found != pytest.approx(alone, rel=1e-2)
    texts = generate(recurrent, "--mixture", "--count", "5").texts
    assert texts == model.generate_many([""], count=5)
    assert texts != generate(recurrent, "--count", "5").texts


def test_a_mixture_that_is_not_there(generate: Generate, hybrid: Path, recurrent: Path) -> None:
    assert "--mixture is for runs with model=recurrent" in generate(hybrid, "--mixture").err
    done = generate(recurrent, "--mixture", "--member", "network")
    assert "do not go together" in done.err
    summary = recurrent / "summary.json"
    kept = summary.read_text("utf-8")
    figures = json.loads(kept)
    summary.write_text(json.dumps({**figures, "mixture_network_weight": None}), "utf-8")
    done = generate(recurrent, "--mixture")
    summary.write_text(kept, "utf-8")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "the run has none" in done.err


def test_a_mixture_of_a_text_that_is_gone(generate: Generate, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("abcd efgh\n" * 300, "utf-8")
    run = train_run(tmp_path, "data=text", f"data.path={text}", "callbacks.baseline.enabled=true")
    assert generate(run, "--mixture", "--length", "5").status == 0
    text.write_text("other\n" * 300, "utf-8")
    done = generate(run, "--mixture", "--length", "5")
    assert done.status == 2
    assert "--mixture needs the text that the model has learnt" in done.err
