"""Judgement of the runs of check_gpu.sh, which calls this script; it writes rows of a table."""

import argparse
import csv
import json
import math
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from compare_runs import differences
from plain_loop import PLAIN
from training_speed import compose_options, take_turn, zipf_text

import lyricgen
from lyricgen.generation.texts import continue_prefixes, log_probabilities
from lyricgen.runs.summary import perplexity_name
from lyricgen.training.options import TrainOptions

# Largest relative difference of a perplexity from the CPU's in 32-true. cuDNN's layers may compute
# in TF32 by themselves: torch.backends.cudnn.allow_tf32.
ROUNDING = {"32-true": 1e-3, "64-true": 1e-3, "16-mixed": 1e-2, "bf16-mixed": 3e-2}
ROUNDING |= {"bf16-true": 1e-1}
TF32 = 1e-2
NATS = 5e-3  # largest difference of the nats of a character of a generated text
# reasons why a device cannot compute in another precision
CANNOT = ("this CPU cannot train", "not implemented for", "not supported")

WRITING: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.8},
    {"temperature": 0.8, "count": 64},
    {"top_k": 5, "count": 64},
    {"top_p": 0.9, "count": 64},
    {"beams": 3, "count": 1},
)
FORMS: dict[str, dict[str, Any]] = {  # constraints of running text and of lists of lines
    "stream": {"lines": 3, "line_length": 5, "count": 64},
    "lines": {"max_length": 6, "count": 64},
}


class Row(NamedTuple):
    """A row of the table without its part; `state` is ok, failed or cannot."""

    command: str
    state: str
    figure: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", required=True)
    parser.add_argument("--rows", type=Path, required=True, help="file to which the rows go")
    parser.add_argument("check", choices=["jobs", "stopped", "sweep", "speed"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--common", default="", help="overrides that the table does not show")
    parser.add_argument("--status", type=int, help="exit status of the run that was stopped")
    arguments = parser.parse_args()
    check, directory = arguments.check, arguments.directory
    if check == "jobs":
        rows = check_jobs(directory, arguments.accelerator, arguments.common)
    elif check == "stopped":
        rows = check_stopped(directory, arguments.status)
    elif check == "sweep":
        rows = check_sweep(directory)
    else:
        rows = measure_speed(directory, arguments.accelerator)
    with arguments.rows.open("a", encoding="utf-8") as stream:
        for row in rows:
            cells = [" ".join(cell.split()) for cell in (arguments.part, *row)]
            stream.write("\t".join(cells) + "\n")
            stream.flush()


def check_jobs(directory: Path, accelerator: str, common: str) -> Iterator[Row]:
    """Judge each job of a part: its perplexity, its resumed twin and its texts.

    Args:
        directory: of the part.
        accelerator: with which the jobs were trained.
        common: overrides of all parts, which the table does not show.
    """
    hidden = {"trainer.accelerator"} | {each.partition("=")[0] for each in common.split()}
    runs, references = jobs(directory / "whole"), jobs(directory / "cpu")
    if not runs:
        sys.exit("no job was trained")
    device = "cuda" if accelerator == "gpu" else "cpu"
    for number, run in runs.items():
        summary = read_summary(run)
        name = " ".join(
            each for each in summary["overrides"] if each.partition("=")[0] not in hidden
        )
        if summary["status"] != "finished":
            reason = summary.get("reason", summary["status"])
            print(summary.get("traceback", ""))
            full = summary["options"]["trainer"]["precision"] == "32-true"
            cannot = not full and any(part in reason for part in CANNOT)
            yield Row(f"train {name}", "cannot" if cannot else "failed", reason[:150])
            continue
        reference = references.get(0 if len(references) == 1 else number)
        yield attempt(f"train {name}", compare_perplexities, run, reference)
        resumed = jobs(directory / "resumed").get(number)
        yield attempt(f"resume {name}", compare_runs, run, resumed)
        best = run / "checkpoints" / "best.ckpt"
        yield attempt(f"generate {name}", write_texts, best, device)


def attempt(command: str, check: Callable[..., tuple[bool, str]], *arguments: Any) -> Row:
    """Make a row of a check, which returns whether all is well, and a figure."""
    try:
        well, figure = check(*arguments)
    except Exception as error:  # the other checks go on
        traceback.print_exc()
        well, figure = False, f"{type(error).__name__}: {error}"
    return Row(command, "ok" if well else "failed", figure[:150])


def jobs(sweep: Path) -> dict[int, Path]:
    """Find the jobs of a sweep by their numbers."""
    found = sweep.glob("*_*/summary.json")
    return dict(sorted((int(path.parent.name.partition("_")[0]), path.parent) for path in found))


def read_summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text("utf-8"))


def read_last(run: Path, name: str) -> float:
    """Read the last value of a column of metrics.csv."""
    with (run / "metrics.csv").open(encoding="utf-8") as stream:
        return float([row[name] for row in csv.DictReader(stream)][-1])


def compare_perplexities(run: Path, cpu: Path | None) -> tuple[bool, str]:
    """Compare the last perplexity of a run with that of the same run on the CPU.

    The best one may be from before the first step.
    """
    if cpu is None:
        return False, "there is no run on the CPU to compare with"
    summary = read_summary(run)
    one, other = (read_last(each, f"val/{perplexity_name(summary)}") for each in (run, cpu))
    difference = abs(one / other - 1)
    trainer = summary["options"]["trainer"]
    tf32 = trainer["float32_matmul_precision"] == "high"
    bound = TF32 if tf32 else ROUNDING[trainer["precision"]]
    figure = f"perplexity {one:.4f}, CPU {other:.4f}: {difference:.1e}, at most {bound:g}"
    return difference <= bound, figure


def compare_runs(whole: Path, resumed: Path | None) -> tuple[bool, str]:
    if resumed is None:
        return False, "there is no resumed run"
    found = differences(whole, resumed)
    return not found, "; ".join(found) or "equal to the bit"


def write_texts(checkpoint: Path, device: str) -> tuple[bool, str]:
    """Write texts on the device in all ways; the CPU must find them as probable."""
    model, on_cpu = lyricgen.load(checkpoint, device), lyricgen.load(checkpoint)
    if model.options["objective"] == "fill":
        same = fill(model) & fill(on_cpu)
        return same.total() >= 60, f"{same.total()} of 64 filled texts as on the CPU, at least 60"
    worst, number = 0.0, 0
    for options in (*WRITING, FORMS[model.layout]):
        count, length = options.get("count", 1), None if options in FORMS.values() else 12
        written, writer = continue_prefixes(model, [""], length=length, seed=1, **options)
        texts = [one.text for one in written]
        if len(written) != count or not obeys(options, texts):
            return False, f"{options} gave {texts}"
        inputs = [model.encode_prefix(one.prefix) for one in written]
        scored = [one.scored for one in written]
        there = log_probabilities(writer.network, inputs, scored)
        here = log_probabilities(on_cpu.next_model, inputs, scored)
        lengths = torch.tensor([max(1, len(row)) for row in scored])
        worst = max(worst, float(((there - here).abs() / lengths).max()))
        number += count
    figure = f"{number} texts: nats a character differ by {worst:.1e}, at most {NATS:g}"
    return worst <= NATS, figure


def fill(model: Any) -> Counter[str]:
    """Fill a gap between characters of the vocabulary 64 times."""
    start = "".join(model.vocabulary.characters[10:15])
    return Counter(model.fill_many([f"{start}_{start}"], count=64, sweeps=3))


def obeys(options: dict[str, Any], texts: list[str]) -> bool:
    """Whether texts have the form that the options ask for."""
    if "lines" in options:
        lines = [text.rstrip("\n").split("\n") for text in texts]
        return all([len(line) for line in one] == [5, 5, 5] for one in lines)
    return all(len(text) <= options.get("max_length", math.inf) for text in texts)


def check_stopped(directory: Path, status: int) -> Iterator[Row]:
    """Judge the run that SIGTERM stopped: it ends with status 143 and loses nothing."""
    state = "ok" if status == 143 else "failed"
    yield Row("train, stopped by SIGTERM", state, f"exit status {status}, must be 143")
    whole, stopped = directory / "whole", directory / "stopped"
    yield attempt("train resume=RUN", compare_runs, whole, stopped)


def check_sweep(directory: Path) -> Iterator[Row]:
    """Judge the jobs of a sweep and its report."""
    states = [read_summary(run)["status"] for run in jobs(directory).values()]
    report = (directory / "report" / "report.html").exists()
    done = states == ["finished"] * 4 and report
    figure = f"{', '.join(states)}; {'a' if report else 'no'} report"
    yield Row("train -m cell=gru,lstm seed=1,2", "ok" if done else "failed", figure)


def measure_speed(directory: Path, accelerator: str) -> Iterator[Row]:
    """Measure characters a second beside the plain loop; the first turn warms up."""
    length, epochs = (100_000, 3) if accelerator == "gpu" else (5_000, 1)
    text = directory / "zipf.txt"
    text.write_text(zipf_text(length), encoding="utf-8")
    for cell in PLAIN:
        options = compose_options(cell, text, epochs, accelerator)
        yield attempt(f"training of {cell}", compare_speeds, options, directory)


def compare_speeds(options: TrainOptions, directory: Path) -> tuple[bool, str]:
    for _ in range(2):
        with TemporaryDirectory(dir=directory) as run:
            turn = take_turn(options, Path(run))
    own, plain = turn["lyricgen"], turn["plain loop"]
    return True, f"{own:,.0f} characters/s, plain loop {plain:,.0f}: ratio {own / plain:.2f}"


if __name__ == "__main__":
    main()
