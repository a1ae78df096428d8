"""A run with recipe=none, shortened, follows the stored curve.

After a change that is meant to move the curve, store it again with
LYRICGEN_WRITE_GOLDEN=1 pytest tests/training/test_golden.py
"""

import csv
import os

import pytest

from tests.conftest import ROOT, Train

GOLDEN = ROOT / "tests/golden" / "plain.csv"
COLUMNS = ("epoch", "train/loss", "val/loss", "train/grad_norm", "train/lr")


def test_a_plain_run_follows_its_curve(train: Train) -> None:
    done = train("recipe=none", "trainer=cpu", "data.max_chars=12000", "trainer.max_epochs=3")
    assert done.directory is not None
    with (done.directory / "metrics.csv").open(encoding="utf-8") as stream:
        rows = [{name: row[name] for name in COLUMNS} for row in csv.DictReader(stream)]
    if os.environ.get("LYRICGEN_WRITE_GOLDEN"):
        with GOLDEN.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    with GOLDEN.open(encoding="utf-8") as stream:
        golden = list(csv.DictReader(stream))
    assert len(rows) == len(golden) == 3
    for row, expected in zip(rows, golden, strict=True):
        for name in COLUMNS:
            # other processors round differently; a wrong gradient changes the third digit
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-3), name
