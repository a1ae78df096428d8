"""Options that other programs need: numbers of steps, smoothed and summed losses, draws."""

import csv
import inspect
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing import plugin_event_accumulator
from torch import Tensor, optim

from lyricgen.data.batch import Batch
from lyricgen.data.build import build_corpus
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.network import LanguageModel
from lyricgen.runs.state import RunState
from lyricgen.training import build
from lyricgen.training.callbacks.figures import SMOOTHED_LOSS, SmoothedLoss
from lyricgen.training.observer_options import SmoothedLossOptions
from lyricgen.training.options import TrainerOptions, parse
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal
from tests.conftest import ROOT, SMALL, TINY, Train
from tests.helpers.composition import compose_options
from tests.helpers.dinosaurs import metrics, smoothed_losses
from tests.helpers.networks import architecture
from tests.helpers.resuming import same_weights, send, stop_at, weights


def test_smoothed_loss_of_every_step(tmp_path: Path) -> None:
    losses = [3.0, 2.5, 4.0, 1.0]
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer: Any = pl.Trainer(accelerator="cpu", logger=logger, enable_checkpointing=False)
    for start in (None, 7.0):
        state = RunState()
        options = SmoothedLossOptions(enabled=True, decay=0.9, start=start)
        callback = SmoothedLoss(state, tmp_path / f"{start}.csv", options)
        expected, value = [], 3.0 if start is None else start
        for step, loss in enumerate(losses, start=1):
            value = 0.9 * value + 0.1 * loss
            expected.append(value)
            outputs = {"loss": torch.tensor(loss, dtype=torch.float64)}
            trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step  # noqa: E501
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = step == len(losses)
            callback.after_step(trainer, outputs)
        with (tmp_path / f"{start}.csv").open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        assert [float(row["loss"]) for row in rows] == losses
        assert [float(row["smoothed_loss"]) for row in rows] == pytest.approx(expected, rel=1e-14)
        callback.after_epoch(trainer, validated=True)
        assert (
            state.metrics[SMOOTHED_LOSS] == state.smoothed_loss == float(rows[-1]["smoothed_loss"])
        )
    logger.save()
    events = plugin_event_accumulator.EventAccumulator(
        str(tmp_path), size_guidance={"tensors": 0}, tensor_size_guidance={"scalars": 0}
    ).Reload()
    drawn = [float(event.tensor_proto.float_val[0]) for event in events.Tensors(SMOOTHED_LOSS)]
    assert drawn[-4:] == pytest.approx(expected, rel=1e-6)


SHORT = (*TINY, "data.max_chars=800", "callbacks.checkpoint.every_n_steps=4")
WATCHED = ("callbacks.smoothed_loss.enabled=true", "callbacks.samples.steps=[3,21]")


def test_max_steps_ends_a_run_within_an_epoch(train: Train) -> None:
    """The run ends after 5 of the 16 batches of its second epoch."""
    longer = train(*SHORT, "scheduler=none")
    run = train(*SHORT, "scheduler=none", "trainer.max_steps=21", "trainer.max_epochs=9")
    assert run.status == 0, run.err
    assert run.directory is not None
    rows = metrics(run)
    assert [(int(row["epoch"]), int(row["step"])) for row in rows] == [(1, 16), (2, 21)]
    assert all(math.isfinite(float(row["val/loss"])) for row in rows)
    assert metrics(longer)[0]["val/loss"] == rows[0]["val/loss"]
    saved = torch.load(run.directory / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 21
    again = train(f"resume={run.directory}")
    assert "it has made its trainer.max_steps" in again.out


@pytest.mark.slow
def test_a_run_with_max_steps_is_resumed_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*SHORT, *WATCHED, "trainer.max_steps=21", "scheduler=cosine")
    whole = train(*options)
    for step in (10, 15, 17, 20):  # 15 is the last exact point of the first epoch
        with monkeypatch.context() as patch:
            stop_at(patch, step, send(15))
            stopped = train(*options)
        assert stopped.status == 143
        assert stopped.directory is not None
        assert train(f"resume={stopped.directory}").status == 0
        assert same_weights(weights(whole.directory), weights(stopped.directory))
        assert smoothed_losses(stopped.directory) == smoothed_losses(whole.directory)
        assert list(smoothed_losses(stopped.directory)) == list(range(1, 22))
        assert whole.directory is not None
        name = "samples.jsonl"
        assert (stopped.directory / name).read_bytes() == (whole.directory / name).read_bytes()


@pytest.mark.parametrize(
    "stop",
    [
        ("callbacks.early_stopping.patience=1", "optimizer.lr=0.9", "trainer.max_epochs=9"),
        ("trainer.max_steps=12",),
    ],
)
@pytest.mark.parametrize("kept", [True, False], ids=["checkpoints", "no checkpoints"])
def test_every_step_is_written_wherever_training_ends(
    train: Train, stop: tuple[str, ...], kept: bool
) -> None:
    checkpoint = f"callbacks.checkpoint.enabled={str(kept).lower()}"
    run = train(*TINY, *WATCHED, "trainer.val_check_interval=7", checkpoint, *stop)
    assert run.status == 0, run.err
    last = metrics(run)[-1]
    values = smoothed_losses(run.directory)
    assert list(values) == list(range(1, int(last["step"]) + 1))
    assert float(last["train/smoothed_loss"]) == values[int(last["step"])]
    assert all(row["train/smoothed_loss"] for row in metrics(run))


def test_a_run_that_stops_early_within_an_epoch_is_finished(train: Train) -> None:
    stop = ("callbacks.early_stopping.patience=2", "optimizer.lr=0.9", "trainer.max_epochs=9")
    run = train(*SMALL, "trainer.val_check_interval=2", *stop)
    assert run.status == 0, run.err
    assert run.directory is not None
    last = int(metrics(run)[-1]["step"])
    assert last % 30 != 0  # batches of an epoch
    assert torch.load(run.directory / "checkpoints/last.ckpt")["global_step"] == last
    assert run.summary["chars_per_second"] > 0
    again = train(f"resume={run.directory}")
    assert again.status == 0, again.err
    assert "is finished: a larger callbacks.early_stopping.patience makes it longer" in again.out
    assert len(metrics(run)) == last // 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.check_val_every_n_epoch=2"], "nothing would be validated"),
        (["trainer.val_check_interval=99"], "is more than the 16 steps of an epoch"),
    ],
)
def test_max_steps_without_a_validation_is_refused(
    train: Train, options: list[str], message: str
) -> None:
    run = train(*SHORT, "trainer.max_steps=5", *options)
    assert run.status == 2
    assert message in run.err


def test_max_steps_below_the_validation_interval_still_validates(train: Train) -> None:
    run = train(*SHORT, "trainer.max_steps=5", "trainer.val_check_interval=10")
    assert run.status == 0, run.err
    assert [row["step"] for row in metrics(run)] == ["5"]
    assert metrics(run)[0]["val/loss"]


def test_samples_after_single_steps(train: Train) -> None:
    run = train(*SHORT, "callbacks.samples.steps=[2,16]", "callbacks.samples.every_n_epochs=1")
    assert run.directory is not None
    texts = map(json.loads, (run.directory / "samples.jsonl").read_text("utf-8").splitlines())
    steps = [text["step"] for text in texts]
    assert list(dict.fromkeys(steps)) == [0, 2, 16, 32]
    assert steps.count(2) == steps.count(16) == steps.count(32)  # not twice after step 16
    only = train(*SHORT, "callbacks.samples.steps=[2]", "callbacks.samples.every_n_epochs=0")
    assert only.directory is not None
    texts = map(json.loads, (only.directory / "samples.jsonl").read_text("utf-8").splitlines())
    assert next(texts)["step"] == 2


def test_numpys_generator_draws_the_initial_weights_as_course_code_does() -> None:
    def initial_weights(cell: dict[str, Any], **options: Any) -> dict[str, Tensor]:
        built = architecture(cell, input="one_hot", init="numpy_normal_0.01", **options)
        model = LanguageModel(built).double()
        model.initialise(1)
        return model.state_dict()

    np.random.seed(1)
    wax, waa, wya = (0.01 * np.random.randn(*shape) for shape in ((4, 5), (4, 4), (5, 4)))
    scratch = initial_weights({"kind": "rnn_scratch"})
    assert np.array_equal(scratch["recurrence.blocks.0.input_weight"].T.numpy(), wax)
    assert np.array_equal(scratch["recurrence.blocks.0.hidden_weight"].T.numpy(), waa)
    assert np.array_equal(scratch["output.weight"].numpy(), wya)
    library = initial_weights({"kind": "rnn", "nonlinearity": "tanh"})
    assert np.array_equal(library["recurrence.blocks.0.weight_ih_l0"].numpy(), wax)
    assert np.array_equal(library["recurrence.blocks.0.weight_hh_l0"].numpy(), waa)
    for state in (scratch, library):
        assert all(not tensor.any() for tensor in state.values() if tensor.dim() == 1)
    forgetful = initial_weights({"kind": "lstm_scratch", "forget_bias": 1.0})
    assert forgetful["recurrence.blocks.0.bias"].tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


def test_a_summed_loss_has_the_gradient_of_all_characters() -> None:
    """The gradient of the sum is that of the mean times the number of characters."""
    batch = Batch(
        torch.tensor([[0, 1, 2], [3, 4, 0]]),
        torch.tensor([[1, 2, 3], [4, 0, -100]]),
        torch.zeros(2, dtype=torch.int64),
        True,
        5,
    )
    gradients = {}
    for reduction in ("mean", "sum"):
        torch.manual_seed(0)
        module = RecurrentModule(
            LanguageModel(architecture("rnn")).double(),
            partial(optim.SGD, lr=0.1),
            lambda _: None,
            label_smoothing=0.1,
            reduction=reduction,  # type: ignore[arg-type]
            card={},
            state=RunState(),
            total=NatsTotal(Vocabulary("ab")),
            seed=1,
        )
        module.training_step(batch, 0).backward()
        gradients[reduction] = [parameter.grad for parameter in module.model.parameters()]
        assert module.totals["train"].characters == 5
    for mean, total in zip(gradients["mean"], gradients["sum"], strict=True):
        torch.testing.assert_close(5 * mean, total, rtol=1e-12, atol=0)


def test_equal_lines_are_kept_once(train: Train, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Ab\ncd\nAB\n cd \nef\n" * 9, "utf-8")
    options = (*TINY, "data=text", "data.path=names.txt", "data.unit=line", "data.lowercase=true")
    run = train(*options, "data.distinct=true", "data.batch_size=1", "data.val_fraction=0",
                "data.test_fraction=0")  # fmt: skip
    assert run.status == 0, run.err
    assert "text: 9 characters" in run.out.replace("names.txt", "text")
    refused = train(*TINY, "data.distinct=true")
    assert refused.status == 2
    assert "data.distinct=true keeps each line once: it needs data.unit=line" in refused.err


@pytest.mark.parametrize("init", ["torch", "normal_0.01", "numpy_normal_0.01"])
@pytest.mark.parametrize("output_bias", ["init", "zero", "unigram"])
def test_the_initial_output_bias(init: str, output_bias: str) -> None:
    overrides = ("data.batch_size=2", f"model.init={init}", f"model.output_bias={output_bias}")
    options = parse(compose_options("recipe=none", *overrides))
    corpus = build_corpus(options.data)
    datamodule = build.build_datamodule(options, corpus)
    bias = build.build_model(options, datamodule).state_dict()["output.bias"]
    if output_bias == "unigram":  # logarithms of probabilities
        assert float(bias.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    else:
        assert bool(bias.any()) == (init == "torch" and output_bias == "init")


# Arguments of Lightning's Trainer


def test_each_argument_of_the_trainer_is_a_setting_or_left_out_for_a_reason() -> None:
    arguments = set(inspect.signature(pl.Trainer).parameters)
    settings = set(TrainerOptions.model_fields) - {"float32_matmul_precision"}  # torch's
    page = (ROOT / "docs/train.md").read_text("utf-8")
    section = page.partition("### Arguments of Lightning's Trainer")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    left_out = [name for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    assert len(left_out) == len(set(left_out))
    assert all(len(row) == 4 and row[2].strip() for row in rows)
    assert settings <= arguments
    assert set(left_out) == arguments - settings


def test_an_anomaly_ends_a_run_where_it_arises(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RecurrentModule.training_step

    def spoil(self: RecurrentModule, *arguments: Any) -> Tensor:
        loss = original(self, *arguments)
        return loss + 0 * (loss - loss.detach()).sqrt()  # whose slope is 0 · ∞

    monkeypatch.setattr(RecurrentModule, "training_step", spoil)
    with pytest.raises(RuntimeError, match=r"SqrtBackward0.* returned nan values"):
        train(*SMALL, "trainer.detect_anomaly=true")
    assert "training diverged" in train(*SMALL).err


def test_detecting_anomalies_changes_no_weights_and_may_change(
    train: Train, trained: Train
) -> None:
    plain = trained(*TINY)
    watched = train(*TINY, "trainer.detect_anomaly=true")
    assert same_weights(weights(plain.directory), weights(watched.directory))
    again = train(f"resume={watched.directory}", "trainer.detect_anomaly=false")
    assert again.status == 0, again.err


@pytest.mark.parametrize("typed", [True, False])
def test_cudnn_is_told_to_compare_its_kernels(
    train: Train, monkeypatch: pytest.MonkeyPatch, typed: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not typed)
    run = train(*SMALL, "debug=one_batch", f"trainer.benchmark={str(typed).lower()}")
    assert run.status == 0, run.err
    assert torch.backends.cudnn.benchmark is typed
    refused = train(*SMALL, "trainer.benchmark=true", "trainer.deterministic=true")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "trainer.benchmark=true lets cuDNN choose" in refused.err
