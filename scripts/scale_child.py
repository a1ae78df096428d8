"""The train command with measurements of time and memory; scale.py starts it.

Usage: python scripts/scale_child.py FIGURES STEPS [overrides]. The process writes the JSON file
FIGURES, and ends after STEPS training steps, or at the end of the whole run if STEPS is 0.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

STARTED = float(os.environ["SCALE_STARTED"])  # time.time() just before this process began

from pytorch_lightning.loops.evaluation_loop import _EvaluationLoop  # noqa: E402

from lyricgen import train  # noqa: E402
from lyricgen.training import main as training  # noqa: E402
from lyricgen.training.callbacks.baseline import Baseline  # noqa: E402
from lyricgen.training.recurrent_module import RecurrentModule  # noqa: E402

figures: dict[str, float] = {}


def timed(owner: Any, name: str, figure: str) -> None:
    """Record the seconds that the first call of a method takes."""
    original = getattr(owner, name)

    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = original(*arguments, **options)
        figures.setdefault(figure, time.perf_counter() - start)
        return result

    setattr(owner, name, call)


def watch_steps(path: Path, last: int) -> None:
    original = RecurrentModule.training_step

    def step(self: Any, batch: Any, index: int) -> Any:
        figures.setdefault("first step", time.time() - STARTED)
        if index == last:
            finish(path)
        return original(self, batch, index)

    RecurrentModule.training_step = step  # type: ignore[method-assign]


def finish(path: Path) -> None:
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    figures["peak"] = int(peak[1]) * 1024 if peak else float("nan")
    path.write_text(json.dumps(figures))
    os._exit(0)


def main() -> None:
    path, last = Path(sys.argv[1]), int(sys.argv[2])
    sys.argv = ["lyricgen.train", *sys.argv[3:]]
    timed(training, "find_corpus", "encoding")
    timed(Baseline, "count", "baseline")
    timed(_EvaluationLoop, "run", "validation")
    watch_steps(path, last or -1)
    train.main()
    finish(path)


if __name__ == "__main__":
    main()
