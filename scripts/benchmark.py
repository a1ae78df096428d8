"""How fast is lyricgen? python scripts/benchmark.py [--cells lstm] [--rounds 5] [--threads 1].

Without an option it compares training with a plain loop (training_speed.py). An option chooses
another measurement: --kernels compares the kernels of cells (kernel_speed.py), --generation
compares writing with the notebooks' loop (generation_speed.py), --scoring compares scoring lines
with the plain forward pass (scoring_speed.py), --scale trains on texts of 1, 100 and 1,000 MB
(scale.py), --sweep compares jobs in one process with jobs in processes of their own
(sweep_speed.py), --report measures reports on many runs (report_speed.py), --quality compares
models trained for equal processor time (quality.py), and --startup measures starts and steps, with
--other PYTHON against the version in another environment (startup_speed.py). A round of --sweep is
two whole sweeps of --jobs jobs, one in each way. On a busy machine use --threads 1 or
OMP_WAIT_POLICY=passive, since waiting threads use up the cores.
"""

import argparse
import logging
import os
import platform
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import rich
import torch
from generation_speed import ensemble_generation, generation
from kernel_speed import kernel_speed
from quality import KINDS, TEXTS, choose_texts, quality
from report_speed import report_speed
from rich.console import Console, RenderableType
from scale import scale
from scoring_speed import scoring
from startup_speed import startup_speed
from sweep_speed import sweep_speed
from training_speed import TARGETS, training

from lyricgen.console import ConsoleHandler
from lyricgen.runs.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each program (default: 5)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs a turn (default: 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--generation", action="store_true", help="measure writing texts")
    instead.add_argument("--scoring", action="store_true", help="measure scoring lines")
    instead.add_argument("--kernels", action="store_true", help="measure the kernels of cells")
    instead.add_argument("--scale", action="store_true", help="measure texts of several sizes")
    instead.add_argument("--sweep", action="store_true", help="measure two sweeps a round")
    parser.add_argument("--jobs", type=int, default=30, help="jobs of a sweep (default: 30)")
    instead.add_argument("--report", action="store_true", help="measure reports on many runs")
    instead.add_argument("--quality", action="store_true", help="compare models on texts")
    instead.add_argument("--startup", action="store_true", help="measure starts and steps")
    parser.add_argument("--other", metavar="PYTHON", help="of an environment with another version")
    parser.add_argument("--corpora", nargs="*", choices=TEXTS, default=list(TEXTS))
    parser.add_argument("--texts", nargs="+", type=Path, default=[], help="further running texts")
    parser.add_argument("--lists", nargs="+", type=Path, default=[], help="further lists of lines")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of --quality")
    parser.add_argument(
        "--models", nargs="*", choices=KINDS, default=KINDS, help="of --quality, besides the whole"
    )
    parser.add_argument("--overrides", nargs="+", default=[], help="settings of all its runs")
    parser.add_argument(
        "--sizes", type=float, nargs="+", default=[1, 100, 1000], help="of texts in MB"
    )
    parser.add_argument(
        "--steps", type=int, default=200, help="of a round: training steps, or characters of a text"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, handlers=[ConsoleHandler()])
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    console = Console(width=100, highlight=False)
    with TemporaryDirectory() as name, Path(os.devnull).open("w") as nowhere:
        os.environ["LYRICGEN_OUTPUTS"] = name
        rich.reconfigure(file=nowhere, force_terminal=True)  # lyricgen's own console
        console.print(machine_facts(Path(name)), soft_wrap=True, markup=False)
        for table in tables(arguments, Path(name)):
            console.print(table)


def tables(arguments: argparse.Namespace, directory: Path) -> Iterator[RenderableType]:
    """Measure as the arguments say, and yield tables."""
    rounds, steps = arguments.rounds, arguments.steps
    if arguments.generation:
        yield generation(rounds, steps)
        yield ensemble_generation(rounds, steps)
    elif arguments.scoring:
        yield scoring(rounds)
    elif arguments.kernels:
        yield kernel_speed(rounds)
    elif arguments.sweep:
        yield sweep_speed(arguments.jobs, rounds, directory)
    elif arguments.scale:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
        yield scale(arguments.sizes, rounds, steps, directory)
    elif arguments.report:
        yield report_speed([6, 1000], rounds, directory)
    elif arguments.startup:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
        yield startup_speed(rounds, arguments.other, directory)
    elif arguments.quality:
        texts = choose_texts(arguments.corpora, arguments.texts, arguments.lists, directory)
        yield quality(texts, arguments.seeds, arguments.models, arguments.overrides, directory)
    else:
        yield from training(arguments.cells, rounds, arguments.epochs, directory)


def machine_facts(directory: Path) -> str:
    run = Run(directory)
    run.begin({"seed": 0})  # fills the summary with versions and the commit
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return f"""command: {shlex.join(sys.orig_argv)}
git commit: {run.summary.git_commit}
versions: {", ".join(" ".join(item) for item in run.summary.versions.items())}
CPU: {next(models, platform.processor())}, {os.cpu_count()} cores
threads of torch: {torch.get_num_threads()}"""


if __name__ == "__main__":
    main()
