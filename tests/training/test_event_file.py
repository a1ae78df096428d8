"""TensorBoard's event files: a wrong clock loses no point, and errors reach the training."""

import errno
import os
import time
from pathlib import Path
from typing import NoReturn

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lyricgen.training.loggers.tensorboard import EventWriter


def write_events(directory: Path, purge_step: int, steps: range) -> None:
    logger = EventWriter(directory, purge_step)
    for step in steps:
        logger.log_metrics({"run/best_val_perplexity": 1 / step}, step)
    logger.close()
    logger.log_metrics({"run/wall_seconds": steps.stop}, steps.stop)  # in a new file
    logger.close()


@pytest.mark.parametrize("behind", [0, 1, 7200])
def test_no_point_is_lost_where_the_clock_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """Resume a run that was killed after step 5 from its checkpoint of step 3."""
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now)
        write_events(tmp_path, 0, range(1, 6))
        patch.setattr(time, "time", lambda: now - behind)
        write_events(tmp_path, 4, range(4, 8))
    names = [path.name for path in sorted(tmp_path.glob("events*"))]
    assert len(names) == 4
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    points = board.Scalars("run/best_val_perplexity")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6, 7]
    assert [point.value for point in points] == pytest.approx([1 / step for step in range(1, 8)])


def test_a_dollar_in_a_path_is_not_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    run = tmp_path / "$ELSEWHERE"
    run.mkdir()
    write_events(run, 0, range(1, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["$ELSEWHERE"]
    assert len(list(run.glob("events*"))) == 2


def test_a_full_disk_raises_in_the_training_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = EventWriter(tmp_path, 0)
    logger.log_metrics({"val/loss": 1.0}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left on device: .*tfevents"):
            logger.log_metrics({"val/loss": 1.0}, 2)
    logger.close()
    assert capfd.readouterr() == ("", "")
