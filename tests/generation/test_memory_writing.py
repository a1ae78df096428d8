"""Texts by a model with a memory: generate --memory and model.with_memory."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import lyricgen
from lyricgen.export import main as export
from lyricgen.generate import main
from tests.conftest import CommandOutput, run_main
from tests.helpers.generating import train_run

Generate = Callable[..., CommandOutput]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("plain"), "model=hybrid", "data.max_chars=4000")


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = ("model=hybrid", "memory=cache", "data.max_chars=4000")
    return train_run(tmp_path_factory.mktemp("cache"), *chosen)


@pytest.fixture
def generate(capsys: pytest.CaptureFixture[str]) -> Generate:
    return partial(run_main, main, capsys)


def repeated(text: str, length: int = 6) -> float:
    """Share of a text's stretches of some characters that occur in it before."""
    grams = [text[i : i + length] for i in range(len(text) - length)]
    return 1 - len(set(grams)) / len(grams)


def test_a_text_with_memory_returns_to_its_motifs(run: Path) -> None:
    model = lyricgen.load(run)
    texts = [
        one.generate_many([""], count=8, length=200, temperature=0.9, seed=3)
        for one in (model, model.with_memory())
    ]
    plain, found = (sum(map(repeated, each)) / 8 for each in texts)
    assert found > plain + 0.1


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--length", "70", "--count", "3", "--top-k", "5", "--seed", "7"),
        ("--beams", "3"),
        ("--lines", "3", "--line-length", "5"),
        ("--no-repeat-ngram", "3"),
        ("--memory-scope", "line", "--memory-size", "20"),
        ("--member", "network"),
    ],
)
def test_every_strategy_writes_with_memory(
    generate: Generate, run: Path, options: tuple[str, ...]
) -> None:
    done = generate(str(run), "--memory", *options)
    assert done.status == 0, done.err
    assert len(done.out) > 10


def test_the_probability_of_a_text_is_that_of_the_model_with_memory(
    generate: Generate, remembering: Path
) -> None:
    done = generate(str(remembering), "--length", "60", "--format", "jsonl", "--prefix", "的")
    [written] = [json.loads(line) for line in done.out.splitlines()]
    model = lyricgen.load(remembering)
    ids = model.encode_prefix(written["text"])
    with torch.inference_mode():
        logits, _ = model.next_model(ids[None, :-1])
    nats = torch.nn.functional.cross_entropy(logits[0].double(), ids[1:], reduction="sum")
    assert written["log_probability"] == pytest.approx(-float(nats), abs=1e-3)
    assert written["memory_perplexity"] == pytest.approx(float((nats / 60).exp()), rel=1e-4)
    assert "perplexity" not in written


def test_an_exported_model_keeps_its_memory(
    remembering: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.safetensors"
    assert run_main(export, capsys, str(remembering), "--out", str(file)).status == 0
    one, other = (lyricgen.load(path).generate("", length=80) for path in (remembering, file))
    assert one == other
    alone = tmp_path / "network.safetensors"
    done = run_main(export, capsys, str(remembering), "--out", str(alone), "--network-only")
    assert done.status == 0, done.err
    assert "memory" not in lyricgen.load(alone).network.description


def test_a_model_keeps_one_memory(generate: Generate, remembering: Path) -> None:
    done = generate(str(remembering), "--memory")
    assert done.status == 2
    assert "memory already" in done.err
