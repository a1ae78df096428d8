"""Runs with memory=cache."""

import csv
import re

import pytest
import torch

from lyricgen.models.checkpoint import load
from lyricgen.models.memory_model import MemoryModel
from lyricgen.report import main as report
from tests.conftest import TINY, Train, run_main
from tests.helpers.resuming import same_weights, send, stop_at, weights

MEMORY = (*TINY, "model=hybrid", "memory=cache", "callbacks.checkpoint.every_n_steps=4")


def test_a_run_with_memory_reports_figures_of_their_own_name(train: Train) -> None:
    done = train(*MEMORY)
    assert done.status == 0, done.err
    summary = done.summary
    for split in ("val", "test"):
        assert f"{split}/memory_perplexity" in summary
        assert f"{split}/perplexity" not in summary
    assert {"val/network_perplexity", "val/ngram_perplexity"} <= summary.keys()
    reach = ", ".join(f"{count} ({split})" for split, count in summary["memory_reach"].items())
    sentence = f"a character may look back at up to {reach} characters of its split"
    assert f"{sentence}; figures without memory do not compare" in " ".join(done.out.split())
    assert "perplexity without memory" in done.out


@pytest.mark.parametrize("step", [0, 1, 6])
@pytest.mark.parametrize(
    "options",
    [
        ("memory.scope=line", "callbacks.average.enabled=true"),
        ("data=dino", "model.combination=product", "memory.size=50"),
        ("model.max_chars=300", "memory.scope=document", "memory.orders=[2,4]"),
    ],
)
def test_a_stopped_run_with_memory_continues_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, step: int, options: tuple[str, ...]
) -> None:
    whole = train(*MEMORY, *options)
    with monkeypatch.context() as patch:
        stop_at(patch, step, send(15))
        stopped = train(*MEMORY, *options)
    assert stopped.status == 143
    assert train(f"resume={stopped.directory}").status == 0
    for name in ("last.ckpt", "best.ckpt"):
        assert same_weights(weights(whole.directory, name), weights(stopped.directory, name))
    assert whole.summary["val/memory_perplexity"] == stopped.summary["val/memory_perplexity"]


def test_a_model_that_fills_gaps_trains_with_no_memory(train: Train) -> None:
    done = train(*TINY, "objective=fill", "model=recurrent", "memory=cache")
    assert done.status == 2
    assert "memory=cache goes with objective=next" in done.err


def test_only_hybrid_models_train_with_a_memory(train: Train) -> None:
    done = train(*TINY, "model=recurrent", "memory=cache")
    assert done.status == 2
    assert "memory=cache trains with model=hybrid" in done.err
    assert len(done.err.splitlines()) == 1


def test_the_network_of_a_model_with_memory_is_one_of_its_members(train: Train) -> None:
    done = train(*MEMORY)
    assert done.directory is not None
    model = load(done.directory)
    text = torch.tensor([[1, 2, 3]])
    assert isinstance(model.network, MemoryModel)
    whole = model.network.hybrid
    with torch.inference_mode():
        alone = model.member("network").next_model(text)[0]
        assert torch.equal(alone, whole.network(text)[0])
        assert torch.equal(model.member("ngram").next_model(text)[0], whole.ngram(text)[0])


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_a_model_of_any_precision_writes_after_loading(train: Train, precision: str) -> None:
    done = train(*MEMORY, f"trainer.precision={precision}")
    assert done.directory is not None, done.err
    assert len(load(done.directory).next_model(torch.tensor([[1, 2, 1, 2]]))[0][0]) == 4


def test_a_run_starts_with_the_memory_of_another(train: Train) -> None:
    first = train(*MEMORY, "optimizer.lr=0.05")
    assert first.directory is not None
    done = train(*MEMORY, f"init_from={first.directory}", "optimizer.lr=1e-12")
    assert done.directory is not None
    for name, tensor in weights(first.directory, "best.ckpt").items():
        if "memory." in name:
            torch.testing.assert_close(tensor, weights(done.directory)[name], atol=1e-6, rtol=0)


def test_reports_keep_runs_with_memory_apart(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    for memory in ("none", "cache"):
        for size in (8, 16):
            done = train(*TINY, "model=hybrid", f"memory={memory}", f"hidden_size={size}")
            assert done.status == 0, done.err
    shown = run_main(report, capfd).out
    assert "lyrics, memory=cache" in shown
    assert "lyrics, memory=none" in shown
    assert "val memory-perplexity" in " ".join(shown.split())
    assert "memory.scope=–" not in shown
    words = " ".join(shown.split())
    assert words.count("with memory: a character may look back at up to ") == 1
    assert words.count("figures without memory do not compare") == 1


def test_a_search_names_a_figure_with_memory(train: Train) -> None:
    pytest.importorskip("optuna")
    rates = ("optimizer.lr=0.01,0.02", "hydra.sweeper.n_trials=2")
    done = train("-m", *MEMORY, "sweep=optuna", *rates)
    assert done.status == 0, done.err
    assert re.search(r"the best is job \d, memory-perplexity ", done.out)


def test_a_search_does_not_choose_among_memories(train: Train) -> None:
    done = train("-m", *TINY, "model=hybrid", "memory=none,cache", "sweep=optuna")
    assert done.status == 2
    assert "memory=none,cache: figures with different memories do not compare" in done.err


def test_the_best_checkpoint_is_the_best_with_memory(train: Train) -> None:
    done = train(*MEMORY, "optimizer.lr=0.05", "trainer.max_epochs=6")
    assert done.directory is not None
    with (done.directory / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    best = min(rows, key=lambda row: float(row["val/memory_perplexity"]))
    assert done.summary["best_epoch"] == int(best["epoch"])
