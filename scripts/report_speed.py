"""Time of a report on many runs, from the start of Python; a part of benchmark.py.

The runs are written without training. They have several cells, layers and learning rates, ten
seeds, and 30 epochs each.
"""

import csv
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from random import Random
from statistics import median

from rich.table import Table

from lyricgen.files import to_json

EPOCHS = 30
SEEDS = 10
TARGET = 20.0  # seconds for a thousand runs


def report_speed(counts: list[int], rounds: int, directory: Path) -> Table:
    table = Table("runs", "seconds", "at most", title="python -m lyricgen.report")
    for count in counts:
        sweep = directory / f"{count}_runs"
        make_runs(sweep, count)
        seconds = median(_report(sweep) for _ in range(rounds))
        table.add_row(f"{count:,}", f"{seconds:.1f}", f"{TARGET:g}" if count == 1000 else "")
    return table


def make_runs(sweep: Path, count: int) -> None:
    """Write run directories with summary.json and metrics.csv, as a sweep writes them."""
    cells, layers = ("rnn", "gru", "lstm", "gru_scratch"), (1, 2, 3, 4, 5)
    rates = [0.001 * (1 + step) for step in range(-(-count // (len(cells) * len(layers) * SEEDS)))]
    grid = product(cells, layers, rates, range(1, SEEDS + 1))
    for number, (cell, depth, rate, seed) in zip(range(count), grid, strict=False):
        typed = [f"cell={cell}", f"layers={depth}", f"optimizer.lr={rate}", f"seed={seed}"]
        options = {
            "seed": seed,
            "layers": depth,
            "name": f"lyrics_{cell}_{depth}x64",
            "objective": "next",
            "cell": {"kind": cell},
            "model": {"kind": "recurrent"},
            "data": {"kind": "lyrics", "path": None, "val_fraction": 0.1},
            "optimizer": {"kind": "adamw", "lr": rate},
        }
        _make_run(sweep / f"{number}_{','.join(typed)}", number, typed, options)


def _make_run(directory: Path, number: int, typed: list[str], options: dict[str, object]) -> None:
    directory.mkdir(parents=True)
    draw = Random(number)
    level = 200 + 100 * draw.random()
    curve = [level * (1 + 2 / epoch) for epoch in range(1, EPOCHS + 1)]
    summary = {
        "status": "finished",
        "job": number,
        "overrides": typed,
        "options": options,
        "best_epoch": EPOCHS,
        "parameters": draw.randrange(10**5, 10**6),
        "chars_per_second": 1e4 * (1 + draw.random()),
        "wall_seconds": 100 * (1 + draw.random()),
        "val/perplexity": curve[-1],
        "test/perplexity": curve[-1] + 5,
        "samples": ["分开\n你说的" * 4] * 3,
    }
    (directory / "summary.json").write_text(to_json(summary), encoding="utf-8")
    with (directory / "metrics.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["epoch", "step", "val/perplexity", "train/perplexity"])
        for epoch, value in enumerate(curve, 1):
            writer.writerow([epoch, 25 * epoch, value, value - 10])


def _report(sweep: Path) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "lyricgen.report", str(sweep)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return time.perf_counter() - start
