"""The train command, from its command line to the files in the run's directory."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import lyricgen
from lyricgen.runs.newest import newest_checkpoint
from tests.conftest import (
    SMALL,
    TINY,
    Train,
    copy_run,
    hear_ctrl_c,
    newest_of,
    summary_of,
    until,
)

SAMPLERS = {
    "consecutive": ("sampler=consecutive",),
    "random": ("sampler=random", "sampler.random_offset=true"),
    "lines": ("data=dino", "data.max_chars=1500"),
}


def rows_of(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def samples_of(directory: Path) -> list[dict[str, Any]]:
    text = (directory / "samples.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def weights_of(directory: Path, name: str = "last") -> dict[str, torch.Tensor]:
    path = directory / "checkpoints" / f"{name}.ckpt"
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_files_of_a_run_agree(train: Train) -> None:
    done = train(*TINY)
    assert done.status == 0, done.err
    assert done.directory is not None
    rows = rows_of(done.directory)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    best = min(rows, key=lambda row: float(row["val/loss"]))
    summary = done.summary
    assert summary["status"] == "finished"
    assert summary["best_epoch"] == int(best["epoch"])
    # the best weights are loaded and scored again, which must give the figure of their epoch
    assert summary["val/perplexity"] == float(best["val/perplexity"])
    assert summary["train/perplexity"] == float(best["train/perplexity"])
    assert newest_of() == done.directory
    assert newest_checkpoint().resolve() == done.directory / "checkpoints" / "best.ckpt"


def test_figures_of_a_row_agree(trained: Train) -> None:
    done = trained(*TINY)
    assert done.directory is not None
    for row in rows_of(done.directory):
        for split in ("train", "val"):
            loss = float(row[f"{split}/loss"])
            assert float(row[f"{split}/perplexity"]) == pytest.approx(math.exp(loss), rel=1e-12)
            bits = float(row[f"{split}/bits_per_char"])
            assert bits == pytest.approx(loss / math.log(2), rel=1e-12)
        orders = done.summary["ngram_perplexities"]["val"]["kneser_ney"]
        assert float(row["val/ngram_perplexity"]) == min(orders)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_seed_gives_the_same_bits(train: Train, sampler: str) -> None:
    options = (*TINY, *SAMPLERS[sampler], "layers=2", "depth.dropout=0.2")
    one, other = train(*options), train(*options)
    assert one.directory is not None
    assert other.directory is not None
    assert_same_weights(one.directory, other.directory)
    timed = {"train/chars_per_second"}
    for first, second in zip(rows_of(one.directory), rows_of(other.directory), strict=True):
        assert {k: v for k, v in first.items() if k not in timed} == {
            k: v for k, v in second.items() if k not in timed
        }
    assert samples_of(one.directory) == samples_of(other.directory)
    different = train(*options, "seed=2")
    assert different.directory is not None
    assert samples_of(one.directory) != samples_of(different.directory)


@pytest.mark.parametrize(
    "without", ["callbacks.samples.every_n_epochs=0", "callbacks.baseline.enabled=false"]
)
def test_callbacks_do_not_change_the_weights(train: Train, trained: Train, without: str) -> None:
    watched, unwatched = trained(*TINY), train(*TINY, without)
    assert watched.directory is not None
    assert unwatched.directory is not None
    assert_same_weights(watched.directory, unwatched.directory)


def test_tensorboard_shows_the_figures_and_texts_of_the_files(train: Train) -> None:
    done = train(*TINY, "callbacks.samples.prefixes=['分开']", "callbacks.samples.count=2")
    assert done.directory is not None
    events = EventAccumulator(
        str(done.directory),
        size_guidance={"tensors": 0},
        tensor_size_guidance={"scalars": 0, "text": 0},
    )
    events.Reload()
    rows = rows_of(done.directory)
    for name in ("train/perplexity", "val/perplexity", "val/ngram_perplexity", "train/grad_norm"):
        drawn = [(e.step, float(e.tensor_proto.float_val[0])) for e in events.Tensors(name)]
        written = [(int(row["step"]), float(row[name])) for row in rows]
        assert [step for step, _ in drawn] == [step for step, _ in written]
        assert [v for _, v in drawn] == pytest.approx([v for _, v in written], rel=1e-6)
    shown = events.Tensors("samples/text_summary")
    assert [event.step for event in shown] == [0, *(int(row["step"]) for row in rows)]
    for epoch, event in enumerate(shown):
        greedy, one, other = (
            # indented by four, so that Markdown keeps the line breaks
            "\n".join(f"    {line}" for line in each["text"].split("\n"))
            for each in samples_of(done.directory)
            if each["epoch"] == epoch
        )
        assert event.tensor_proto.string_val[0].decode() == (
            f"**epoch {epoch}, greedy**\n\n{greedy}\n\n"
            f"**epoch {epoch}, temperature 0.8**\n\n{one}\n\n---\n\n{other}"
        )
    [*_, last] = events.Tensors("run/best_val_perplexity")
    assert last.tensor_proto.float_val[0] == pytest.approx(done.summary["val/perplexity"], rel=1e-6)
    started = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    columns = HParamsPluginData.FromString(started).session_start_info.hparams
    assert columns["cell"].string_value == "lstm"
    assert columns["hidden_size"].number_value == 16
    assert columns["data.distinct"].WhichOneof("kind") == "bool_value"
    assert not {"trainer.accelerator", "callbacks.samples.count"} & set(columns)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "shown"), [(1, ["5"]), (2, ["6"]), (4, ["8"])])
def test_the_terminal_shows_texts_of_every_fifth_epoch(
    train: Train, every: int, shown: list[str]
) -> None:
    done = train(*TINY, "trainer.max_epochs=8", f"callbacks.samples.every_n_epochs={every}")
    assert re.findall(r"samples after epoch (\d+)", done.out) == shown
    assert "untrained (temperature 0.8)" in done.out
    assert done.directory is not None
    epochs = {each["epoch"] for each in samples_of(done.directory)}
    assert set(range(0, 9, every)) <= epochs


def test_early_stopping_waits_for_its_patience(train: Train) -> None:
    stop = ("callbacks.early_stopping.min_delta=100", "callbacks.early_stopping.patience=2")
    done = train(*TINY, *stop, "trainer.max_epochs=9", "callbacks.samples.every_n_epochs=0")
    assert done.summary["epochs"] == 3  # the first is the best, two more do not beat it by 100


def test_without_held_out_text_training_perplexity_decides(train: Train) -> None:
    done = train(*TINY, "data.val_fraction=0", "data.test_fraction=0")
    assert done.status == 0, done.err
    assert done.directory is not None
    rows = rows_of(done.directory)
    assert not any(name.startswith(("val/", "test/")) for name in rows[0])
    best = min(float(row["train/perplexity"]) for row in rows)
    assert done.summary["train/perplexity"] == best
    assert (done.directory / "checkpoints" / "best.ckpt").is_file()


def test_init_from_starts_with_the_weights_of_a_run(train: Train, trained: Train) -> None:
    first = copy_run(trained(*TINY))
    assert first.directory is not None
    second = train(*TINY, "init_from=latest", "optimizer.lr=1e-12", "seed=7")
    assert second.status == 0, second.err
    assert second.summary["val/perplexity"] == pytest.approx(
        first.summary["val/perplexity"], rel=1e-4
    )


def test_the_best_checkpoint_holds_the_best_weights(train: Train) -> None:
    # the rate is so high that the network is best before its last epoch
    done = train(*TINY, "optimizer.lr=1", "scheduler=none", "trainer.max_epochs=4")
    assert done.directory is not None
    losses = [float(row["val/loss"]) for row in rows_of(done.directory)]
    best = losses.index(min(losses))
    assert best < 3, "this test needs a run that gets worse"
    assert done.summary["best_epoch"] == best + 1
    assert done.summary["val/loss"] == losses[best]


def test_a_diverging_run_fails_and_reports_it(train: Train) -> None:
    wild = ("optimizer=sgd", "optimizer.lr=1e38", "trainer.gradient_clip_val=null")
    done = train(*TINY, *wild, "scheduler=none")
    assert done.status == 2
    assert "training diverged in epoch 1" in done.err
    assert "optimizer.lr" in done.err
    assert done.summary["status"] == "failed"
    assert "diverged" in done.summary["reason"]


def test_training_into_the_directory_of_a_run_is_refused(train: Train, trained: Train) -> None:
    first = copy_run(trained(*TINY))
    assert first.directory is not None
    kept = (first.directory / "metrics.csv").read_text("utf-8")
    again = train(*TINY, f"hydra.run.dir='{first.directory}'", "layers=2")
    assert again.status == 2
    assert "holds a run already" in again.err
    assert (first.directory / "metrics.csv").read_text("utf-8") == kept
    assert (first.directory / "train.log").exists()


def test_samples_of_a_text_of_lines_are_single_lines(train: Train, tmp_path: Path) -> None:
    names = [f"{a}{b}os" for a in "abcdefgh" for b in "klmnpqrs"]
    (tmp_path / "names.txt").write_text("\n".join(names), "utf-8")
    lines = (*TINY, "data=text", "data.path=names.txt", "data.unit=line")
    by_itself = train(*lines)
    assert by_itself.status == 0, by_itself.err
    assert by_itself.directory is not None
    assert all("\n" not in sample["text"] for sample in samples_of(by_itself.directory))
    assert {sample["prefix"] for sample in samples_of(by_itself.directory)} == {""}
    chosen = train(*lines, "sampler=consecutive")
    assert chosen.directory is not None
    assert {sample["prefix"] for sample in samples_of(chosen.directory)} != {""}


@pytest.mark.parametrize("prefixes", ["['分开']", "['分开','我']"])
def test_a_run_ends_with_three_texts_of_its_best_weights(train: Train, prefixes: str) -> None:
    done = train(*TINY, f"callbacks.samples.prefixes={prefixes}")
    assert done.directory is not None
    texts = done.summary["samples"]
    assert len(texts) == 3
    written = [sample["text"] for sample in samples_of(done.directory)]
    assert all(text in written for text in texts)
    if "我" in prefixes:
        assert {text[0] for text in texts} == {"分", "我"}


@pytest.mark.slow
def test_a_run_trains_on_a_terminal_without_chinese(tmp_path: Path) -> None:
    environment = {**os.environ, "LYRICGEN_OUTPUTS": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "lyricgen.train", *TINY, "trainer.max_epochs=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\\u5206\\u5f00" in done.stdout


@pytest.mark.slow
def test_a_sweep_has_a_directory_for_each_job(train: Train) -> None:
    done = train("-m", *TINY, "trainer.max_epochs=1", "cell=rnn,gru")
    assert done.status == 0, done.err
    sweep = newest_of()
    jobs = sorted(path.parent.name for path in sweep.glob("*/.hydra"))
    assert [name.split("_")[0] for name in jobs] == ["0", "1"]
    assert "cell=rnn" in jobs[0]
    assert "cell=gru" in jobs[1]
    assert newest_checkpoint().parents[1].name == jobs[1]


def test_profile_lands_in_the_run_directory(train: Train) -> None:
    done = train(*TINY, "debug=profile", "trainer.max_epochs=1")
    assert done.directory is not None
    profiles = list(done.directory.glob("*profile*"))
    assert "run_training_batch" in profiles[0].read_text("utf-8")


def test_one_batch_trains_one_batch(train: Train) -> None:
    options = [option for option in TINY if not option.startswith("trainer.max_epochs")]
    done = train(*options, "debug=one_batch")
    assert done.directory is not None
    assert [row["step"] for row in rows_of(done.directory)] == ["1"]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["consecutive", "random"])
def test_overfit_learns_a_page_by_heart(train: Train, sampler: str) -> None:
    unwatched = ("callbacks.samples.every_n_epochs=0", "callbacks.checkpoint.enabled=false")
    few = "trainer.max_epochs=30"
    done = train("trainer=cpu", "debug=overfit", f"sampler={sampler}", few, *unwatched)
    assert done.summary["train/perplexity"] < 1.2


@pytest.mark.slow
def test_ctrl_c_ends_a_run_in_order(tmp_path: Path) -> None:
    environment = {**os.environ, "LYRICGEN_OUTPUTS": str(tmp_path)}
    command = [sys.executable, "-m", "lyricgen.train", "recipe=none", "trainer=cpu"]
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=500", "callbacks.early_stopping.enabled=false"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,  # noqa: PLW1509
    )
    until(lambda: process.poll() is not None or list(tmp_path.rglob("last.ckpt")))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    [summary] = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text("utf-8"))["status"] == "interrupted"
    [checkpoint] = tmp_path.rglob("last.ckpt")
    assert len(lyricgen.load(checkpoint).generate(length=5)) == 5


@pytest.mark.slow
def test_the_default_run_beats_its_baselines(train: Train) -> None:
    """The network alone is better than the unigram, the model than the best n-gram.

    LYRICGEN_DEFAULT_RUN is the directory of a default run that .ci/run has trained already.
    """
    done = os.environ.get("LYRICGEN_DEFAULT_RUN")
    summary = summary_of(Path(done)) if done else train("trainer=cpu").summary
    assert summary["status"] == "finished"
    assert not done or summary["overrides"] == []
    for split in ("val", "test"):
        orders = summary["ngram_perplexities"][split]["kneser_ney"]
        assert summary[f"{split}/network_perplexity"] < orders[0]
        assert summary[f"{split}/perplexity"] < min(orders)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_gpu_reaches_the_loss_of_the_cpu(train: Train, precision: str) -> None:
    options = [option for option in TINY if option != "trainer=cpu"]
    on_cpu = train(*TINY, "model.dropout=0")
    on_gpu = train(*options, "trainer=gpu", f"trainer.precision={precision}", "model.dropout=0")
    assert on_gpu.status == 0, on_gpu.err
    assert on_gpu.summary["val/loss"] == pytest.approx(on_cpu.summary["val/loss"], rel=0.02)


def test_a_precision_replaced_on_a_cpu_is_reported_in_one_line(train: Train) -> None:
    # the tests turn a warning of Lightning into an error
    done = train(*SMALL, "trainer.precision=16-mixed", "cell=lstm_scratch", "trainer.max_epochs=1")
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if "16-mixed" in line]
    assert lines == ["trainer.precision=16-mixed: a CPU computes with bf16-mixed instead"]
