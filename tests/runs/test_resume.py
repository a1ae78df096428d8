"""Resuming a run is exact wherever it was stopped; other settings are refused."""

import csv
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock

from lyricgen import train as command
from lyricgen.cli.recorded_settings import with_recorded_settings
from lyricgen.cli.typed_arguments import expand
from lyricgen.errors import UserError
from lyricgen.runs.checkpoint_files import is_sound
from lyricgen.runs.interruption import SIGNALS, Interrupted, handle_signals
from lyricgen.runs.state import FREE, RunState, forbidden_changes, rewind, sync_growing_files
from lyricgen.training.callbacks.checkpoints import Checkpoints
from lyricgen.training.callbacks.samples import Samples
from lyricgen.training.fitting import NetworkTraining
from lyricgen.training.recurrent_module import RecurrentModule
from tests.conftest import ROOT, TINY, Train, TrainingResult, copy_run, messages
from tests.helpers.processes import start_process
from tests.helpers.resuming import same_weights, send, stop_at, weights

SHORT = (*TINY, "data.max_chars=800", "callbacks.checkpoint.every_n_steps=4")


# Stopping and resuming


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)],
)
def test_a_signal_saves_and_stops_and_names_the_command_to_resume(
    train: Train, trained: Train, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    whole = trained(*SHORT)
    with monkeypatch.context() as patch:
        stop_at(patch, 6, send(number))
        stopped = train(*SHORT)
    assert stopped.directory is not None
    assert stopped.status == status
    assert "Traceback" not in stopped.err
    assert stopped.summary["status"] == "interrupted"
    saved = torch.load(stopped.directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 7  # the step was finished; the next regular checkpoint is at 8
    [line] = [line for line in stopped.out.splitlines() if "to go on: " in line]
    command = shlex.split(line.partition("to go on: ")[2])
    assert command[:3] == ["python", "-m", "lyricgen.train"]
    record = {path: path.read_bytes() for path in stopped.directory.glob(".hydra/*")}
    done = train(*command[3:])
    assert done.status == 0, done.err
    assert record == {path: path.read_bytes() for path in stopped.directory.glob(".hydra/*")}
    assert same_weights(weights(whole.directory), weights(stopped.directory))
    assert table(whole) == table(done)
    summary = stopped.summary
    assert summary["status"] == "finished"
    assert len(summary["resumed"]) == 1
    for name in ("val/perplexity", "test/perplexity", "best_epoch", "samples"):
        assert summary[name] == whole.summary[name]


def table(run: TrainingResult) -> list[str]:
    """Return the table at the end of a run without speeds and paths."""
    lines = run.out[run.out.index("perplexity at epoch") :].splitlines()
    left_out = ("characters/s", "best checkpoint: ", "to write a text: ")
    return [line for line in lines if not any(words in line for words in left_out)]


def test_latest_names_the_stopped_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 3, send(signal.SIGTERM))
        stopped = train(*SHORT)
    done = train("resume=latest")
    assert done.status == 0, done.err
    assert stopped.summary["status"] == "finished"


def test_an_interrupt_hidden_by_the_error_of_a_library_is_recognised(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        try:
            try:
                raise KeyboardInterrupt
            finally:
                None.half_made  # type: ignore[attr-defined]  # noqa: B018
        except AttributeError as error:
            raise ValueError("full_key: hydra.runtime") from error.__cause__

    monkeypatch.setattr(command.hydra, "main", lambda *_, **__: lambda _: interrupt)
    stopped = train()
    assert (stopped.status, stopped.err) == (130, "")


def test_a_second_signal_stops_at_once(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    stop_at(monkeypatch, 6, twice)
    stopped = train(*SHORT)
    assert stopped.status == 130
    assert stopped.directory is not None
    saved = torch.load(stopped.directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4  # not the step of the signal
    assert stopped.summary["status"] == "interrupted"


def test_a_run_without_checkpoints_stops_at_once(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 6, send(signal.SIGTERM))
    stopped = train(*SHORT, "callbacks.checkpoint.enabled=false")
    assert (stopped.status, stopped.summary["status"]) == (143, "interrupted")
    assert "to go on: " not in stopped.out
    assert "interrupted without a checkpoint; to train from the start: python -m" in stopped.out


@pytest.mark.parametrize("place", ["val", "samples", "test"])
def test_a_run_stopped_outside_of_a_step_is_resumed(
    train: Train, trained: Train, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Validation and sampling wait for the end of the epoch; testing stops at once."""
    whole = trained(*SHORT)
    kind, name = {
        "val": (RecurrentModule, "on_validation_epoch_start"),
        "samples": (Samples, "draw"),
        "test": (NetworkTraining, "score"),
    }[place]
    original, calls = getattr(kind, name), []

    def interrupt(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == (1 if place == "test" else 2):
            send(signal.SIGTERM)()
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, interrupt)
        stopped = train(*SHORT)
    assert stopped.status == 143
    assert stopped.directory is not None
    done = train(f"resume={stopped.directory}")
    assert done.status == 0, done.err
    assert table(done) == table(whole)
    for name in ("samples.jsonl", "metrics.csv"):
        assert len(lines(stopped, name)) == len(lines(whole, name))
    assert lines(stopped, "samples.jsonl") == lines(whole, "samples.jsonl")


def lines(run: TrainingResult, name: str) -> list[str]:
    assert run.directory is not None
    return (run.directory / name).read_text("utf-8").splitlines()


@pytest.mark.slow
def test_a_run_in_a_directory_with_a_strange_name_is_resumed(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra and OmegaConf must not change the quoted path."""
    for name in ("a b", "歌词", "it's", 'a"b', "a=b,c", "[x]{y}", "back\\slash", "end\\"):
        place = tmp_path / name
        place.mkdir()
        monkeypatch.setenv("LYRICGEN_OUTPUTS", str(place))
        with monkeypatch.context() as patch:
            stop_at(patch, 3, send(signal.SIGTERM))
            stopped = train(*SHORT, "trainer.max_epochs=1")
        assert stopped.status == 143, stopped.err
        done = train("resume=latest")
        assert done.status == 0, (name, done.err)
        assert stopped.summary["status"] == "finished"


def kill_at(train: Train, monkeypatch: pytest.MonkeyPatch, step: int, *options: str) -> Path:
    """Kill a run after a step, and return its directory."""

    class Killed(BaseException):
        pass

    def kill() -> NoReturn:
        raise Killed

    before = set(Path("outputs").rglob("summary.json"))
    with monkeypatch.context() as patch:
        stop_at(patch, step, kill)
        with pytest.raises(Killed):
            train(*SHORT, *options)
    [summary] = set(Path("outputs").rglob("summary.json")) - before
    return summary.parent.resolve()


@pytest.mark.parametrize(
    "options",
    [
        ("optimizer=sgd",),
        ("optimizer=muon",),
        ("trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_val=0.001"),
    ],
)
def test_a_killed_run_goes_on_exactly_from_its_last_checkpoint(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    whole = train(*SHORT, *options)
    directory = kill_at(train, monkeypatch, 6, *options)
    saved = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4
    done = train(f"resume={directory}")
    assert done.status == 0, done.err
    assert same_weights(weights(whole.directory), weights(directory))
    assert table(done) == table(whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    train: Train, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(*SHORT)
    directory = kill_at(train, monkeypatch, 2)
    done = train(f"resume={directory}")
    assert done.status == 0, done.err
    assert table(done) == table(whole)
    assert (directory / "samples.jsonl").read_text("utf-8") == "\n".join(
        [*lines(whole, "samples.jsonl"), ""]
    )


# The run to resume, and settings that can change


def test_resuming_a_finished_run_changes_nothing(train: Train, trained: Train) -> None:
    first = copy_run(trained(*SHORT))
    files = {path: path.read_bytes() for path in first.directory.rglob("*ckpt*")}  # type: ignore[union-attr]
    again = train("resume=latest")
    assert (again.status, messages(again.err)) == (0, [])
    assert "is finished" in again.out
    assert {path: path.read_bytes() for path in files} == files


def test_a_finished_run_can_be_made_longer(train: Train) -> None:
    """With a schedule that ignores the length, it equals a run that was longer from the start."""
    options = (*SHORT, "scheduler=none", "seed=5")
    long = train(*options, "trainer.max_epochs=3")
    short = train(*options, "trainer.max_epochs=2")
    done = train("resume=latest", "trainer.max_epochs=3", "callbacks.samples.temperature=0.5")
    assert done.status == 0, done.err
    assert same_weights(weights(long.directory), weights(short.directory))
    assert short.summary["val/perplexity"] == long.summary["val/perplexity"]
    assert short.summary["epochs"] == 3


@pytest.mark.slow
def test_a_run_after_early_stopping_stays_finished(train: Train) -> None:
    options = (*SHORT, "optimizer.lr=0.5", "trainer.max_epochs=9")
    first = train(*options, "callbacks.early_stopping.patience=1")
    assert first.summary["epochs"] < 9
    assert "a larger callbacks.early_stopping.patience" in train("resume=latest").out
    assert "is finished" in train("resume=latest", "trainer.max_epochs=10").out
    patient = train("resume=latest", "callbacks.early_stopping.patience=3")
    assert patient.status == 0, patient.err
    assert first.summary["epochs"] > 2


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("cell=gru", "cell=lstm (now: gru)"),
        ("optimizer.lr=0.5", "optimizer.lr=0.01 (now: 0.5)"),
        ("data.batch_size=5", "data.batch_size=4 (now: 5)"),
        ("seed=7", "seed=1 (now: 7)"),
        ("sampler=random", "sampler=consecutive (now: random)"),
        ("depth.residual=true", "depth.residual=false (now: true)"),
    ],
)
def test_a_changed_setting_of_the_mathematics_is_refused(
    train: Train, trained: Train, override: str, shown: str
) -> None:
    first = trained(*SHORT)
    before = first.summary
    refused = train(f"resume={first.directory}", override)
    assert refused.status == 2
    [line] = messages(refused.err)
    assert shown in line
    assert line.endswith(f"init_from={first.directory}")
    assert first.summary == before


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["consecutive", "random"])
def test_a_setting_with_a_changed_default_keeps_its_old_value(train: Train, sampler: str) -> None:
    """The summary is of a version with drop_last=true, which sampler=random did not record."""
    typed = (*SHORT, f"sampler={sampler}", "trainer.max_epochs=1")
    first = train(*typed, "sampler.drop_last=true")
    assert first.directory is not None
    summary = first.summary
    for group in (summary["options"]["data"], summary["options"]["sampler"]):
        group.pop("control_characters", None)
        group.pop("drop_last", None) if sampler == "random" else None
    summary["overrides"].remove("sampler.drop_last=true")
    (first.directory / "summary.json").write_text(json.dumps(summary), "utf-8")
    for epochs in (2, 3):
        done = train(f"resume={first.directory}", f"trainer.max_epochs={epochs}")
        assert done.status == 0, done.err
        assert first.summary["epochs"] == epochs
    assert first.summary["options"]["sampler"]["drop_last"] is True
    record = (first.directory / ".hydra/config.yaml").read_text("utf-8")
    assert "drop_last: true" in record
    for override in ("sampler.drop_last=false", "sampler=lines"):
        refused = train("resume=latest", override, "data.unit=line")
        assert refused.status == 2
        assert "a run goes on as it began" in refused.err


def test_only_settings_that_were_not_typed_come_from_the_record(tmp_path: Path) -> None:
    before = {"seed": 1, "old": 1, "cell": {"kind": "rnn", "a": 1}, "data": {"x": 1, "y": 1}}
    record = {"status": "failed", "options": before, "overrides": ["seed=1"]}
    (tmp_path / "summary.json").write_text(json.dumps(record), "utf-8")
    now = {"seed": 2, "new": 2, "cell": {"kind": "gru", "b": 2}, "data": {"x": 2, "y": 2, "z": 2}}
    found = {
        "seed": 2, "new": 2, "cell": {"kind": "rnn", "a": 1, "kernel": "torch"},
        "data": {"x": 1, "y": 2, "z": 2},
    }  # fmt: skip
    assert with_recorded_settings(tmp_path, now, ["seed=2", "data.y=2"]) == found
    # the version of the record had no recipe
    plain = with_recorded_settings(tmp_path, now, ["recipe=none", "seed=2", "data.y=2"])
    assert plain == found
    assert with_recorded_settings(tmp_path, now, ["recipe=auto", "seed=2"]) == now
    assert with_recorded_settings(tmp_path, now, ["seed=1", "cell.b=2"])["cell"] == {
        "kind": "gru",
        "b": 2,
    }
    assert with_recorded_settings(tmp_path, now, ["experiment=dino"]) == now
    assert with_recorded_settings(tmp_path / "elsewhere", now, []) == now


def test_the_page_on_training_names_the_settings_that_can_change() -> None:
    text = (ROOT / "docs/train.md").read_text("utf-8")
    listed = text.partition("These settings may change")[2].partition("Any other change")[0]
    assert set(re.findall(r"`([a-z_.]+)`", listed)) == set(FREE) - {"resume"}


def test_every_change_is_named() -> None:
    recorded = {"seed": 1, "cell": {"kind": "lstm", "forget_bias": None}, "name": "a"}
    recorded |= {"trainer": {"max_epochs": 2}}
    now = {"seed": 1, "cell": {"kind": "gru"}, "name": "b", "trainer": {"max_epochs": 3}}
    assert forbidden_changes(recorded, now) == [
        "cell=lstm (now: gru)",
        "cell.forget_bias=null (now: absent)",
    ]
    assert forbidden_changes({"betas": (0.9, 0.99)}, {"betas": [0.9, 0.99]}) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=latest"], "no run found"),
        (["resume=nowhere"], "'nowhere': no run in 'outputs' has this id or name"),
        (["resume=''"], "'': no run in 'outputs' has this id or name"),
        (["resume=no/where"], "not the directory of a run"),
        (["like=nowhere"], "'nowhere': no run in 'outputs' has this id or name"),
        (["like=no/where"], "not the directory of a run"),
        (["resume=sweep", "-m"], "leave out -m"),
        (["resume=sweep"], "multirun.yaml' cannot be read"),
        (["resume=sweep", "hydra.sweep.dir=x"], "leave out hydra.sweep.dir=x"),
        (["resume=sweep/0", "-m"], "leave out -m"),
        (["resume=sweep/0", "hydra.run.dir=x"], "leave out hydra.run.dir=x"),
        (["resume=sweep/0", "++hydra.mode=MULTIRUN"], "leave out"),
        (["resume=broken"], "cannot be read"),
    ],
)
def test_resuming_anything_but_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path / "sweep/0")
    (tmp_path / "sweep/multirun.yaml").touch()
    write_record(tmp_path / "broken")
    (tmp_path / "broken/.hydra/hydra.yaml").write_text("hydra: [", "utf-8")
    with pytest.raises(UserError, match=message):
        expand(arguments)


RECORD = """hydra:
  runtime: {config_sources: [{path: /mine, provider: command-line}, {path: /x, provider: main}]}
  job: {config_name: other}
  overrides: {hydra: ["hydra.searchpath=[a]", hydra.verbose=true]}
"""


def write_record(directory: Path, overrides: str = "- cell=rnn\n- layers=2\n- seed=3\n") -> Path:
    (directory / ".hydra").mkdir(parents=True, exist_ok=True)
    (directory / ".hydra/overrides.yaml").write_text(overrides, "utf-8")
    (directory / ".hydra/hydra.yaml").write_text(RECORD, "utf-8")
    return directory.resolve()


def test_recorded_overrides_come_first_and_typed_ones_win(tmp_path: Path) -> None:
    directory = write_record(tmp_path)
    there = [f"hydra.run.dir='{directory}'", "hydra.mode=RUN", f"resume='{directory}'"]
    found = ["--config-dir", "/mine", "--config-name", "other"]
    assert expand(["layers=3", f"resume={tmp_path}", "--cfg", "job", "data=dino"]) == [
        "--cfg", "job", *found, "cell=rnn", "seed=3", "hydra.searchpath=[a]",
        "layers=3", "data=dino", *there,
    ]  # fmt: skip
    mine = expand([f"++resume='{tmp_path}'", "--config-dir", "/else", "-c", "job"])
    assert mine[:6] == ["--config-dir", "/else", "-c", "job", "--config-name", "other"]
    assert mine[-3:] == there
    assert expand(["cell=rnn", "resume=null"]) == ["cell=rnn", "resume=null"]
    assert expand(["cell=rnn"]) == ["cell=rnn"]
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    assert expand([f"resume={checkpoint}"])[-3:] == there
    (tmp_path / "summary.json").write_text(
        '{"status": "failed", "overrides": ["cell=gru"]}', "utf-8"
    )
    assert expand([f"resume={tmp_path}"])[4] == "cell=gru"  # the overrides of the last resume


@pytest.mark.parametrize("overrides", ["", "null", "- 5", "foo", "{a: 1}", "- [a]"])
def test_a_damaged_record_is_refused(tmp_path: Path, overrides: str) -> None:
    directory = write_record(tmp_path, overrides)
    with pytest.raises(UserError, match="cannot be read"):
        expand([f"resume={directory}"])


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_damaged_summary_does_not_hinder_resuming(train: Train, content: str) -> None:
    first = train(*SHORT)
    assert first.directory is not None
    (first.directory / "summary.json").write_text(content, "utf-8")
    done = train("resume=latest")
    assert done.status == 0, done.err
    assert "summary.json is damaged" in done.out
    assert first.summary["status"] == "finished"


@pytest.mark.slow
def test_settings_typed_on_a_resume_hold_on_the_next_one(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(*SHORT, "trainer.max_epochs=1")
    with monkeypatch.context() as patch:
        stop_at(patch, 25, send(signal.SIGTERM))
        assert train("resume=latest", "trainer.max_epochs=3", "name=longer").status == 143
    done = train("resume=latest")
    assert done.status == 0, done.err
    assert first.summary["epochs"] == 3
    assert "trainer.max_epochs=3" in first.summary["overrides"]
    refused = train("resume=latest", "trainer.max_epochs=2")
    assert refused.status == 2
    [line] = messages(refused.err)
    assert (
        "trainer.max_epochs=2: the run has reached epoch 3: give trainer.max_epochs=3 or more"
        in line
    )


def test_a_refused_command_does_not_change_the_record(train: Train, trained: Train) -> None:
    first = copy_run(trained(*SHORT))
    assert first.directory is not None
    files = {path: path.read_bytes() for path in first.directory.rglob("*") if path.is_file()}
    assert train(*SHORT, "cell=rnn", f"hydra.run.dir={first.directory}").status == 2
    with FileLock(first.directory / ".lock"):
        assert train(*SHORT, "cell=rnn", f"hydra.run.dir={first.directory}").status == 2
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize("how", ["file", "summary"])
def test_resume_belongs_on_the_command_line(
    train: Train, trained: Train, tmp_path: Path, how: str
) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    (mine / "e.yaml").write_text("# @package _global_\nresume: latest\n", "utf-8")
    if how == "file":
        refused = train(*SHORT, "--config-dir", str(mine.parent), "experiment=e")
        assert refused.status == 2
        assert "command line" in refused.err
    else:
        composed = copy_run(trained(*SHORT))
        shown = train("--cfg", "job", "resume=latest")
        assert shown.status == 0, shown.err
        assert f"resume: {composed.directory}" in shown.out


@pytest.mark.slow
def test_a_run_without_checkpoints_is_trained_again(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*SHORT, "callbacks.checkpoint.enabled=false")
    first = train(*options)
    before = first.summary
    assert "is finished" in train("resume=latest").out
    assert first.summary == before
    with monkeypatch.context() as patch:
        stop_at(patch, 5, send(signal.SIGTERM))
        stopped = train(*options)
    refused = train("resume=latest", "cell=gru")
    assert refused.status == 2
    assert "cell=lstm (now: gru)" in refused.err
    assert train("resume=latest", "hidden_size=16").status == 0  # the same setting
    assert stopped.summary["test/perplexity"] == before["test/perplexity"]


def test_a_damaged_best_checkpoint_is_refused(train: Train, trained: Train) -> None:
    first = copy_run(trained(*SHORT))
    assert first.directory is not None
    best = first.directory / "checkpoints" / "best.ckpt"
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.write_bytes(content)
    refused = train("resume=latest", "trainer.max_epochs=3")
    assert refused.status == 2
    [line] = messages(refused.err)
    assert "best.ckpt" in line
    assert "damaged" in line


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_a_run_in_another_precision_is_resumed_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    options = (*SHORT, f"trainer.precision={precision}")
    whole = train(*options)
    with monkeypatch.context() as patch:
        stop_at(patch, 6, send(signal.SIGTERM))
        stopped = train(*options)
    assert train("resume=latest").status == 0
    assert same_weights(weights(whole.directory), weights(stopped.directory))


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["stderr", "pipe"])
def test_a_signal_after_the_output_was_closed_is_obeyed(tmp_path: Path, closed: str) -> None:
    """Ctrl-C in `train 2>&1 | tee log` ends tee as well, and closes the output."""
    process = start_process(
        _train_with_closed_output, closed, output=tmp_path / "out.txt",
        environment={"LYRICGEN_OUTPUTS": str(tmp_path)},
    )  # fmt: skip
    process.join(100)
    assert process.exitcode == 143
    [summary] = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text("utf-8"))["status"] == "interrupted"
    [last] = tmp_path.rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 7


def _train_with_closed_output(closed: str) -> None:
    """Train until a step at which the streams are closed and SIGTERM comes."""
    read, write = os.pipe()

    def close_and_stop() -> None:
        if closed == "stderr":
            os.close(2)
        else:
            os.close(read)
            os.dup2(write, 1)
            os.dup2(write, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    stop_at(pytest.MonkeyPatch(), 6, close_and_stop)
    sys.argv = ["lyricgen.train", *SHORT]
    command.main()


def test_another_text_is_refused(train: Train, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abcdefgh" * 200, "utf-8")
    options = ("data=text", "data.path=text.txt", "trainer.max_epochs=1")
    first = train(*TINY, *options, "callbacks.samples.every_n_epochs=0")
    path.rename(tmp_path / "moved.txt")
    moved = train("resume=latest", "data.path=moved.txt", "trainer.max_epochs=2")
    assert (moved.status, first.summary["epochs"]) == (0, 2)
    (tmp_path / "moved.txt").write_text("abcdefhg" * 200, "utf-8")
    other = train("resume=latest", "data.path=moved.txt", "trainer.max_epochs=3")
    assert other.status == 2
    [line] = messages(other.err)
    assert "moved.txt" in line
    assert "not the text" in line
    advised = line.rpartition(" ")[2]
    assert advised == f"init_from={first.directory}"
    # the advice works, because the characters are the same
    anew = train(*TINY, *options, "data.path=moved.txt", advised, "trainer.max_epochs=1")
    assert anew.status == 0, anew.err
    assert "characters: 8 kept, 0 new" in anew.out


def test_the_newest_run_to_start_from_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run"):
        expand(["init_from=latest"])
    checkpoint = tmp_path / "outputs/runs/2026-01-01/10-00-00.000000_a b/checkpoints/best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    (checkpoint.parents[1] / "summary.json").write_text('{"status": "finished"}')
    for one in ("init_from=latest", "init_from='latest'", "++init_from=latest"):
        # in a sweep each job would find another newest run
        (given,) = [word for word in expand([one, "-m", "seed=1,2"]) if "init_from" in word]
        assert given == f"{one.partition('=')[0]}='{checkpoint}'"


def test_resuming_a_model_file_advises_init_from(tmp_path: Path) -> None:
    (tmp_path / "song.safetensors").touch()
    with pytest.raises(UserError, match="init_from=CHECKPOINT"):
        expand([f"resume={tmp_path / 'song.safetensors'}"])


def test_two_processes_cannot_resume_the_same_run(train: Train, trained: Train) -> None:
    first = copy_run(trained(*SHORT))
    assert first.directory is not None
    before = first.summary
    torn = first.directory / "checkpoints" / ".last.ckpt.0123456789abcdef.part"
    torn.write_bytes(b"half")
    with FileLock(first.directory / ".lock"):
        second = train("resume=latest", "trainer.max_epochs=4")
    assert second.status == 2
    [line] = messages(second.err)
    assert "in use by another process" in line
    assert first.summary == before
    assert torn.exists()  # the other process may be writing it
    assert train("resume=latest").status == 0
    assert not torn.exists()


def test_a_second_run_in_the_same_directory_is_refused(train: Train, trained: Train) -> None:
    first = copy_run(trained(*SHORT))
    again = train(*SHORT, f"hydra.run.dir={first.directory}")
    assert again.status == 2
    assert "holds a run already" in again.err


# Checkpoints


def test_a_damaged_checkpoint_is_replaced_by_the_previous_one(train: Train) -> None:
    whole = train(*SHORT, "trainer.max_epochs=3", "scheduler=none")
    first = train(*SHORT, "scheduler=none")
    assert first.directory is not None
    last = first.directory / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # torch would read it without an error
    last.write_bytes(content)
    assert not is_sound(last)
    done = train("resume=latest", "trainer.max_epochs=3")
    assert done.status == 0, done.err
    assert (
        f"{last} is damaged: it cannot be read, or its SHA-256 is not in last.ckpt.sha256"
        in done.out
    )
    assert f"going on from {last.with_name('previous.ckpt')}, the checkpoint before" in done.out
    assert same_weights(weights(whole.directory), weights(first.directory))
    assert lines(first, "samples.jsonl") == lines(whole, "samples.jsonl")


@pytest.mark.parametrize("harm", ["empty", "text", "no sums"])
def test_a_run_without_an_undamaged_checkpoint_is_refused(
    train: Train, trained: Train, harm: str
) -> None:
    first = copy_run(trained(*SHORT))
    assert first.directory is not None
    folder = first.directory / "checkpoints"
    for name in ("last.ckpt", "previous.ckpt"):
        if harm != "no sums":
            (folder / name).write_text("" if harm == "empty" else "not a checkpoint", "utf-8")
    if harm == "no sums":
        (folder / "last.ckpt.sha256").unlink()
    done = train("resume=latest", "trainer.max_epochs=3")
    assert done.status == 2
    [line] = messages(done.err)
    assert "no undamaged checkpoint" in line
    assert "best.ckpt" in line


def test_checkpoints_are_saved_at_exact_points_every_few_steps(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, str]] = []
    original = pl.Trainer.save_checkpoint

    def note(self: pl.Trainer, path: Any, *arguments: Any, **options: Any) -> None:
        hook = str(self.lightning_module._current_fx_name)
        saved.append((self.global_step, f"{Path(path).name} {hook}"))
        original(self, path, *arguments, **options)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", note)
    done = train(*SHORT, "trainer.limit_train_batches=12", "trainer.val_check_interval=6",
                 "trainer.max_epochs=1", "callbacks.checkpoint.every_n_steps=3",
                 "optimizer=sgd", "optimizer.lr=1e-9")  # fmt: skip
    assert done.status == 0, done.err
    assert [entry for entry in saved if "last" in entry[1]] == [
        (3, "last.ckpt on_train_batch_end"),
        (6, "last.ckpt on_validation_end"),
        (9, "last.ckpt on_train_batch_end"),
        (12, "last.ckpt on_train_epoch_end"),
    ]


def test_a_checkpoint_loads_without_running_code(trained: Train) -> None:
    done = trained(*SHORT)
    assert done.directory is not None
    content = torch.load(done.directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(content["run"]) == {each.name for each in fields(RunState)}
    assert content["callbacks"] == {}


# Validation within the epoch


def test_a_row_for_every_validation(train: Train) -> None:
    done = train(*SHORT, "trainer.val_check_interval=5", "trainer.limit_train_batches=12",
                 "trainer.max_epochs=2")  # fmt: skip
    assert done.directory is not None, done.err
    with (done.directory / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["epoch"], row["step"], bool(row["val/loss"])) for row in rows] == [
        ("1", "5", True), ("1", "10", True), ("1", "12", False),
        ("2", "17", True), ("2", "22", True), ("2", "24", False),
    ]  # fmt: skip
    assert all(float(row["train/loss"]) > 0 for row in rows)
    best = min((row for row in rows if row["val/loss"]), key=lambda row: float(row["val/loss"]))
    assert done.summary["val/loss"] == float(best["val/loss"])
    assert done.summary["epochs"] == 2
    steps = [json.loads(line)["step"] for line in lines(done, "samples.jsonl")]
    assert int(best["step"]) in steps  # the texts of the best weights are included
    shown = [line.partition(":")[0] for line in done.out.splitlines() if line.startswith("epoch ")]
    assert shown == [
        "epoch 1/2, step 5", "epoch 1/2, step 10", "epoch 1/2",
        "epoch 2/2, step 17", "epoch 2/2, step 22", "epoch 2/2",
    ]  # fmt: skip


def test_a_validation_interval_above_the_steps_of_an_epoch_is_refused(train: Train) -> None:
    refused = train(*SHORT, "trainer.val_check_interval=1000")
    assert refused.status == 2
    [line] = refused.err.splitlines()
    assert "trainer.val_check_interval=1000" in line


# Watching changes nothing


@pytest.mark.parametrize(
    "watching",
    [
        "callbacks.samples.every_n_epochs=0",
        "callbacks.baseline.enabled=false",
        "callbacks.checkpoint.every_n_steps=1",
        "logger=none",
        "trainer.check_val_every_n_epoch=2",
    ],
)
def test_watching_does_not_change_the_weights(train: Train, trained: Train, watching: str) -> None:
    options = (*SHORT, "depth=deep", "layers=2")
    assert same_weights(
        weights(trained(*options).directory), weights(train(*options, watching).directory)
    )


# A loss that is not finite


def test_diverging_training_fails_with_one_line(train: Train) -> None:
    done = train(*TINY, "optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip_val=null",
                 "callbacks.checkpoint.every_n_steps=1")  # fmt: skip
    assert done.status == 2
    [line] = done.err.splitlines()
    assert "step" in line
    assert "optimizer.lr" in line
    assert done.summary["status"] == "failed"
    assert "NaN" not in json.dumps(done.summary)


def test_the_step_of_the_divergence_is_named(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training stops within 50 steps of a long epoch and keeps the checkpoint before it."""
    seen = []
    count = RecurrentModule.on_train_batch_start

    def start(self: RecurrentModule, *arguments: Any) -> None:
        seen.append(self.trainer.global_step)
        if self.trainer.global_step == 61:
            with torch.no_grad():
                self.model.output.bias.fill_(torch.nan)
        count(self, *arguments)

    monkeypatch.setattr(RecurrentModule, "on_train_batch_start", start)
    done = train(*TINY, "data.max_chars=9000", "data.batch_size=2",
                 "callbacks.checkpoint.every_n_steps=30")  # fmt: skip
    assert done.status == 2
    assert "at step 62;" in done.err
    assert max(seen) < 100  # of about 350 steps
    assert done.directory is not None
    kept = torch.load(done.directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 60
    assert all(bool(tensor.isfinite().all()) for tensor in kept["state_dict"].values())


# Growing files


def test_growing_files_are_cut_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples, events = tmp_path / "samples.jsonl", tmp_path / "events.out.tfevents.1.host.2.0"
    samples.write_bytes(b"one\n")
    events.write_bytes(b"abc")
    noted = sync_growing_files(tmp_path)
    assert noted == {"samples.jsonl": 4, events.name: 3}
    samples.write_bytes(b"one\ntwo\nthr")
    later = tmp_path / "events.out.tfevents.3.host.2.0"
    later.write_bytes(b"later")
    (tmp_path / ".lock").touch()
    rewind(tmp_path, noted)
    assert samples.read_bytes() == b"one\n"
    assert events.read_bytes() == b"abc"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", events.name, samples.name]
    samples.write_bytes(b"o")
    with caplog.at_level(logging.WARNING):
        rewind(tmp_path, noted)
    assert samples.read_bytes() == b"o"  # lost bytes are not filled with zeros
    assert "shorter" in caplog.text
    caplog.clear()
    rewind(tmp_path, {samples.name: 0})
    assert caplog.text == ""
    assert not samples.exists()
    rewind(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# Signals


def test_signal_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with handle_signals() as interruption:
        assert [signal.getsignal(number) for number in SIGNALS] != before
        with pytest.raises(Interrupted) as impatient:
            os.kill(os.getpid(), signal.SIGTERM)
        assert impatient.value.code == 143
        with pytest.raises(Interrupted):  # also if the first exception was swallowed
            interruption.raise_if_requested()
    with handle_signals() as interruption:
        interruption.patient = True
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested == signal.SIGINT
        with pytest.raises(Interrupted) as second:
            os.kill(os.getpid(), signal.SIGTERM)
        assert second.value.code == 143
        with pytest.raises(Interrupted) as asked:
            interruption.raise_if_requested()
        assert asked.value.code == 130
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_the_checkpoint_callback_comes_last(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint includes the changes of all other callbacks in the same hook."""
    seen = []
    original = Checkpoints.on_train_start

    def note(self: Checkpoints, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        seen.extend(type(each).__name__ for each in trainer.callbacks)  # type: ignore[attr-defined]
        original(self, trainer, module)

    monkeypatch.setattr(Checkpoints, "on_train_start", note)
    train(*SHORT)
    assert seen[-2:] == ["Checkpoints", "Moments"]


# Chaos


@pytest.mark.slow
def test_runs_killed_at_random_finish_exactly(tmp_path: Path) -> None:
    """Eighteen chains, two for each text and sampler, each equal an undisturbed run."""
    script = ROOT / "scripts" / "chaos.py"
    done = subprocess.run(
        [sys.executable, str(script), "--chains", "18"],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "chains that differ from an undisturbed run: 0 of 18" in done.stdout
    [deaths] = [line for line in done.stdout.splitlines() if line.startswith("deaths: ")]
    assert int(deaths.split()[1]) > 20
