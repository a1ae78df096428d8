"""The range test of the learning rate: its curve and suggestion, computed independently."""

import copy
import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lyricgen.data.batch import cut
from lyricgen.training import find_lr as module
from lyricgen.training.find_lr import RATES, suggest
from tests.conftest import TINY, Train, TrainingResult

Rows = list[dict[str, str]]

# without anything drawn at random, so that a plain loop can repeat it
PLAIN = (
    *("recipe=none", "trainer=cpu", "cell=rnn", "hidden_size=16", "data.path=text.txt"),
    *("data.unit=text", "data.batch_size=4", "data.num_steps=10", "model.dropout=0"),
    *("optimizer=sgd", "optimizer.momentum=0", "optimizer.weight_decay=0"),
    *("trainer.gradient_clip_val=null", "loss.label_smoothing=0", "find_lr=true"),
)


@pytest.fixture
def text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("零一二三四五六七八九" * 90, "utf-8")


def read(run: TrainingResult, tmp_path: Path) -> tuple[Path, Rows]:
    """Return the directory and the table of a range test, which is the only directory."""
    assert (run.status, run.directory) == (0, None), run.err  # it has no summary
    [directory] = (tmp_path / "outputs/runs").glob("*/*")
    with (directory / "find_lr.csv").open(encoding="utf-8") as stream:
        return directory, list(csv.DictReader(stream))


def plain_losses(training: Any, weights: dict[str, Any], rates: list[float]) -> list[float]:
    """Train by torch alone; return the loss of each step."""
    model = copy.deepcopy(training.model)
    model.load_state_dict(weights)
    ids, sampler = training.datamodule.splits["train"].ids, training.datamodule.sampler
    state, losses = None, []
    for step, rate in enumerate(rates):
        batch = cut(ids, sampler.windows(*divmod(step, len(sampler))))
        logits, state = model(batch.inputs, None if batch.starts_stream else state)
        state = tuple(part.detach() for part in state)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(model.parameters(), slopes, strict=True):
                parameter.sub_(rate * slope)
        losses.append(float(loss.detach()))
        if not losses[-1] <= 4 * min(losses):
            return losses[:-1]
    return losses


@pytest.mark.usefixtures("text")
def test_the_suggestion_is_where_a_plain_computation_puts_it(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    original = module.find_lr

    def note(training: Any, run: Any) -> float | None:
        seen["training"] = training
        seen["weights"] = copy.deepcopy(training.model.state_dict())
        seen["rate"] = original(training, run)
        return seen["rate"]  # type: ignore[no-any-return]

    monkeypatch.setattr(module, "find_lr", note)
    run = train(*PLAIN)
    directory, rows = read(run, tmp_path)
    training, weights = seen["training"], seen["weights"]
    for name, weight in training.model.state_dict().items():
        assert torch.equal(weight, weights[name]), name

    losses = plain_losses(training, weights, RATES)
    still = plain_losses(training, weights, [0.0] * len(losses))
    assert len(rows) == len(losses) > 100
    assert [float(row["lr"]) for row in rows] == pytest.approx(RATES[: len(rows)])
    # rounding grows where training becomes unstable
    stable = sum(rate < 1 for rate in RATES)
    assert [float(row["loss"]) for row in rows][:stable] == pytest.approx(losses[:stable], rel=1e-3)
    assert [float(row["untrained_loss"]) for row in rows] == pytest.approx(still, rel=1e-5)

    smoothed = []
    for middle in range(len(losses)):
        scale = [math.exp(-((step - middle) ** 2) / (2 * 6**2)) for step in range(len(losses))]
        gain = sum(w * (a - b) for w, a, b in zip(scale, losses, still, strict=True))
        smoothed.append(gain / sum(scale))
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    falls = [smoothed[step + 1] - smoothed[step - 1] for step in range(1, lowest)]
    best = 1 + min(range(len(falls)), key=falls.__getitem__)
    assert seen["rate"] == pytest.approx(RATES[best], rel=0.1)  # two digits, and rounding
    assert 0.01 < seen["rate"] < 10
    mean = sum(still) / len(still)
    assert float(rows[best]["smoothed_loss"]) == pytest.approx(mean + smoothed[best], rel=1e-3)
    assert f"type the same command with optimizer.lr={seen['rate']:g} in place of" in run.out
    assert {path.name for path in directory.iterdir()} == {
        *("find_lr.csv", "find_lr.png", "train.log")
    }


def test_the_suggestion_on_a_known_curve() -> None:
    """The loss falls as a logistic curve over the logarithm of the rate, then rises."""
    logs = np.log(RATES)
    for middle in (-9.0, -6.0, -3.0):
        gain = -2 / (1 + np.exp(-1.5 * (logs - middle))) + 5 / (1 + np.exp(-3 * (logs - 0.0)))
        noise = np.random.default_rng(1).normal(size=len(logs))  # of the batches
        smoothed, best = suggest(RATES, (3 + noise + gain).tolist(), (3 + noise).tolist())
        assert best is not None
        assert logs[best] == pytest.approx(middle, abs=0.4)
        assert smoothed[0] == pytest.approx(3 + noise.mean() + gain[0], abs=0.02)
    assert suggest(RATES, np.linspace(1, 2, len(RATES)).tolist(), [1.0] * len(RATES))[1] is None


@pytest.mark.parametrize(
    "options",
    [
        ("optimizer=muon", "model=hybrid", "cell=lstm_coupled"),
        ("optimizer=adam", "cell=gru_scratch", "trainer.accumulate_grad_batches=2"),
        ("optimizer=adamw", "data=dino", "loss.reduction=sum", "callbacks.average.enabled=true"),
        ("cell=lstm", "trainer.limit_train_batches=1", "trainer.check_val_every_n_epoch=2"),
        ("objective=fill", "trainer.precision=bf16-mixed", "trainer.val_check_interval=3"),
        ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "scheduler=plateau"),
    ],
)
def test_every_kind_of_run_can_be_tested(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(module, "RATES", RATES[::3])
    _, rows = read(train(*TINY, *options, "find_lr=true"), tmp_path)
    assert float(rows[0]["loss"]) == pytest.approx(float(rows[0]["untrained_loss"]))
    assert any(float(row["loss"]) < float(row["untrained_loss"]) - 0.01 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("model=ngram",), "leave it or model=ngram out"),
        (("-m", "seed=1,2"), "find_lr=true tests a single run: leave it out of a sweep"),
        (("seed=1", "find_lr=2"), "find_lr=2: "),
    ],
)
def test_what_cannot_be_tested_is_refused(
    train: Train, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    refused = train(*TINY, "find_lr=true", *options) if len(options) == 1 else train(
        *(one for one in options if one == "-m"), *TINY, "find_lr=true",
        *(one for one in options if one != "-m"),
    )  # fmt: skip
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert message in refused.err
    assert not list(tmp_path.glob("outputs/*s/*/*"))


def test_a_resumed_run_cannot_be_tested(train: Train, trained: Train) -> None:
    refused = train(f"resume={trained(*TINY).directory}", "find_lr=true")
    assert refused.status == 2
    assert "leave it or resume out" in refused.err
