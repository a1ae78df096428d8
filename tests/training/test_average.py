"""The average of the weights is the model, and training never notices it."""

import csv
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compare_runs import differences
from torch import nn

from lyricgen import export, generate
from lyricgen.data.batch import combine_seed
from lyricgen.data.build import build_corpus
from lyricgen.errors import UserError
from lyricgen.models.checkpoint import load
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.runs.state import RunState
from lyricgen.training import build
from lyricgen.training.callbacks.average import WeightAverage
from lyricgen.training.observer_options import AverageOptions
from lyricgen.training.options import parse
from lyricgen.training.recurrent_module import RecurrentModule
from tests.conftest import SMALL, TINY, Train, TrainingResult, run_main, train_until_killed
from tests.helpers.composition import compose_options
from tests.helpers.resuming import send, stop_at
from tests.helpers.workers import fork_workers

AVERAGE = "callbacks.average.enabled=true"
NO_CHECKPOINT = "callbacks.checkpoint.enabled=false"
Weights = dict[str, torch.Tensor]


def saved(run: TrainingResult, name: str = "last.ckpt") -> dict[str, Any]:
    assert run.directory is not None, run.err
    content: dict[str, Any] = torch.load(run.directory / "checkpoints" / name, weights_only=True)
    return content


def average(run: TrainingResult) -> Weights:
    return {
        name.removeprefix("model."): weight for name, weight in saved(run)["state_dict"].items()
    }


def raw(run: TrainingResult) -> Weights:
    weights: Weights = saved(run)["run"]["raw_weights"]
    return weights


def assert_equal(some: Weights, of: Weights) -> None:
    """Check that tensors equal bit by bit the tensors of the same names in `of`."""
    for name, weight in some.items():
        assert weight.dtype == of[name].dtype
        assert torch.equal(weight, of[name]), name


def rows(run: TrainingResult) -> list[dict[str, str]]:
    assert run.directory is not None, run.err
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def drawn(run: TrainingResult, step: int) -> list[str]:
    """The random samples of a step in samples.jsonl."""
    assert run.directory is not None, run.err
    lines = (run.directory / "samples.jsonl").read_text("utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    return [one["text"] for one in samples if one["step"] == step and one["strategy"] != "greedy"]


def written(capfd: pytest.CaptureFixture[str], path: Path, step: int) -> list[str]:
    """The texts that `generate` writes with the settings and the seed of the samples of a step."""
    options = "--prefix 分开 --prefix 不分开 --count 3 --temperature 0.8 --length 12 --format jsonl"
    printed = run_main(
        generate.main, capfd, path, *options.split(), "--seed", str(combine_seed(1, step))
    )
    return [json.loads(line)["text"] for line in printed.texts]


def validation_loss(run: TrainingResult, weights: Weights) -> float:
    """Mean cross-entropy of the validation split, read as one stream, with torch's own layers."""
    options = parse(run.summary["options"])
    ids = build.build_datamodule(options, build_corpus(options.data)).splits["val"].ids.long()
    layer = nn.LSTM(16, 16, batch_first=True, dtype=weights["output.bias"].dtype)
    prefix = "recurrence.blocks.0."
    layer.load_state_dict(
        {name.removeprefix(prefix): weights[name] for name in weights if prefix in name}
    )
    with torch.no_grad():
        tied = weights["embedding.weight"]
        hidden, _ = layer(tied[ids[None, :-1]])
        logits = hidden[0] @ tied.T + weights["output.bias"]
        return float(nn.functional.cross_entropy(logits, ids[1:]))


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        (("optimizer=muon", "trainer.precision=64-true"), 1e-12),
        (("optimizer=sgd", "optimizer.momentum=0.9", "callbacks.average.decay=0.8"), 1e-6),
        (("cell=gru", "trainer.precision=bf16-mixed", "model.tie_weights=false"), 1e-6),
        (("objective=fill", "trainer.val_check_interval=3", "trainer.max_steps=23"), 1e-6),
    ],
)
def test_the_average_follows_its_recurrence(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], tolerance: float
) -> None:
    steps: list[dict[str, Any]] = []  # raw weights before the first step, then after each step

    def step(self: RecurrentModule, *arguments: Any) -> None:
        def note() -> None:
            named = self.model.named_parameters()
            steps.append({name: one.detach().double().numpy().copy() for name, one in named})

        if not steps:
            note()
        original(self, *arguments)
        note()

    original = RecurrentModule.optimizer_step
    with monkeypatch.context() as patch:
        patch.setattr(RecurrentModule, "optimizer_step", step)
        run = train(*TINY, *options, AVERAGE)
    assert run.status == 0, run.err
    decay = run.summary["options"]["callbacks"]["average"]["decay"]
    assert len(steps) == saved(run)["global_step"] + 1 > 20
    expected, found = dict(steps[0]), average(run)
    for number, weights in enumerate(steps[1:], start=1):
        d = min(decay, (1 + number) / (10 + number))
        expected = {name: d * expected[name] + (1 - d) * weights[name] for name in expected}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=tolerance, atol=tolerance)
        assert not np.allclose(found[name].numpy(), steps[-1][name], rtol=1e-3, atol=1e-5)
    assert_equal(raw(run), average(train(*TINY, *options)))  # training never noticed


def test_figures_samples_and_files_are_of_the_average(
    train: Train, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    several = (*TINY, "optimizer.lr=0.03", "scheduler=none")
    run, plain = train(*several, AVERAGE), train(*several)
    last, step = rows(run)[-1], saved(run)["global_step"]
    loss = float(last["val/loss"])
    assert loss == pytest.approx(validation_loss(run, average(run)), rel=1e-6)
    assert loss != pytest.approx(validation_loss(run, average(run) | raw(run)), rel=1e-4)
    assert float(rows(plain)[-1]["val/loss"]) == pytest.approx(
        validation_loss(plain, average(plain)), rel=1e-6
    )
    assert last["train/loss"] == rows(plain)[-1]["train/loss"]
    assert run.directory is not None
    best = min(rows(run), key=lambda row: float(row["val/loss"]))
    assert run.summary["val/loss"] == pytest.approx(float(best["val/loss"]), rel=1e-6)

    exported = tmp_path / "model.safetensors"
    checkpoint = run.directory / "checkpoints/last.ckpt"
    assert run_main(export.main, capfd, checkpoint, "--out", exported).status == 0
    assert_equal(load(exported).network.state_dict(), average(run))
    texts = drawn(run, step)
    assert len(texts) == 6
    assert texts != drawn(plain, step)
    assert texts == written(capfd, checkpoint, step) == written(capfd, exported, step)
    started = train(*TINY, f"init_from={checkpoint}", "trainer.max_steps=1")
    assert drawn(started, 0) == written(capfd, checkpoint, 0)


def test_samples_within_an_epoch_are_of_the_average(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    last = (*TINY, "callbacks.samples.every_n_epochs=0", "callbacks.samples.steps=[9]", AVERAGE)
    run = train(*last, "trainer.max_steps=9")
    assert run.directory is not None, run.err
    assert drawn(run, 9) == written(capfd, run.directory / "checkpoints/last.ckpt", 9)


@pytest.mark.parametrize("held_out", [(), ("data.val_fraction=0",)])
def test_without_checkpoints_the_run_ends_with_the_average(
    train: Train, held_out: tuple[str, ...]
) -> None:
    options = (*TINY, *held_out, AVERAGE, "trainer.max_epochs=1")
    run, kept = train(*options, NO_CHECKPOINT), train(*options)
    for name in ("test/loss", "val/loss", "samples"):
        assert run.summary.get(name) == kept.summary.get(name)
    plain = train(*TINY, *held_out, NO_CHECKPOINT, "trainer.max_epochs=1")
    assert run.summary["test/loss"] != plain.summary["test/loss"]


RESUMED = [
    ("trainer.precision=64-true", "optimizer=muon", "callbacks.samples.steps=[5,11]"),
    ("cell=gru", "trainer.precision=bf16-mixed", "callbacks.smoothed_loss.enabled=true"),
    ("trainer.val_check_interval=4", "scheduler=plateau", "scheduler.patience=0"),
    ("data=dino", "data.max_chars=700", "callbacks.early_stopping.patience=1"),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", RESUMED)
def test_a_run_with_an_average_is_resumed_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    options = (*TINY, *options, AVERAGE, "callbacks.checkpoint.every_n_steps=3")
    whole = train(*options)
    assert whole.directory is not None, whole.err
    for step in (1, 4, 8, saved(whole)["global_step"] - 2):
        with monkeypatch.context() as patch:
            stop_at(patch, step, send(signal.SIGTERM))
            stopped = train(*options)
        assert stopped.status == 143
        assert stopped.directory is not None
        assert train(f"resume={stopped.directory}").status == 0
        assert differences(whole.directory, stopped.directory) == []


def test_a_killed_run_with_an_average_continues_within_its_epoch(
    train: Train, tmp_path: Path
) -> None:
    options = (*SMALL, AVERAGE, "callbacks.checkpoint.every_n_steps=3")
    whole = train(*options)
    train_until_killed(3, tmp_path / "other", *options)
    [killed] = (tmp_path / "other").glob("runs/*/*")
    done = train(f"resume={killed}")
    assert done.status == 0, done.err
    assert whole.directory is not None
    assert differences(whole.directory, killed) == []


@pytest.mark.slow
def test_two_processes_keep_one_average(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    fork_workers(monkeypatch)
    options = (*SMALL, AVERAGE, "model.dropout=0", "trainer.val_check_interval=5")
    several = (*options, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    one, two = train(*options), train(*several)
    for name, weight in average(one).items():
        torch.testing.assert_close(average(two)[name], weight, rtol=0, atol=1e-5)
    for step in (3, 11):
        with monkeypatch.context() as patch:
            stop_at(patch, step, send(signal.SIGTERM))
            stopped = train(*several)
        assert stopped.status == 143
        assert train(f"resume={stopped.directory}").status == 0
        assert two.directory is not None and stopped.directory is not None
        assert differences(two.directory, stopped.directory) == []


@pytest.mark.parametrize("model", ["model=recurrent", "model=hybrid"])
def test_a_resumed_run_may_begin_or_end_its_average(train: Train, model: str) -> None:
    both = (*SMALL, "scheduler=none", model)
    first = (*both, "trainer.max_epochs=1")
    plain = train(*both)
    assert raw(plain) is None
    begins, ends = train(*first), train(*first, AVERAGE)
    assert begins.directory is not None and ends.directory is not None
    path = begins.directory / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["run"]["raw_weights"]  # as in a version without averages
    AtomicCheckpointIO().save_checkpoint(content, path)
    again = "trainer.max_epochs=2"
    assert train(f"resume={begins.directory}", again, AVERAGE).status == 0
    assert_equal(raw(begins), average(plain))
    found = average(begins)
    assert all(not torch.equal(found[name], weight) for name, weight in raw(begins).items())
    assert train(f"resume={ends.directory}", again, "callbacks.average=false").status == 0
    assert_equal(average(ends), average(plain))
    assert raw(ends) is None


def test_buffers_are_not_averaged_and_a_layer_stays_in_one_block_of_memory() -> None:
    model: Any = nn.BatchNorm1d(3)
    block = torch.randn(6)
    model.weight.data, model.bias.data = block[:3], block[3:]
    observer = WeightAverage(RunState(), AverageOptions(enabled=True, decay=0.5), model)
    observer.on_train_start(None, None)  # type: ignore[arg-type]
    before = block.clone()
    trainer: Any = SimpleNamespace(global_step=1, accumulate_grad_batches=1)
    observer.on_train_batch_start(trainer, None, None, 0)  # type: ignore[arg-type]
    with torch.no_grad():
        model.weight.add_(1)
        model.bias.sub_(1)
    model.running_mean.fill_(4)
    model.num_batches_tracked.fill_(7)
    raw = torch.cat([model.weight, model.bias]).detach()
    observer.after_step(trainer, None)
    found = torch.cat([model.weight, model.bias]).detach()
    torch.testing.assert_close(found, 2 / 11 * before + 9 / 11 * raw)
    assert float(model.running_mean[0]) == 4
    assert int(model.num_batches_tracked) == 7
    for each in ([model.weight, model.bias], observer._others):
        assert [one.storage_offset() for one in each] == [0, 3]
        assert len({one.untyped_storage().data_ptr() for one in each}) == 1


def test_ngrams_ignore_the_average(train: Train) -> None:
    counted, plain = (train(*SMALL, "model=ngram", *more) for more in ((AVERAGE,), ()))
    assert counted.status == 0, counted.err
    assert counted.summary["val/loss"] == plain.summary["val/loss"]
    assert_equal(average(counted), average(plain))


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_weights_of_16_bits_are_not_averaged(precision: str) -> None:
    typed = (AVERAGE, f"trainer.precision={precision}")
    with pytest.raises(
        UserError, match=rf"precision={precision}.*choose trainer.precision=bf16-mi"
    ):
        parse(compose_options(*typed))
    parse(compose_options(AVERAGE, "trainer.precision=bf16-mixed"))
    parse(compose_options(*typed, "model=ngram"))
