"""The check of the GPU ends well without a GPU, and says which check failed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from check_gpu import compare_perplexities

from tests.conftest import ROOT


def check_gpu(
    place: Path, *arguments: str, python: str = 'exec "$PYTHON" "$@"'
) -> tuple[int, list[str]]:
    """Run the script with a `python3` of the given shell commands; return status and lines."""
    wrapper = place / "bin" / "python3"
    wrapper.parent.mkdir()
    wrapper.write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
    wrapper.chmod(0o755)
    env = os.environ | {
        "PYTHON": sys.executable,
        "PATH": f"{wrapper.parent}:{os.environ['PATH']}",
        "OUT": str(place),
        "TMPDIR": str(place),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [ROOT / "scripts" / "check_gpu.sh", *arguments],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_one_line_where_there_is_no_gpu(tmp_path: Path) -> None:
    status, lines = check_gpu(tmp_path)
    assert status == 0
    assert lines == ["no GPU: nothing to check; --accelerator cpu tries the script on the CPU"]


def test_one_line_where_packages_are_missing(tmp_path: Path) -> None:
    status, [line] = check_gpu(tmp_path, python='exec "$PYTHON" -S -E "$@"')
    assert status == 2
    assert line.startswith("packages missing: torch pytorch-lightning hydra-core ")


def test_one_line_for_a_part_that_is_not_known(tmp_path: Path) -> None:
    status, [line] = check_gpu(tmp_path, "cell")
    assert (status, line.partition(":")[0]) == (2, "cell")


@pytest.mark.parametrize(
    ("precision", "matmul", "ratio", "well"),
    [
        ("32-true", "highest", 1.0009, True),
        ("32-true", "highest", 0.9989, False),
        ("32-true", "high", 1.009, True),
        ("32-true", "high", 1.011, False),
        ("bf16-mixed", "highest", 0.98, True),
        ("bf16-mixed", "highest", 1.04, False),
    ],
)
def test_a_perplexity_off_by_more_than_rounding_fails(
    precision: str, matmul: str, ratio: float, well: bool, tmp_path: Path
) -> None:
    trainer = {"precision": precision, "float32_matmul_precision": matmul}
    run, cpu = tmp_path / "run", tmp_path / "cpu"
    for directory, perplexity in ((run, 50 * ratio), (cpu, 50)):
        directory.mkdir()
        # a model with n-grams may be best before its first step
        figures = f"epoch,val/perplexity\n0,40\n1,{perplexity}\n"
        (directory / "metrics.csv").write_text(figures, encoding="utf-8")
    summary = {"val/perplexity": 40, "options": {"trainer": trainer}}
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert compare_perplexities(run, cpu)[0] is well


@pytest.mark.slow
def test_a_part_on_the_cpu(tmp_path: Path) -> None:
    status, lines = check_gpu(tmp_path, "--accelerator", "cpu", "lines")
    table = (tmp_path / "check_gpu.txt").read_text("utf-8").splitlines()
    assert status == 0, table
    assert lines[1:] == table
    rows = [line.split() for line in table[1:-1]]
    assert [row[:2] for row in rows] == [
        ["lines", name] for name in ("train", "resume", "generate")
    ]
    assert all("ok" in row for row in rows)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["bin"]


@pytest.mark.slow
def test_a_failed_part_stops_no_other_part(tmp_path: Path) -> None:
    broken = 'case "$*" in *lyricgen.train*) exit 1;; esac; exec "$PYTHON" "$@"'
    parts = ("ngram", "sweep")
    status, lines = check_gpu(tmp_path, "--accelerator", "cpu", *parts, python=broken)
    rows = {line.split()[0]: line for line in lines[-4:-2]}
    assert status == 1
    assert all("failed" in rows[part] for part in parts), lines
    assert "=== ngram\n" in (tmp_path / "check_gpu.log").read_text("utf-8")
