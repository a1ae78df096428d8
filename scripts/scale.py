"""Start, speed and memory of training on texts of several sizes; a part of benchmark.py.

Every figure comes from a new process that runs the train command with the options of conf/. The
texts have the same distinct characters, drawn by Zipf's law from one seed. Columns:
- encoding: seconds to make a vocabulary and ids from the text at the first start;
- first, second start: seconds from the start of Python to the first training step; the second start
  finds the ids in the cache (median of the rounds);
- resident: largest memory of a whole run (with n-grams, validation, test and samples) and of
  training with each sampler;
- consecutive, random: median training characters a second with this sampler; against: median ratio
  to the speed on the smallest text, in blocks of ten steps taken in turn in one process;
- validation: seconds of the first validation, including n-gram counting.
Each run finds the files in the system's cache; a cold disk adds the time to read the text.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

SEED = 1
SYMBOLS = 5_000  # distinct characters, the newline among them
SAMPLERS = ("consecutive", "random")
TARGETS = {
    "encoding, s": "<= 30",
    "first start, s": "",
    "second start, s": "<= 5",
    "resident, GB": "<= 1.5",
    "consecutive, chars/s": "",
    "consecutive, against": ">= 0.95",
    "random, chars/s": "",
    "random, against": ">= 0.95",
    "validation, s": "<= 60",
}


def scale(sizes: list[float], rounds: int, steps: int, directory: Path) -> Table:
    """Measure training on texts of the given sizes in megabytes."""
    texts = {size: directory / f"{size:g}.txt" for size in sizes}
    for size, path in texts.items():
        tell(f"{size:g} MB: making the text")
        write_text(path, round(size * 1_000_000))
    found: dict[float, dict[str, list[float]]] = {size: defaultdict(list) for size in sizes}

    def note(size: float, stage: str, last: int, *overrides: str) -> dict[str, float]:
        warm([texts[size], *(directory / "cache" / "encoded").glob("*.ids")])
        figures = child(directory, last, f"data.path={texts[size]}", *overrides)
        found[size]["resident"].append(figures["peak"] / 1e9)
        tell(f"{size:g} MB, {stage}: {json.dumps(figures)}")
        return figures

    for size in sizes:
        figures = note(size, "first start", 0, f"trainer.limit_train_batches={steps}")
        for name in ("encoding", "first step", "validation"):
            found[size][name].append(figures[name])
    for number, size in itertools.product(range(rounds), sizes):
        figures = note(size, f"second start, {number + 1} of {rounds}", 1)
        found[size]["second start"].append(figures["first step"])
    for sampler in SAMPLERS:
        for size in sizes:
            note(size, f"memory, {sampler}", steps, f"sampler={sampler}")
        speeds = side_by_side(directory, sampler, max(1, steps // 10), list(texts.values()))
        for size, of_size in zip(sizes, speeds, strict=True):
            found[size][sampler] = of_size
    return table(sizes, found)


def side_by_side(
    directory: Path, sampler: str, blocks: int, texts: list[Path]
) -> list[list[float]]:
    """Measure the speed of each block on each text, in training characters a second."""
    tell(f"{sampler}: training on all texts in turn")
    warm([*texts, *(directory / "cache" / "encoded").glob("*.ids")])
    speeds: list[list[float]] = run_script(
        directory, "scale_speed.py", sampler, str(blocks), *map(str, texts)
    )
    return speeds


def child(directory: Path, last: int, *overrides: str) -> dict[str, float]:
    """Measure one run, which ends after step `last`, or by itself if `last` is 0."""
    settings = ("recipe=none", "data=text", "data.unit=text", "trainer=cpu")
    measured: dict[str, float] = run_script(
        directory, "scale_child.py", str(last), *settings, "trainer.max_epochs=1", *overrides
    )
    return measured


def run_script(directory: Path, name: str, *arguments: str) -> Any:
    """Run a script beside this one; return the content of the JSON file that it writes."""
    figures = directory / "figures.json"
    figures.unlink(missing_ok=True)
    settings = {
        "LYRICGEN_DATA": str(directory / "cache"),
        "LYRICGEN_OUTPUTS": str(directory / "outputs"),
        "SCALE_STARTED": str(time.time()),
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name(name), figures, *arguments],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if not figures.exists():
        raise SystemExit(f"{name} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return json.loads(figures.read_text())


def table(sizes: list[float], found: dict[float, dict[str, list[float]]]) -> Table:
    shown = Table("", *(f"{size:g} MB" for size in sizes), "target")
    rows: dict[str, list[str]] = {name: [] for name in TARGETS}
    for size in sizes:
        of = found[size]
        rows["encoding, s"].append(f"{of['encoding'][0]:.1f}")
        rows["first start, s"].append(f"{of['first step'][0]:.1f}")
        rows["second start, s"].append(f"{median(of['second start']):.1f}")
        rows["resident, GB"].append(f"{max(of['resident']):.2f}")
        rows["validation, s"].append(f"{of['validation'][0]:.1f}")
        for sampler in SAMPLERS:
            rows[f"{sampler}, chars/s"].append(f"{median(of[sampler]):,.0f}")
            pairs = zip(of[sampler], found[sizes[0]][sampler], strict=True)
            rows[f"{sampler}, against"].append(f"{median(a / b for a, b in pairs):.3f}")
    for name, cells in rows.items():
        shown.add_row(name, *cells, TARGETS[name])
    return shown


def write_text(path: Path, size: int) -> None:
    """Write at least `size` bytes of UTF-8: first each character once, then drawn characters."""
    generator = np.random.default_rng(SEED)
    alphabet = np.concatenate([[10], 0x4E00 + np.arange(SYMBOLS - 1)]).astype("<u4")
    shares = np.cumsum(1 / np.arange(1, SYMBOLS + 1))
    with path.open("wb") as stream:
        drawn = generator.permutation(SYMBOLS)
        while size > 0:
            piece = alphabet[drawn].tobytes().decode("utf-32-le").encode()
            size -= stream.write(piece)
            ranks = shares[-1] * generator.random(min(1 << 21, max(1, size // 2)))
            drawn = np.searchsorted(shares, ranks, side="right")


def warm(paths: list[Path]) -> None:
    for path in paths:
        with path.open("rb") as stream:
            while stream.read(1 << 22):
                pass


def tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
