"""Readers of the measurements of a run on names."""

import csv
from pathlib import Path

from tests.conftest import TrainingResult


def smoothed_losses(directory: Path | None) -> dict[int, float]:
    assert directory is not None
    with (directory / "steps.csv").open(encoding="utf-8") as stream:
        return {int(row["step"]): float(row["smoothed_loss"]) for row in csv.DictReader(stream)}


def metrics(run: TrainingResult) -> list[dict[str, str]]:
    assert run.directory is not None
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
