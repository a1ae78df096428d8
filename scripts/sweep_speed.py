"""Time and memory that a sweep adds to its training, in one process; a part of benchmark.py."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rich.table import Table

TARGET = 0.5  # most seconds from a job's end to the first step of the next job
GROWTH = 50  # most megabytes that later jobs may add to the first job's


def sweep_speed(jobs: int, directory: Path) -> Table:
    """Measure a sweep of small jobs on the bundled lyrics.

    Args:
        jobs: number of jobs.
        directory: directory for their outputs.
    """
    overrides = ["hidden_size=16", "trainer=cpu", "trainer.max_epochs=1", f"seed=range({jobs})"]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("sweep_child.py"), "-m", *overrides],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"LYRICGEN_OUTPUTS": str(directory)},
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    gaps, megabytes = measured["gaps"], measured["megabytes"]
    table = Table(title=f"a sweep of {jobs} jobs on data=lyrics, one epoch each")
    for name in ("", "measured", "at most"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("s between jobs, median", f"{statistics.median(gaps):.2f}", "")
    table.add_row("s between jobs, longest", f"{max(gaps):.2f}", f"{TARGET}")
    table.add_row("MB after the first job", f"{megabytes[0]:.0f}", "")
    table.add_row("MB more after another", f"{max(megabytes) - megabytes[0]:.0f}", f"{GROWTH}")
    return table
