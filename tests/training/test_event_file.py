"""TensorBoard's event files: nothing is lost whatever the clock says, and errors are ordinary."""

import errno
import os
import time
from pathlib import Path
from typing import NoReturn

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lyricgen.training.loggers.tensorboard import EventLogger


def written(directory: Path, purge_step: int, steps: range) -> None:
    logger = EventLogger(directory, purge_step)
    for step in steps:
        logger.log_metrics({"run/best_val_perplexity": 1 / step}, step)
    logger.finalize("success")
    logger.log_metrics({"run/wall_seconds": steps.stop}, steps.stop)  # in a file of its own
    logger.finalize("success")


@pytest.mark.parametrize("behind", [0, 1, 7200])
def test_no_point_is_lost_where_the_clock_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """A run killed after step 5, whose checkpoint is of step 3, and resumed."""
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now)
        written(tmp_path, 0, range(1, 6))
        patch.setattr(time, "time", lambda: now - behind)
        written(tmp_path, 4, range(4, 8))
    names = [path.name for path in sorted(tmp_path.glob("events*"))]
    assert len(names) == 4
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    points = board.Scalars("run/best_val_perplexity")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6, 7]
    assert [point.value for point in points] == pytest.approx([1 / step for step in range(1, 8)])


def test_names_with_a_dollar_are_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    run = tmp_path / "$ELSEWHERE"
    run.mkdir()
    written(run, 0, range(1, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["$ELSEWHERE"]
    assert len(list(run.glob("events*"))) == 2


def test_a_full_disk_is_an_error_of_the_training_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = EventLogger(tmp_path, 0)
    logger.log_metrics({"val/loss": 1.0}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left on device: .*tfevents"):
            logger.log_metrics({"val/loss": 1.0}, 2)
    logger.finalize("failed")
    assert capfd.readouterr() == ("", "")
