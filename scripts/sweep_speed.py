"""Time and memory that a sweep adds to its training; a part of benchmark.py.

Sweeps with hydra/launcher=basic, whose jobs run in one process, and with hydra/launcher=processes,
whose jobs have a process each, take turns. In both one job runs at a time. Columns:
- s to the first step: from the start of Python to the first training step of the first job;
- s between jobs: from the end of a job to the first training step of the next job;
- MB: resident memory of a job's process at the end of the job.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

TARGET = 0.5  # most seconds from a job's end to the first step of the next job in one process
GROWTH = 50  # most megabytes that later jobs may add to the first job's
LAUNCHERS = ("basic", "processes")


def sweep_speed(jobs: int, rounds: int, directory: Path) -> Table:
    """Measure sweeps of small jobs on the bundled lyrics.

    Args:
        jobs: number of jobs of a sweep.
        rounds: number of sweeps with each launcher.
        directory: directory for their outputs.
    """
    found: dict[str, list[dict[str, Any]]] = {launcher: [] for launcher in LAUNCHERS}
    for _ in range(rounds):
        for launcher, sweeps in found.items():
            sweeps.append(_sweep(launcher, jobs, directory))
    title = f"sweeps of {jobs} jobs on data=lyrics, one epoch each"
    table = Table("", *LAUNCHERS, "ratio", "at most", title=title)

    def add(name: str, figures: list[float], target: str = "", digits: int = 2) -> None:
        shown = [f"{figure:.{digits}f}" for figure in figures]
        table.add_row(name, *shown, f"{figures[1] / figures[0]:.2f}" if digits else "", target)

    gaps = [[gap for one in sweeps for gap in one["gaps"]] for sweeps in found.values()]
    firsts = [[one["megabytes"][0] for one in sweeps] for sweeps in found.values()]
    more = [
        [max(one["megabytes"]) - one["megabytes"][0] for one in sweeps] for sweeps in found.values()
    ]
    starts = [median(one["start"] for one in sweeps) for sweeps in found.values()]
    add("s to the first step, median", starts)
    add("s between jobs, median", [median(each) for each in gaps])
    add("s between jobs, longest", [max(each) for each in gaps], f"{TARGET}")
    add("MB after the first job", [max(each) for each in firsts], digits=0)
    add("MB more after another", [max(each) for each in more], f"{GROWTH}", digits=0)
    return table


def _sweep(launcher: str, jobs: int, directory: Path) -> dict[str, Any]:
    overrides = ["recipe=none", "hidden_size=16", "trainer=cpu", "trainer.max_epochs=1"]
    overrides += [f"seed=range({jobs})", f"hydra/launcher={launcher}"]
    overrides += ["hydra.sweeper.jobs_at_a_time=1"]
    start = time.time()
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("sweep_child.py"), "-m", *overrides],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"LYRICGEN_OUTPUTS": str(directory)},
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured | {"start": measured["first_step"] - start}
