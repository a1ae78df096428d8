"""Benchmarks of training, generation, sweeps, reports and quality run."""

import csv
import json
import math
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import mean, stdev

import pytest
import quality
import startup_speed
from report_speed import make_runs

from lyricgen import report
from lyricgen.runs.summary import RunSummary
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
    speeds = {row[0]: row[1:] for row in rows if row and row[0] in cells and row[-1] == "6%"}
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


@pytest.mark.slow
def test_the_benchmark_of_scoring_fills_its_table(tmp_path: Path) -> None:
    out = benchmark(tmp_path, "--scoring", "--rounds", "1", "--threads", "1")
    rows = re.findall(r"^ *(model\.score|forward pass, .*?)  +([\d,]+) +([\d.]+)", out, re.M)
    speeds = [float(speed.replace(",", "")) for _, speed, _ in rows]
    assert len(rows) == 3
    for speed, (_, _, ratio) in zip(speeds, rows, strict=True):
        assert float(ratio) == pytest.approx(speeds[0] / speed, abs=0.02)


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


@pytest.mark.slow
def test_the_benchmark_of_quality_fills_its_table(tmp_path: Path) -> None:
    drawn = random.Random(0)  # no model does better than the number of symbols
    (tmp_path / "a.txt").write_text("".join(drawn.choices("abcdefgh", k=3000)), "utf-8")
    few = ["--seeds", "1", "2", "--threads", "1", "--overrides", "hidden_size=8"]
    few += ["trainer.max_epochs=3", "callbacks.samples=false", "--models", "plain", "network"]
    out = benchmark(tmp_path, "--quality", "--corpora", "--texts", "a.txt", *few)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    ngram, *models = [row for row in rows if len(row) == 8]
    assert ngram[:3] == ["a.txt", "2,400", "8"]
    assert ngram[3].startswith("Kneser-Ney")
    assert [row[3] for row in models] == ["plain", "network", "whole model"]
    for row in (ngram, *models):
        assert float(row[6]) == pytest.approx(8, rel=0.1)
        assert math.exp(float(row[4])) == pytest.approx(float(row[6]), rel=0.001)
    for row in models:
        found = re.findall(rf"a.txt, {row[3]}, seed \d: ([\d.]+) nats.*, ([\d.]+) CPU s", out)
        nats, seconds = zip(
            *((float(nats), float(seconds)) for nats, seconds in found), strict=True
        )
        assert len(nats) == 2
        assert float(row[4]) == pytest.approx(mean(nats), abs=0.001)
        assert float(row[5]) == pytest.approx(stdev(nats), abs=0.001)
        assert float(row[7]) == pytest.approx(mean(seconds), abs=0.6)


@pytest.mark.parametrize(("step", "patience"), [(0.02, 10**9), (0.5, 10**9), (0.02, 30)])
def test_a_model_trains_for_the_seconds_of_the_whole_model(
    step: float, patience: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of 26 steps an epoch, with constant costs, which end after `patience` epochs."""

    def train(name: str, overrides: list[str], directory: Path) -> quality.Training:
        limits = dict(override.split("=") for override in overrides)
        epochs = min(int(limits["trainer.max_epochs"]), patience)
        steps = min(26 * epochs, int(limits.get("trainer.max_steps", 10**9)))
        summary = RunSummary(status="finished", epochs=math.ceil(steps / 26))
        return quality.Training(summary, 7 + step * steps + 0.3 * math.ceil(steps / 26))

    monkeypatch.setattr(quality, "train", train)
    monkeypatch.setattr(quality, "count_sizes", lambda summary: (0, 0, 26))
    whole = [
        quality.Training(RunSummary(status="finished", epochs=30, seed=seed), 60 + 15 * seed)
        for seed in (1, 2, 3)
    ]
    runs = quality.train_as_long("a", [], whole, tmp_path)
    stopped = 7 + 30 * (26 * step + 0.3)
    expected = 90 if patience > 1000 else stopped
    assert [run.seconds for run in runs] == pytest.approx([expected] * 3, rel=0.02)


def test_versions_are_compared_by_the_ratios_of_the_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other version takes 2, 3 and 10 times as long; a run takes 7 s and 0.1 s a step."""
    runs: list[list[str]] = []

    def run(command: list[str], directory: Path) -> tuple[float, float]:
        assert directory == tmp_path
        runs.append(command)
        steps = [word.partition("=")[2] for word in command if word.startswith("trainer.max_steps")]
        seconds = 7 + 0.1 * int(steps[0]) if steps else 1.0
        of_python = sum(one[0] == command[0] for one in runs)
        times = [1, 2, 3, 10][(of_python - 1) // 12] if command[0] == "other" else 1
        return seconds * times, seconds * times * (2 if "lyricgen" in command[-1] else 4)

    monkeypatch.setattr(startup_speed, "_run", run)
    table = startup_speed.startup_speed(3, "other", tmp_path)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[1:4] for row in rows[:3]] == [
        ("4.000", "12.000", "3.000"), ("2.000", "6.000", "3.000"), ("1.000", "3.000", "3.000"),
    ]  # fmt: skip
    assert [row[:4] for row in rows[-2:]] == [
        ("training, defaults", "3.000", "9.000", "3.000"),
        ("training, small network", "150.000", "450.000", "3.000"),
    ]
    assert str(table.caption).startswith("import lyricgen: 0.50 times import importlib.metadata")


def test_the_texts_of_the_benchmark_of_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path))
    (tmp_path / "dinos.txt").touch()
    texts = quality.choose_texts(list(quality.TEXTS), [Path("a")], [Path("b")], tmp_path)
    assert list(texts)[:3] == ["lyrics", "dino", "coursera_dino"]  # jaychou is missing
    assert [name for name, chosen in texts.items() if "data.unit=line" in chosen] == ["b"]
    python, start, english = (
        (tmp_path / f"{name}.txt").read_text("utf-8")
        for name in ("python", "python_200k", "topics")
    )
    assert (len(python), len(start)) == (1_000_000, 200_000)
    assert python.startswith(start)
    assert Counter(re.findall(r"\w+", english)).most_common(1)[0][0] == "the"
