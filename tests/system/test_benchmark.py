"""Benchmarks of training, generation, sweeps and reports run."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_speed import make_runs

from lyricgen import report
from tests.conftest import ROOT, run_main
from tests.helpers.scripts import benchmark


@pytest.mark.slow
def test_the_benchmark_fills_its_tables(tmp_path: Path) -> None:
    few = ["--rounds", "1", "--epochs", "1", "--threads", "1"]
    # torch's layer; a state of one tensor; a state of two
    cells = ["lstm", "gru_scratch", "lstm_scratch"]
    script = ROOT / "scripts" / "benchmark.py"
    command = [sys.executable, script, "--cells", *cells, *few]
    out = subprocess.check_output(command, cwd=tmp_path, text=True, timeout=900)
    rows = [line.split() for line in out.splitlines()]
    speeds = {row[0]: row[1:] for row in rows if row and row[0] in cells and row[-1] == "10%"}
    assert list(speeds) == cells
    for plain, lyricgen, ratio, *_ in speeds.values():
        quotient = float(lyricgen.replace(",", "")) / float(plain.replace(",", ""))
        assert quotient == pytest.approx(float(ratio), abs=0.01)


@pytest.mark.slow
def test_the_benchmark_of_generation_fills_its_table(tmp_path: Path) -> None:
    out = benchmark(tmp_path, "--generation", "--rounds", "1", "--steps", "20", "--threads", "1")
    lines = [line.split() for line in out.splitlines()]
    [loop] = [line[2:] for line in lines if line[:2] == ["notebooks'", "loop"]]
    rows = {line[1]: line[5:] if line[0] == "lyricgen," else [] for line in lines if len(line) > 4}
    figures = {int(count): row for count, row in rows.items() if row}
    assert list(figures) == [1, 16, 256]
    speed, ratio = loop
    assert float(ratio) == 1
    for count, target in ((1, ["8"]), (16, []), (256, ["100"])):
        own, ratio, *least = figures[count]
        quotient = float(own.replace(",", "")) / float(speed.replace(",", ""))
        assert float(ratio) == pytest.approx(quotient, rel=0.01, abs=0.1)
        assert least == target


@pytest.mark.slow
def test_the_benchmark_of_kernels_fills_its_table(tmp_path: Path) -> None:
    out = benchmark(tmp_path, "--kernels", "--rounds", "1", "--threads", "1")
    rows = [line.split() for line in out.splitlines()]
    found = [row for row in rows if len(row) == 5 and row[1] in ("rnn", "gru", "lstm")]
    assert len({row[0] for row in found}) * 3 == len(found) > 0
    for _, _, torch, fused, ratio in found:
        assert float(torch) / float(fused) == pytest.approx(float(ratio), rel=0.2)


LAUNCHERS = r"│ (.*?) +│ +(-?[\d.]+) +│ +(-?[\d.]+) +│"  # a row with a figure for each


@pytest.mark.slow
def test_the_benchmark_of_sweeps_fills_its_table(tmp_path: Path) -> None:
    few = ["--jobs", "2", "--rounds", "1", "--threads", "1"]
    out = benchmark(tmp_path, "--sweep", *few)
    found = {name: (one, other) for name, one, other in re.findall(LAUNCHERS, out)}
    assert len(found) == 5
    for column in (0, 1):
        figures = {name: float(figure[column]) for name, figure in found.items()}
        assert 0 < figures["s between jobs, median"] <= figures["s between jobs, longest"]
        assert figures["s to the first step, median"] > 0
        assert figures["MB after the first job"] > 100


@pytest.mark.slow
def test_the_benchmark_of_reports_fills_its_table(tmp_path: Path) -> None:
    out = benchmark(tmp_path, "--report", "--rounds", "1", "--threads", "1")
    rows = re.findall(r"│ ([\d,]+) +│ ([\d.]+) +│ (\d*) +│", out)
    assert [(runs, target) for runs, _, target in rows] == [("6", ""), ("1,000", "20")]
    assert all(float(seconds) > 0 for _, seconds, _ in rows)


def test_runs_made_by_a_script_are_reported_as_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path / "sweep", 30)
    done = run_main(report.main, capsys, tmp_path / "sweep")
    assert done.status == 0, done.err
    with (tmp_path / "sweep/report/report.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["layers"]: row for row in csv.DictReader(stream)}
    assert sorted(rows) == ["1", "2", "3"]
    for layers, row in rows.items():
        found = list(tmp_path.glob(f"sweep/*layers={layers},*/summary.json"))
        figures = [json.loads(path.read_text("utf-8"))["val/perplexity"] for path in found]
        assert (row["n"], row["incomplete"]) == ("10", "")
        assert float(row["mean"]) == pytest.approx(sum(figures) / 10)
