"""The measurement of training speed runs, for torch's layers and for the cells written out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_benchmark_fills_its_tables(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "scripts" / "benchmark.py"
    few = ["--rounds", "1", "--epochs", "1", "--threads", "1"]
    cells = ["lstm", "rnn_scratch", "gru_scratch", "lstm_scratch"]
    done = subprocess.run(
        [sys.executable, script, "--cells", *cells, *few],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    speeds = {row[0]: row[1:] for row in rows if row and row[0] in cells and row[-1] == "10%"}
    assert list(speeds) == cells
    for plain, lyricgen, ratio, *_ in speeds.values():
        quotient = float(lyricgen.replace(",", "")) / float(plain.replace(",", ""))
        assert quotient == pytest.approx(float(ratio), abs=0.01)
