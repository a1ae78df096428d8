"""The best checkpoints of a run, and last.ckpt every few epochs, whatever stops the run."""

import csv
import hashlib
import shutil
import signal
from pathlib import Path

import pytest
import torch
from compare_runs import differences

from lyricgen import evaluate, generate
from lyricgen.runs.checkpoint_files import is_sound, keep_best, settle_best
from tests.conftest import SMALL, Train, TrainingResult, run_main, train_until_killed
from tests.helpers.resuming import send, stop_at

# 16 steps an epoch, whose validation losses rise and fall
RUN = (*SMALL, "data.max_chars=800", "trainer.max_epochs=6", "optimizer.lr=0.03")
RUN += ("callbacks.early_stopping=false", "data.val_fraction=0.2")
THREE = (*RUN, "callbacks.checkpoint.keep_best=3")


def losses(directory: Path) -> dict[str, float]:
    """Return the validation losses of a run by the names of their checkpoints."""
    with (directory / "metrics.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["val/loss"]]
    return {f"epoch_{row['epoch']}_step_{row['step']}": float(row["val/loss"]) for row in rows}


def check_best(run: TrainingResult, count: int) -> None:
    """Check that a run has exactly its best checkpoints, each whole and of its own step."""
    assert run.directory is not None, run.err
    by_loss = losses(run.directory)
    ranked = sorted(by_loss, key=by_loss.__getitem__)[:count]
    folder = run.directory / "checkpoints"
    names = {"best", "last", *ranked[1:]}
    found = {path.name for path in folder.iterdir()} - {"previous.ckpt"}
    assert found == {f"{name}.ckpt{ending}" for name in names for ending in ("", ".sha256")}
    for name, file in zip(ranked, ("best", *ranked[1:]), strict=True):
        saved = torch.load(folder / f"{file}.ckpt", weights_only=True)
        assert f"epoch_{saved['epoch'] + 1}_step_{saved['global_step']}" == name
        assert is_sound(folder / f"{file}.ckpt")


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("trainer.val_check_interval=5",),
        ("trainer.check_val_every_n_epoch=2",),
        ("optimizer.lr=0.002",),  # each validation is better
        ("optimizer.lr=0.3",),
        ("callbacks.checkpoint.every_n_epochs=4",),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_the_best_checkpoints_are_kept(train: Train, count: int, options: tuple[str, ...]) -> None:
    run = train(*RUN, f"callbacks.checkpoint.keep_best={count}", *options)
    assert run.status == 0, run.err
    check_best(run, count)


def test_the_best_training_losses_without_held_out_text(train: Train) -> None:
    run = train(*THREE, "data.val_fraction=0", "data.test_fraction=0", "trainer.max_epochs=5")
    assert run.directory is not None, run.err
    names = sorted(path.name for path in (run.directory / "checkpoints").glob("epoch_*.ckpt"))
    assert names == ["epoch_3_step_60.ckpt", "epoch_4_step_80.ckpt"]  # the best is of epoch 5


@pytest.mark.parametrize("every", [1, 3])
def test_a_killed_run_has_exactly_its_best_checkpoints(
    train: Train, tmp_path: Path, every: int
) -> None:
    options = (*THREE, f"callbacks.checkpoint.every_n_epochs={every}")
    whole = train(*options)
    assert whole.directory is not None
    for saves in range(5):
        outputs = tmp_path / f"{saves} saves"
        outputs.mkdir()
        train_until_killed(saves, outputs, *options)
        [killed] = outputs.glob("runs/*/*")
        assert train(f"resume={killed}").status == 0
        assert differences(whole.directory, killed) == []
        check_best(TrainingResult(0, "", "", killed), 3)


def test_a_run_stopped_by_a_signal_has_its_last_checkpoint(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*RUN, "callbacks.checkpoint.every_n_epochs=4", "callbacks.checkpoint.keep_best=2")
    whole = train(*options)
    for step, saved in ((20, 21), (31, 32)):  # within an epoch, and at its end
        with monkeypatch.context() as patch:
            stop_at(patch, step, send(signal.SIGTERM))
            stopped = train(*options)
        assert stopped.directory is not None and whole.directory is not None
        last = torch.load(stopped.directory / "checkpoints/last.ckpt", weights_only=True)
        assert last["global_step"] == saved
        assert train(f"resume={stopped.directory}").status == 0
        assert differences(whole.directory, stopped.directory) == []


def test_the_last_checkpoint_is_saved_every_few_epochs_and_at_the_end(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    original = torch.save

    def note(content: dict[str, object], *arguments: object) -> None:
        saved.append(content["global_step"])
        original(content, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "save", note)
    options = (
        *RUN,
        "callbacks.checkpoint.every_n_epochs=2",
        "optimizer.lr=3",
        "trainer.max_epochs=5",
    )
    run = train(*options)
    assert run.directory is not None, run.err
    steps = [int(name.split("_")[-1]) for name in losses(run.directory)]
    best = min(losses(run.directory).items(), key=lambda each: each[1])[0]
    epochs = [steps.index(step) + 1 for step in saved]  # type: ignore[arg-type]
    assert [epoch for epoch in epochs if epoch in (2, 4, 5)][-1] == 5
    assert set(epochs) <= {1, 2, 4, 5, *range(int(best.split("_")[1]) + 1)}


def test_a_best_checkpoint_of_a_later_step_is_taken_back(tmp_path: Path) -> None:
    """A kill may come between any two changes of the files."""

    def write(name: str, text: str) -> None:
        (tmp_path / name).unlink(missing_ok=True)  # it may have a second name
        (tmp_path / name).write_text(text, "utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        (tmp_path / f"{name}.sha256").write_text(f"{digest}\n", "utf-8")

    write("best.ckpt", "first")
    keep_best(tmp_path, "epoch_1_step_9.ckpt")
    write("best.ckpt", "second")
    write("epoch_3_step_27.ckpt", "third")
    settle_best(tmp_path, ["epoch_1_step_9.ckpt"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "best.ckpt.sha256"]
    assert (tmp_path / "best.ckpt").read_text("utf-8") == "first"
    assert is_sound(tmp_path / "best.ckpt")
    write("epoch_1_step_9.ckpt", "torn")
    (tmp_path / "epoch_1_step_9.ckpt").write_text("to", "utf-8")
    settle_best(tmp_path, ["epoch_1_step_9.ckpt"])
    assert (tmp_path / "best.ckpt").read_text("utf-8") == "first"


def test_other_commands_take_a_kept_checkpoint(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(*THREE)
    assert run.directory is not None, run.err
    [path, _] = sorted((run.directory / "checkpoints").glob("epoch_*.ckpt"))
    written = run_main(generate.main, capfd, path, "--prefix", "分", "--length", "5", "--seed", "1")
    assert written.status == 0, written.err
    judged = run_main(evaluate.main, capfd, path, "--json")
    assert judged.status == 0, judged.err


def test_more_checkpoints_may_be_kept_by_a_resumed_run(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 20, send(signal.SIGTERM))
        stopped = train(*RUN, "optimizer.lr=0.002")
    assert stopped.directory is not None
    done = train(f"resume={stopped.directory}", "callbacks.checkpoint.keep_best=3")
    assert done.status == 0, done.err
    check_best(stopped, 3)
    fewer = shutil.copytree(stopped.directory, stopped.directory.with_name("fewer"))
    assert (
        train(f"resume={fewer}", "callbacks.checkpoint.keep_best=2", "trainer.max_epochs=7").status
        == 0
    )
    check_best(TrainingResult(0, "", "", fewer), 2)
