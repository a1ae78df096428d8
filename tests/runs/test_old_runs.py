"""Runs, a sweep and a model file that an earlier version wrote can be read, resumed and reported.

`fixtures/old_runs.tar.xz` holds three runs, an n-gram run, a sweep of two jobs and an exported
model. Its `continued.json` holds the losses of a third epoch that the earlier version trained.
"""

import csv
import json
import tarfile
from pathlib import Path

import pytest

from lyricgen import evaluate, generate, report
from tests.conftest import ROOT, Train, printed

ARCHIVE = ROOT / "tests/fixtures/old_runs.tar.xz"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "old_runs"


@pytest.mark.parametrize("name", ["lstm", "names", "fill", "sweep"])
def test_a_resumed_run_goes_on_as_it_would_have(runs: Path, train: Train, name: str) -> None:
    done = train(f"resume={runs / name}", "trainer.max_epochs=3")
    assert done.status == 0, done.err
    for job, losses in json.loads((runs / "continued.json").read_text()).items():
        if job.split("/")[0] == name:
            with (runs / job / "metrics.csv").open(encoding="utf-8") as stream:
                last = list(csv.DictReader(stream))[-1]
            assert last["epoch"] == "3"
            for figure, value in losses.items():
                # other kinds of CPU round differently
                assert float(last[figure]) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", ["lstm", "names", "ngram", "sweep/0_seed=1", "lstm.safetensors"])
def test_a_model_writes(runs: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    [text] = printed(generate.main, capfd, runs / name, "--length", "1").texts[:1]
    assert text


def test_the_runs_are_evaluated_and_reported(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluated = printed(evaluate.main, capfd, runs / "lstm", "--resamples", "100", "--json")
    assert json.loads(evaluated.out)["parts"]
    reported = printed(report.main, capfd, runs, "--out", tmp_path / "report", "--json")
    assert reported.status == 0, reported.err
    assert sum(row["n"] for row in json.loads(reported.out)) == 6
