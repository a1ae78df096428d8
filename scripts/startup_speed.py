"""Processor time of starts and of training steps; a part of benchmark.py.

Whole processes take turns, if asked also with the Python of an environment that has another version
of lyricgen. The rows of imports have the seconds of the import alone. The rows of training have the
seconds of a run less those of the same run with a single step. Columns:
- s: median of the processor seconds, user and system, of this version and of the other version;
- ratio: median over the rounds of the other version's seconds divided by this version's.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

from rich.table import Table

IMPORTS = ("importlib.metadata", "lyricgen")
LARGEST = 2.0  # most times that `import lyricgen` may cost of `import importlib.metadata`
LEAST = 0.97  # least ratio to an earlier version
STARTS = (
    *("train --help", "train --cfg job", "generate --help", "evaluate --help", "report --help"),
    "train seed=x",  # refused before any work
)
STEPS = ("trainer=cpu", "trainer.max_epochs=1000", "callbacks.early_stopping.enabled=false")
# numbers of steps and settings of training runs
TRAINING = {
    "training, defaults": (30, ()),
    "training, small network": (
        1500,
        ("recipe=none", "hidden_size=16", "data.batch_size=4", "data.num_steps=10"),
    ),
}
IMPORT = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


def startup_speed(rounds: int, other: str | None, directory: Path) -> Table:
    """Measure starts and training steps in rounds.

    Args:
        rounds: number of rounds.
        other: the Python of an environment with another version, or None.
        directory: directory for outputs.
    """
    pythons = [sys.executable, *([other] if other else [])]
    names = [*(f"import {name}" for name in IMPORTS), *STARTS, *TRAINING]
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds + 1):  # the first round fills caches
        for name, seconds in found.items():
            turn = pythons if number % 2 else pythons[::-1]
            measured = {python: _measure(name, python, directory) for python in turn}
            if number:
                seconds.append([measured[python] for python in pythons])
    heads = ["s", "other s", "ratio", "at least"] if other else ["s"]
    table = Table("", *heads, title="processor time")
    for name, seconds in found.items():
        row = [f"{median(each):.3f}" for each in zip(*seconds, strict=True)]
        if other:
            row += [f"{median(then / now for now, then in seconds):.3f}", f"{LEAST}"]
        table.add_row(name, *row)
    pairs = zip(*(found[f"import {name}"] for name in IMPORTS), strict=True)
    ratio = median(own[0] / plain[0] for plain, own in pairs)
    table.caption = (
        f"import lyricgen: {ratio:.2f} times import importlib.metadata, at most {LARGEST}"
    )
    return table


def _measure(name: str, python: str, directory: Path) -> float:
    """Measure the processor seconds of one row."""
    if name.startswith("import "):
        return _run([python, "-c", IMPORT.format(name.partition(" ")[2])], directory)[1]
    if name not in TRAINING:
        command, *arguments = name.split()
        return _run([python, "-m", f"lyricgen.{command}", *arguments], directory)[0]
    steps, settings = TRAINING[name]
    words = [python, "-m", "lyricgen.train", *STEPS, *settings]
    long, short = (_run([*words, f"trainer.max_steps={n}"], directory)[0] for n in (steps + 1, 1))
    return long - short


def _run(command: list[str], directory: Path) -> tuple[float, float]:
    """Run a command; return its processor seconds, and the number that it prints, if any."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"LYRICGEN_OUTPUTS": str(directory)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 2) or "Traceback" in done.stderr:
        raise RuntimeError(f"{command}: {done.stderr}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, float(done.stdout) if command[1] == "-c" else 0.0
