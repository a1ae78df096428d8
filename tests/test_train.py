"""The train command, from a command line to what it leaves in a run's directory."""

import csv
from pathlib import Path

from tests.conftest import TINY, Train


def test_run_directory_says_the_same_everywhere(train: Train) -> None:
    done = train(*TINY)
    assert done.status == 0, done.err
    assert done.directory is not None
    rows = list(csv.DictReader((done.directory / "metrics.csv").open(encoding="utf-8")))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    best = min(rows, key=lambda row: float(row["val/loss"]))
    summary = done.summary
    assert summary["status"] == "finished"
    assert summary["best_epoch"] == int(best["epoch"]) + 1
    # the weights are loaded back and scored again: the figure must be the one of that epoch
    assert summary["val/perplexity"] == float(best["val/perplexity"])
    assert Path("outputs/latest.txt").read_text("utf-8").strip() == str(done.directory)
