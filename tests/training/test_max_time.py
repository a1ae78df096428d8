"""A run ends when its time is over, and continues as if it had not, with more time."""

import csv
from pathlib import Path

import pytest
import torch
from compare_runs import differences

from lyricgen.errors import UserError
from lyricgen.runs.run import Run
from lyricgen.training.recurrent_module import RecurrentModule
from tests.conftest import TINY, Train, TrainingResult
from tests.helpers.workers import fork_workers

# 16 steps an epoch; the best validation is that of an early step
SHORT = (
    *(*TINY, "data.max_chars=800", "callbacks.checkpoint.every_n_steps=4", "scheduler=cosine"),
    *("callbacks.smoothed_loss.enabled=true", "model.weight_drop=0.5", "trainer.max_epochs=3"),
)


@pytest.fixture(autouse=True)
def _a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each step take a second by the clock of its run."""
    steps = 0
    original = RecurrentModule.on_train_batch_start

    def start(self: RecurrentModule, *arguments: object) -> None:
        nonlocal steps
        original(self, *arguments)  # type: ignore[arg-type]
        steps = self.trainer.global_step + 1

    monkeypatch.setattr(RecurrentModule, "on_train_batch_start", start)
    monkeypatch.setattr(Run, "wall_seconds", property(lambda _: float(steps)))


def rows_of(run: TrainingResult) -> list[tuple[int, int]]:
    assert run.directory is not None, run.err
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return [(int(row["epoch"]), int(row["step"])) for row in csv.DictReader(stream)]


def saved_step(directory: Path | None, name: str = "last") -> int:
    assert directory is not None
    path = directory / "checkpoints" / f"{name}.ckpt"
    step: int = torch.load(path, weights_only=True)["global_step"]
    return step


def test_a_run_ends_when_its_time_is_over_and_goes_on_with_more(train: Train) -> None:
    whole = train(*SHORT)
    run = train(*SHORT, "trainer.max_time=21")
    assert (run.status, run.summary["status"]) == (0, "finished")
    assert "trainer.max_time: 21 seconds are over: the run ends after step 21" in run.out
    assert rows_of(run) == [(1, 16), (2, 21)]
    assert saved_step(run.directory) == 21
    again = train(f"resume={run.directory}")
    assert again.status == 0
    assert "is finished: more than trainer.max_time=21 seconds make it longer" in again.out
    for limit in ("00:00:00:33", "00:01:00:00"):
        assert train(f"resume={run.directory}", f"trainer.max_time={limit}").status == 0
    assert whole.directory is not None and run.directory is not None
    assert differences(whole.directory, run.directory) == []


@pytest.mark.parametrize("monitored", ["data.val_fraction=0.1", "data.val_fraction=0"])
def test_the_end_of_the_time_leaves_the_best_checkpoint_of_the_longer_run(
    train: Train, tmp_path: Path, monitored: str
) -> None:
    """The last validation of the shorter run is its best; the longer run has no such validation."""
    (tmp_path / "text.txt").write_text("零一二三四五六七八九" * 80, "utf-8")  # easy to learn
    options = (*SHORT, "data.path=text.txt", "data.unit=text", monitored)
    whole = train(*options, "trainer.max_epochs=2")
    run = train(*options, "trainer.max_epochs=2", "trainer.max_time=21")
    assert run.summary["best_epoch"] == 2
    assert saved_step(run.directory, "best") == 21
    [(_, steps), _] = rows_of(whole)
    assert saved_step(run.directory, f"epoch_1_step_{steps}") == steps
    # with more time, the run ends before its next validation would replace best.ckpt
    assert train(f"resume={run.directory}", "trainer.max_time=22").status == 0
    assert rows_of(run) == [(1, steps), (2, 22)]
    assert saved_step(run.directory, f"epoch_1_step_{steps}") == steps
    assert train(f"resume={run.directory}", "trainer.max_time=99").status == 0
    assert whole.directory is not None and run.directory is not None
    assert differences(whole.directory, run.directory) == []


def test_a_first_epoch_that_takes_too_long_is_validated(train: Train) -> None:
    run = train(*SHORT, "trainer.max_time=3")
    assert rows_of(run) == [(1, 3)]
    assert run.summary["val/perplexity"] > 1
    assert saved_step(run.directory, "best") == 3


@pytest.mark.parametrize(
    ("options", "limit", "rows"),
    [
        ((), 16, [(1, 16)]),  # at the end of an epoch
        ((), 15, [(1, 15)]),
        (("trainer.val_check_interval=5",), 10, [(1, 5), (1, 10)]),  # at a validation
        (("trainer.val_check_interval=5",), 9, [(1, 5), (1, 9)]),
        (("trainer.accumulate_grad_batches=3",), 5, [(1, 5)]),
        (("trainer.max_steps=20",), 20, [(1, 16), (2, 20)]),
        (("trainer.max_steps=20",), 48, [(1, 16), (2, 20)]),
    ],
)
def test_a_run_ends_at_its_next_exact_point(
    train: Train, options: tuple[str, ...], limit: int, rows: list[tuple[int, int]]
) -> None:
    whole = train(*SHORT, *options)
    run = train(*SHORT, *options, f"trainer.max_time={limit}")
    assert run.status == 0, run.err
    assert rows_of(run) == rows
    assert ("seconds are over" in run.out) == (options != ("trainer.max_steps=20",))
    assert train(f"resume={run.directory}", "trainer.max_time=99").status == 0
    assert whole.directory is not None and run.directory is not None
    assert differences(whole.directory, run.directory) == []


def test_a_run_killed_at_the_end_of_its_time_ends_a_step_later(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("the end")

    with monkeypatch.context() as patch:
        patch.setattr("lyricgen.training.callbacks.checkpoints.end_epoch", fail)
        run = train(*SHORT, "trainer.max_time=10")
    assert run.status == 2
    assert train(f"resume={run.directory}").status == 0
    assert rows_of(run) == [(1, 11)]


@pytest.mark.slow
def test_all_processes_end_at_the_same_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fork_workers(monkeypatch)
    several = (*SHORT, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    whole = train(*several)
    run = train(*several, "trainer.max_time=21")
    assert (run.status, rows_of(run)) == (0, [(1, 16), (2, 22)])  # rank 0 tells it a step later
    at_end = train(*several, "trainer.max_time=32")
    assert rows_of(at_end) == [(1, 16), (2, 32)]
    for ended in (run, at_end):
        assert train(f"resume={ended.directory}", "trainer.max_time=99").status == 0
        assert whole.directory is not None and ended.directory is not None
        assert differences(whole.directory, ended.directory) == []


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90", 90), ("1.5", 1.5), ("00:00:01:30", 90), ("01:02:03:04", 93784), ("null", None)],
)
def test_a_time_is_typed_in_seconds_or_as_in_lightning(
    train: Train, typed: str, seconds: float | None
) -> None:
    run = train(*TINY, "debug=one_batch", f"trainer.max_time={typed}")
    assert run.status == 0, run.err
    assert run.summary["options"]["trainer"]["max_time"] == seconds


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("0", "trainer.max_time=0: "),
        ("-1", "trainer.max_time=-1: "),
        ("1h", "trainer.max_time='1h': write DD:HH:MM:SS, such as 00:01:30:00, or a number of"),
        ("10:00", "trainer.max_time='10:00': write DD:HH:MM:SS"),
        ("true", "trainer.max_time=true: "),
    ],
)
def test_a_wrong_time_is_refused(train: Train, typed: str, message: str) -> None:
    refused = train(*TINY, f"trainer.max_time={typed}")
    assert (refused.status, refused.directory, refused.err.count("\n")) == (2, None, 1)
    assert message in refused.err


def test_a_time_needs_checkpoints(train: Train) -> None:
    refused = train(*TINY, "trainer.max_time=9", "callbacks.checkpoint=false")
    assert refused.status == 2
    assert "trainer.max_time ends a run at a checkpoint" in refused.err
