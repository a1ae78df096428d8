"""Quality of the models at equal processor time; a part of benchmark.py.

These models train on each text, on one thread: `whole model` with all defaults, `network` with
model=recurrent, and `plain` with recipe=none. The whole model runs first. The mean of its processor
seconds is the budget of the text, from the start of Python to the end of the run, with counting
n-grams, validation and samples. Each of the others makes two short runs, of one epoch and of some
more, by which trainer.max_steps is chosen so that the run uses the budget; the schedule of the
learning rate follows. Later seeds also learn from the seconds of the seed before. The column
`CPU s` shows how near they come; a run that callbacks.early_stopping ends takes less.

`ensemble` is the whole models of all seeds as one, by evaluate --together. Figures of another kind
stand below, since these models learn as they read: `with memory` is memory=cache, trained for as
many steps as its recipe says, and `PPMd` the compressor at its best order.

The texts are the bundled ones, those of the notebooks if LYRICGEN_DATA has them, modules of
Python's standard library (1,000,000 and 200,000 characters), its documentation in English, and
files of the user. Columns:
- characters: in the training split; symbols: distinct characters of the whole text;
- nats: on the validation split, a character, in the best epoch, mean over the seeds; the row of the
  n-grams is the best order of Kneser-Ney smoothing;
- deviation: standard deviation of the nats over the seeds;
- perplexity: the exponential of the nats;
- CPU s: mean processor seconds of a run.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from resource import RUSAGE_CHILDREN, getrusage
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from lyricgen.data.build import build_corpus
from lyricgen.data.cached_files import cache_directory
from lyricgen.data.options import BUNDLED, PUBLISHED
from lyricgen.runs.directories import SUMMARY
from lyricgen.runs.summary import RunSummary
from lyricgen.training.build import build_datamodule
from lyricgen.training.options import parse

NETWORK = ["model=recurrent"]
PLAIN = ["recipe=none"]
PYTHON = {"python": 1_000_000, "python_200k": 200_000}  # characters of the standard library
KINDS = ("plain", "network", "ensemble", "memory", "ppmd")  # beside the whole model
TEXTS = (*BUNDLED, *PUBLISHED, *PYTHON, "topics")
SHORT = 0.15  # epochs of a model's second short run, as a share of the whole model's


@dataclass(frozen=True)
class Training:
    """A finished run, with its processor seconds."""

    summary: RunSummary
    seconds: float

    @property
    def nats(self) -> float:
        """Nats a character on the validation split, in the best epoch."""
        nats = self.summary.metrics["val/loss"]
        return math.nan if nats is None else nats


def quality(
    texts: dict[str, list[str]],
    seeds: list[int],
    kinds: list[str],
    overrides: list[str],
    directory: Path,
) -> Table:
    """Train models on each text.

    Args:
        texts: overrides that choose each text, by its name.
        seeds: seeds of the runs.
        kinds: names of `KINDS`; the whole model is always trained.
        overrides: overrides of all runs.
        directory: directory for their outputs.
    """
    columns = ("text", "characters", "symbols", "", "nats", "deviation", "perplexity", "CPU s")
    table = Table(*columns, title="validation at equal processor time, one thread")
    for name, of_text in texts.items():
        chosen = [*of_text, *overrides]
        kept = directory / "whole"
        whole = [
            train(f"{name}, whole model", [*chosen, f"seed={seed}"], directory, kept / str(seed))
            for seed in seeds
        ]
        found = {
            kind: train_as_long(f"{name}, {kind}", [*chosen, *own], whole, directory)
            for kind, own in (("plain", PLAIN), ("network", NETWORK))
            if kind in kinds
        }
        summary = whole[0].summary
        perplexities = summary.ngram_perplexities["val"]["kneser_ney"]
        best, order = min(zip(perplexities, range(1, 10), strict=False))
        figures = f"Kneser-Ney {order}-gram", f"{math.log(best):.3f}", "", f"{best:.2f}"
        characters, symbols, _ = count_sizes(summary)
        table.add_row(name, f"{characters:,}", f"{symbols:,}", *figures)
        for kind, runs in (found | {"whole model": whole}).items():
            table.add_row("", "", "", kind, *format_figures(runs))
        runs = [str(path) for path in sorted(kept.iterdir())]
        if "ensemble" in kinds and len(runs) > 1:
            models = evaluate([*runs, "--together"])["models"]
            [joined] = [one for one in models if one["kind"] == "ensemble"]
            add_loss(table, f"{joined['name']}", joined["loss"]["value"])
        table.add_section()
        if "memory" in kinds:
            memory = [*chosen, "memory=cache"]
            trained = [
                train(f"{name}, with memory", [*memory, f"seed={seed}"], directory)
                for seed in seeds
            ]
            table.add_row("", "", "", "with memory", *format_figures(trained))
        if "ppmd" in kinds:
            [ppmd] = evaluate([runs[0], "--compressors"])["with_memory"]
            add_loss(table, ppmd["name"], ppmd["loss"]["value"])
        table.add_section()
        shutil.rmtree(kept)
    return table


def evaluate(arguments: list[str]) -> dict[str, Any]:
    """Evaluate runs on the validation split, and return the figures of this split."""
    command = [sys.executable, "-m", "lyricgen.evaluate", *arguments, "--split", "val", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)["parts"]["val"]
    return figures


def add_loss(table: Table, name: str, nats: float) -> None:
    table.add_row("", "", "", name, f"{nats:.3f}", "", f"{math.exp(nats):.2f}", "")


def train_as_long(
    name: str, overrides: list[str], whole: list[Training], directory: Path
) -> list[Training]:
    """Train a model with each seed of the whole model, for the mean of its processor seconds."""
    budget = mean(run.seconds for run in whole)
    whole_epochs = max(run.summary.epochs or 0 for run in whole)
    points: list[tuple[int, float]] = []  # steps and seconds of its runs
    for epochs in (1, 1 + math.ceil(SHORT * whole_epochs)):
        run = train(f"{name}, short", [*overrides, f"trainer.max_epochs={epochs}"], directory)
        _, _, steps_per_epoch = count_sizes(run.summary)
        points.append(((run.summary.epochs or 0) * steps_per_epoch, run.seconds))
    runs = []
    for seed in (run.summary.seed for run in whole):
        (first, start), (last, end) = points[0], points[-1]
        # the seconds of runs that are too short may not grow at all
        share = (budget - start) / max(end - start, budget / 100)
        steps = max(1, round(first + share * (last - first)))
        # every epoch has a step, so the steps end the run
        limits = [f"trainer.max_steps={steps}", f"trainer.max_epochs={steps}"]
        run = train(name, [*overrides, *limits, f"seed={seed}"], directory)
        runs.append(run)
        made = min(steps, (run.summary.epochs or 0) * steps_per_epoch)
        if made > last:
            points.append((made, run.seconds))
    return runs


def train(name: str, overrides: list[str], directory: Path, kept: Path | None = None) -> Training:
    """Run the train command on one thread; remove its outputs, or keep the run at `kept`."""
    outputs = directory / "quality"
    before = children_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "lyricgen.train", "trainer=cpu", *overrides],
        env=os.environ | {"LYRICGEN_OUTPUTS": str(outputs), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = children_seconds() - before
    if done.returncode:
        raise SystemExit(f"{name}, {' '.join(overrides)}: {done.stderr[-2000:]}")
    [path] = outputs.rglob(SUMMARY)
    run = Training(RunSummary.read(path.parent), seconds)
    if kept is not None:
        kept.parent.mkdir(exist_ok=True)
        path.parent.rename(kept)
    shutil.rmtree(outputs)
    epochs = f"epoch {run.summary.best_epoch} of {run.summary.epochs}"
    figures = f"{run.nats:.3f} nats in {epochs}, {seconds:.1f} CPU seconds"
    print(f"{name}, seed {run.summary.seed}: {figures}", file=sys.stderr, flush=True)
    return run


def children_seconds() -> float:
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def count_sizes(summary: RunSummary) -> tuple[int, int, int]:
    """Count a run's training characters, its symbols, and the steps in one of its epochs."""
    options = parse(summary.options or {})
    data = build_datamodule(options, build_corpus(options.data))
    steps = options.trainer.epoch_batches(len(data.sampler))
    return len(data.splits["train"].ids), len(data.vocabulary), steps


def format_figures(runs: list[Training]) -> list[str]:
    nats = [run.nats for run in runs]
    deviation = f"{stdev(nats):.3f}" if len(nats) > 1 else ""
    seconds = mean(run.seconds for run in runs)
    return [f"{mean(nats):.3f}", deviation, f"{math.exp(mean(nats)):.2f}", f"{seconds:.0f}"]


def choose_texts(
    names: list[str], files: list[Path], lists: list[Path], directory: Path
) -> dict[str, list[str]]:
    """Return the overrides that choose each text; a missing text of the notebooks is left out.

    Args:
        names: names of TEXTS.
        files: files with running text.
        lists: files with one sample a line.
        directory: directory for the texts that are written.
    """
    chosen = {}
    for name in names:
        if name in BUNDLED:
            chosen[name] = [f"data={name}"]
        elif name in PUBLISHED:
            if (cache_directory() / PUBLISHED[name].file_name).exists():
                chosen[name] = [f"data={name}"]
        else:
            path = directory / f"{name}.txt"
            path.write_text(read_python(name), encoding="utf-8")
            chosen[name] = [*choose_file(path), "data.control_characters=drop"]  # form feeds
    chosen |= {str(path): choose_file(path) for path in files}
    return chosen | {str(path): choose_file(path, "line") for path in lists}


def choose_file(path: Path, unit: str = "text") -> list[str]:
    return ["data=text", f"data.path='{path.resolve()}'", f"data.unit={unit}"]


def read_python(name: str) -> str:
    if name not in PYTHON:
        return "\n\n".join(topics.values())
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return "".join(path.read_text("utf-8") for path in modules)[: PYTHON[name]]
