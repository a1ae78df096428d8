"""Training on several texts in turn, in one process; scale.py starts it.

Usage: python scripts/scale_speed.py FIGURES SAMPLER BLOCKS TEXT... Each text has the Trainer of the
train command with all callbacks, in a separate thread. Only one Trainer runs at a time, for ten
steps, so other work on the machine slows all texts alike. The JSON file FIGURES gets the speed of
each block on each text.
"""

import json
import os
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from training_speed import compose_values

from lyricgen.data import samplers
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import ResumePoint
from lyricgen.training.main import Training, prepare
from lyricgen.training.options import normalise

BLOCK = 10  # steps of a turn


class Turns:
    """Lets one of `count` threads run at a time, in turn."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._current = 0
        self._changed = threading.Condition()

    def wait(self, number: int) -> None:
        """Wait until it is this thread's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._current == number)

    def pass_on(self) -> None:
        """Let the next thread run."""
        with self._changed:
            self._current = (self._current + 1) % self._count
            self._changed.notify_all()


class ByTurns(pl.Callback):
    """Lets its Trainer run in its turn, and records the speed of each block except the first."""

    def __init__(self, number: int, turns: Turns, finished: threading.Barrier) -> None:
        self.speeds: list[float] = []
        self._number, self._turns, self._finished = number, turns, finished
        self._characters, self._since = 0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End a block and begin the next."""
        del pl_module
        if batch_idx % BLOCK == 0:
            if batch_idx > BLOCK:
                self.speeds.append(self._characters / (time.perf_counter() - self._since))
            if batch_idx:
                self._turns.pass_on()
            if batch_idx + BLOCK >= int(trainer.num_training_batches):
                self._finished.wait()
            self._turns.wait(self._number)
            self._characters, self._since = 0, time.perf_counter()
        self._characters += batch.num_characters


def training_on(text: str, sampler: str, blocks: int, directory: Path) -> Training:
    overrides = ["recipe=none", "data=text", "data.unit=text", f"data.path='{text}'"]
    overrides += ["trainer=cpu", f"sampler={sampler}", "trainer.max_epochs=1"]
    overrides += [f"trainer.limit_train_batches={BLOCK * (blocks + 2)}"]
    values = normalise(compose_values(*overrides))
    directory.mkdir(parents=True)
    run = Run(directory)
    run.begin(values)
    return prepare(values, run, ResumePoint(), Interruption())


def main() -> None:
    figures, sampler, blocks, texts = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    runs = Path(os.environ["LYRICGEN_OUTPUTS"]) / f"side by side, {sampler}"
    # keep every order in the cache, which otherwise holds one order only
    samplers._order = lru_cache(maxsize=None)(samplers._order.__wrapped__)
    turns, finished = Turns(len(texts)), threading.Barrier(len(texts) + 1)
    watched = [ByTurns(number, turns, finished) for number in range(len(texts))]
    for callback, text in zip(watched, texts, strict=True):
        training = training_on(text, sampler, blocks, runs / Path(text).stem)
        training.trainer.callbacks.append(callback)  # type: ignore[attr-defined]
        fit = training.trainer.fit
        arguments = (training.module, training.datamodule)
        threading.Thread(target=fit, args=arguments, daemon=True).start()
    finished.wait()
    Path(figures).write_text(json.dumps([each.speeds for each in watched]))
    os._exit(0)  # skip the rest of the runs


if __name__ == "__main__":
    main()
