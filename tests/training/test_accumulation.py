"""Steps of several batches: their gradient, their figures, and runs resumed between them."""

import csv
import math
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from compare_runs import differences
from torch import Tensor

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.samplers import ConsecutiveSampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.network import LanguageModel
from lyricgen.options import validate
from lyricgen.runs.state import RunState
from lyricgen.training.callbacks.checkpoints import Checkpoints
from lyricgen.training.lightning_hooks import Moments, Observer, is_exact_point
from lyricgen.training.options import TrainerOptions
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal
from tests.conftest import TINY, Train, TrainingResult, train_until_killed
from tests.helpers.networks import architecture
from tests.helpers.resuming import same_weights, send, stop_at, weights
from tests.helpers.workers import fork_workers

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*treespec.*is deprecated",  # Lightning's own use of torch
    "ignore:Total length of `list` across ranks is zero",  # nothing held out
)

LR = 0.5
LIMIT = 0.1  # of the gradient norm
IDS = torch.randint(5, (79,), generator=torch.Generator().manual_seed(0))


def module_of(reduction: Any, batches: int, **options: Any) -> RecurrentModule:
    """Build a small module in float64; it always has the same weights."""
    torch.manual_seed(0)
    return RecurrentModule(
        LanguageModel(architecture("gru", hidden_size=6, **options)),
        optimizer=partial(torch.optim.SGD, lr=LR),
        schedule=lambda _: None,
        label_smoothing=0.0,
        reduction=reduction,
        card={},
        state=RunState(),
        total=NatsTotal(Vocabulary("\nabcd")),
        seed=1,
        batches=batches,
    ).double()


def fit(module: RecurrentModule, batches: int, *observers: Observer) -> None:
    """Train two epochs of 5 batches, of 3 rows and 5 steps."""
    sampler = ConsecutiveSampler(len(IDS), 3, 5, drop_last=True)
    assert len(sampler) == 5
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, accumulate_grad_batches=batches, gradient_clip_val=LIMIT,
        callbacks=[*observers, Moments(observers)],
    )  # fmt: skip
    data = CharacterDataModule(Vocabulary("\nabcd"), {"train": Split(IDS, None)}, sampler)
    trainer.fit(module, datamodule=data)


class Steps(Observer):
    """Observer that notes the number and the loss of each step, and the exact points."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.exact: list[int] = []
        self.batches = 0

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        self.batches += 1
        if is_exact_point(trainer):
            self.exact.append(self.batches)

    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        self.losses[trainer.global_step] = float(outputs["loss"])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_step_takes_the_gradient_of_its_batches(reduction: str) -> None:
    """Compare with torch's SGD on the mean, or the sum, of gradients that are computed singly."""
    module, steps = module_of(reduction, 2), Steps()
    fit(module, 2, steps)

    reference = module_of(reduction, 1).model
    optimizer = torch.optim.SGD(reference.parameters(), lr=LR)
    rows = [IDS[row * 26 : (row + 1) * 26] for row in range(3)]
    losses, norms = [], 0.0
    for _ in range(2):
        state = None
        for group in ((0, 5), (10, 15), (20,)):  # the last step of an epoch has one batch
            gradients, nats = [], []
            for first in group:
                inputs = torch.stack([row[first : first + 5] for row in rows])
                targets = torch.stack([row[first + 1 : first + 6] for row in rows])
                logits, state = reference(inputs, state)
                state = tuple(part.detach() for part in state)
                logs = logits - logits.exp().sum(-1, keepdim=True).log()
                loss = -logs.gather(-1, targets[..., None]).sum()
                slopes = torch.autograd.grad(loss, list(reference.parameters()))
                gradients.append([slope / 15 if reduction == "mean" else slope for slope in slopes])
                nats.append(float(loss.detach()))
            scale = 0.5 if reduction == "mean" else 1.0  # as Lightning, also for a single batch
            for parameter, *slopes in zip(reference.parameters(), *gradients, strict=True):
                parameter.grad = scale * sum(slopes)  # type: ignore[assignment]
            norms += float(torch.nn.utils.clip_grad_norm_(reference.parameters(), LIMIT))
            optimizer.step()
            mean = sum(nats) / len(nats)
            losses.append(mean / 15 if reduction == "mean" else 2 * mean)
    start = module_of(reduction, 1).model
    for name, parameter in reference.named_parameters():
        assert (parameter - start.get_parameter(name)).abs().max() > 1e-4
        torch.testing.assert_close(module.model.get_parameter(name), parameter, rtol=0, atol=1e-12)
    assert list(steps.losses) == [1, 2, 3, 4, 5, 6]
    assert list(steps.losses.values()) == pytest.approx(losses, rel=1e-12)
    assert steps.exact == [2, 4, 7, 9]  # neither within a step nor at the end of an epoch
    # of the newest epoch
    assert float(module.run_state.gradient_norm_total) < norms
    assert int(module.run_state.gradient_norms) == 3


def test_nothing_drawn_repeats_within_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    original = RecurrentModule.training_step

    def draw(self: RecurrentModule, *arguments: Any) -> Tensor:
        drawn.append(float(torch.rand(1)))
        return original(self, *arguments)

    monkeypatch.setattr(RecurrentModule, "training_step", draw)
    fit(module_of("mean", 1), 1)
    of_one = drawn.copy()
    drawn.clear()
    fit(module_of("mean", 2), 2)
    assert len(set(of_one)) == len(of_one) == 10
    assert len(set(drawn)) == len(drawn) == 10
    # the numbers of steps 0 and 1; then step 2 begins, after an epoch's last batch, and so on
    assert drawn[:5] == of_one[:5]


def test_a_diverging_step_is_named(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    original = RecurrentModule.on_train_batch_start

    def start(self: RecurrentModule, batch: Any, batch_idx: int) -> None:
        original(self, batch, batch_idx)
        if batch_idx == 7:  # the second batch of step 3
            next(self.model.parameters()).data.fill_(math.inf)

    monkeypatch.setattr(RecurrentModule, "on_train_batch_start", start)
    run = train(*TINY, "trainer.accumulate_grad_batches=3")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert "the training loss is nan at step 3" in run.err


# Intervals

SHORT = (*TINY, "data.max_chars=800", "trainer.accumulate_grad_batches=3")  # 16 batches an epoch


def rows_of(run: TrainingResult, *names: str) -> list[tuple[str, ...]]:
    assert run.directory is not None, run.err
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return [tuple(row[name] for name in names) for row in csv.DictReader(stream)]


def test_intervals_count_steps(train: Train) -> None:
    run = train(*SHORT, "trainer.val_check_interval=2", "callbacks.smoothed_loss.enabled=true")
    assert run.status == 0, run.err
    steps = [step for _, step in rows_of(run, "epoch", "step")]
    assert steps == ["2", "4", "6", "8", "10", "12"]
    assert [bool(loss) for [loss] in rows_of(run, "val/loss")] == [True, True, False] * 2
    assert run.directory is not None
    lines = (run.directory / "steps.csv").read_text("utf-8").splitlines()[1:]
    assert [int(line.split(",")[0]) for line in lines] == list(range(1, 13))
    saved = torch.load(run.directory / "checkpoints/last.ckpt", weights_only=True)
    [optimizer] = saved["optimizer_states"]
    assert {int(each["step"]) for each in optimizer["state"].values()} == {12}


@pytest.mark.parametrize(
    ("interval", "batches"),
    [(2, 6), (5, 15), (6, 16), (0.5, 9), (0.1, 3), (1.0, 16), (None, None)],
)
def test_validations_come_after_whole_steps(interval: float | None, batches: int | None) -> None:
    options: TrainerOptions = validate(
        TrainerOptions,
        {
            "max_epochs": 1, "max_steps": None, "max_time": None, "accelerator": "cpu",
            "devices": 1, "strategy": "auto", "precision": "32-true", "gradient_clip_val": None,
            "accumulate_grad_batches": 3, "gradient_clip_algorithm": "norm",
            "limit_train_batches": None, "check_val_every_n_epoch": 1,
            "val_check_interval": interval, "deterministic": False, "benchmark": False,
            "detect_anomaly": False, "profiler": None, "float32_matmul_precision": "highest",
        },
    )  # fmt: skip
    assert options.epoch_steps(16) == 6
    assert options.validation_interval(16) == batches


def test_max_steps_counts_steps(train: Train) -> None:
    run = train(*SHORT, "trainer.max_steps=8", "trainer.max_epochs=9")
    assert rows_of(run, "epoch", "step") == [("1", "6"), ("2", "8")]
    assert (
        "is more than the 6 steps of an epoch" in train(*SHORT, "trainer.val_check_interval=7").err
    )


def test_a_cosine_schedule_ends_with_the_last_step(train: Train) -> None:
    run = train(
        *SHORT, "scheduler=cosine", "scheduler.warmup_epochs=0", "scheduler.min_factor=0.1",
        "optimizer.lr=0.01",
    )  # fmt: skip
    assert run.directory is not None, run.err
    saved = torch.load(run.directory / "checkpoints/last.ckpt", weights_only=True)
    [rate] = {group["lr"] for group in saved["optimizer_states"][0]["param_groups"]}
    assert rate == pytest.approx(0.001)
    half = 0.01 * (0.1 + 0.9 * (1 + math.cos(math.pi * 6 / 12)) / 2)
    assert float(rows_of(run, "train/lr")[1][0]) == pytest.approx(half)


# Resuming

EVERYTHING = (
    *SHORT,
    *("scheduler=cosine", "callbacks.average.enabled=true", "callbacks.smoothed_loss.enabled=true"),
    *("model.weight_drop=0.5", "model.noise=0.2", "callbacks.checkpoint.every_n_steps=2"),
)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("loss.reduction=sum", "optimizer.lr=0.001"),
        ("data=dino", "trainer.val_check_interval=2"),
    ],
    ids=["mean", "sum", "lines"],
)
def test_a_run_stopped_within_a_step_is_resumed_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    whole = train(*EVERYTHING, *options)
    for step in (2, 9):
        with monkeypatch.context() as patch:
            stop_at(patch, step, send(signal.SIGINT))
            stopped = train(*EVERYTHING, *options)
        assert stopped.status == 130
        assert stopped.directory is not None and whole.directory is not None
        saved = torch.load(stopped.directory / "checkpoints/last.ckpt", weights_only=True)
        assert saved["global_step"] == step + 1
        assert train(f"resume={stopped.directory}").status == 0
        assert differences(whole.directory, stopped.directory) == []


def test_a_killed_run_is_resumed_exactly(train: Train, tmp_path: Path) -> None:
    whole = train(*EVERYTHING)
    outputs = tmp_path / "killed"
    outputs.mkdir()
    train_until_killed(2, outputs, *EVERYTHING)
    [killed] = outputs.glob("runs/*/*")
    assert train(f"resume={killed}").status == 0
    assert whole.directory is not None
    assert differences(whole.directory, killed) == []


def test_one_batch_a_step_is_the_same_run_as_before(train: Train) -> None:
    """Without the setting, as in older records, a run has the same weights."""
    plain, typed = train(*TINY), train(*TINY, "trainer.accumulate_grad_batches=1")
    other = train(*TINY, "trainer.accumulate_grad_batches=2")
    assert same_weights(weights(plain.directory), weights(typed.directory))
    assert not same_weights(weights(plain.directory), weights(other.directory))
    refused = train(f"resume={plain.directory}", "trainer.accumulate_grad_batches=2")
    assert refused.status == 2
    assert "trainer.accumulate_grad_batches=1 (now: 2)" in refused.err


def test_the_average_of_the_weights_takes_no_part_in_a_step(train: Train) -> None:
    plain = train(*SHORT)
    averaged = train(*SHORT, "callbacks.average.enabled=true", "callbacks.average.decay=0.9")
    assert averaged.directory is not None
    saved = torch.load(averaged.directory / "checkpoints/last.ckpt", weights_only=True)
    raw = {f"model.{name}": weight for name, weight in saved["run"]["raw_weights"].items()}
    assert same_weights(raw, {name: weights(plain.directory)[name] for name in raw})
    assert not same_weights(raw, {name: saved["state_dict"][name] for name in raw})
    assert rows_of(averaged, "train/loss") == rows_of(plain, "train/loss")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["lyrics", "dino"])
def test_two_processes_follow_one_and_are_resumed_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fork_workers(monkeypatch)
    plain = (*SHORT, f"data={data}", "model.dropout=0", "loss.reduction=sum", "optimizer.lr=0.001")
    several = (*plain, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    one, two = train(*plain), train(*several)
    for name, weight in weights(one.directory).items():
        assert torch.allclose(weight, weights(two.directory)[name], rtol=0, atol=1e-5), name
    original = Checkpoints.after_step

    def end(self: Checkpoints, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "after_step", end)
        stopped = train(*several)
    assert stopped.status == 143
    assert train(f"resume={stopped.directory}").status == 0
    assert two.directory is not None and stopped.directory is not None
    assert differences(two.directory, stopped.directory) == []
