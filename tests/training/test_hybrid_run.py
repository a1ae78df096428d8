"""Runs of model=hybrid."""

import csv
import signal
from typing import Any

import pytest
import torch

from lyricgen.runs.interruption import Interruption
from lyricgen.training.callbacks.figures import EpochLog
from tests.conftest import TINY, Train, TrainingResult
from tests.helpers.resuming import same_weights, send, stop_at, weights

HYBRID = (*TINY, "model=hybrid", "callbacks.checkpoint.every_n_steps=4")


def rows_of(run: TrainingResult) -> list[dict[str, str]]:
    assert run.directory is not None, run.err
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("data", ["lyrics", "dino"])
def test_a_hybrid_model_is_never_worse_than_its_n_gram(train: Train, data: str) -> None:
    done = train(*HYBRID, f"data={data}", "data.max_chars=4000", "optimizer.lr=0.01")
    first, *_ = rows_of(done)
    summary = done.summary
    assert (first["epoch"], first["step"]) == ("0", "0")
    expected = summary["ngram_perplexities"]["val"]["kneser_ney"]
    assert float(first["val/perplexity"]) == pytest.approx(min(expected), rel=1e-5)
    assert float(first["val/ngram_perplexity"]) == pytest.approx(min(expected), rel=1e-12)
    assert summary["val/perplexity"] <= min(expected) * (1 + 1e-5)
    assert {"val/network_perplexity", "test/network_perplexity"} <= summary.keys()
    assert "its network alone" in done.out


@pytest.mark.parametrize("combination", ["mixture", "product"])
def test_a_diverging_network_leaves_the_n_gram(train: Train, combination: str) -> None:
    done = train(
        *HYBRID,
        f"model.combination={combination}",
        "optimizer.lr=10",
        "trainer.gradient_clip_val=null",
    )
    expected = min(done.summary["ngram_perplexities"]["val"]["kneser_ney"])
    assert done.summary["val/perplexity"] <= expected * (1 + 1e-5)


@pytest.mark.parametrize("step", [0, 1, 6])
@pytest.mark.parametrize(
    "options",
    [
        ("callbacks.average.enabled=true",),
        ("data=dino", "cell=gru", "layers=2", "model.combination=product"),
        ("model.short_list=10", "trainer.deterministic=true"),
        ("data=dino", "model.short_list=10", "model.combination=product"),
        ("data=dino", "model.combination=product", "trainer.deterministic=true"),
    ],
)
def test_a_stopped_run_continues_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, step: int, options: tuple[str, ...]
) -> None:
    whole = train(*HYBRID, *options)
    with monkeypatch.context() as patch:
        stop_at(patch, step, send(15))
        stopped = train(*HYBRID, *options)
    assert stopped.status == 143
    done = train(f"resume={stopped.directory}")
    assert done.status == 0, done.err
    assert same_weights(weights(whole.directory), weights(stopped.directory))
    assert same_weights(
        weights(whole.directory, "best.ckpt"), weights(stopped.directory, "best.ckpt")
    )
    clock = "train/chars_per_second"
    one, other = ([row | {clock: ""} for row in rows_of(run)] for run in (whole, stopped))
    assert one == other


def test_a_hybrid_model_fills_no_gaps(train: Train) -> None:
    done = train(*HYBRID, "objective=fill")
    assert done.status == 2
    assert "model=hybrid" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_run_killed_after_its_first_validation_continues_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first validation counts once, and no schedule of the rate is asked about it."""
    options = (*HYBRID, "scheduler=plateau", "scheduler.patience=0", "trainer.max_epochs=3")
    whole = train(*options)

    original = EpochLog.after_validation

    def interrupt(self: EpochLog, trainer: Any) -> None:
        original(self, trainer)
        Interruption.active.requested = signal.SIGTERM  # type: ignore[union-attr]

    with monkeypatch.context() as patch:
        patch.setattr(EpochLog, "after_validation", interrupt)
        stopped = train(*options)
    assert stopped.status == 143
    assert stopped.directory is not None
    saved = torch.load(stopped.directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 0
    done = train(f"resume={stopped.directory}")
    assert done.status == 0, done.err
    assert same_weights(weights(whole.directory), weights(stopped.directory))
    assert [row["step"] for row in rows_of(whole)] == [row["step"] for row in rows_of(stopped)]
