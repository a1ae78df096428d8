"""Does a run survive anything? python scripts/chaos.py [--chains 25] [--seed 1] [--jobs 1].

A chain is one training run of a random configuration. The run is killed several times: at a random
moment, at a random access to one of its files, or by a signal that it can handle. After each death
it is resumed. At the end, its weights, optimizer, schedule, recurrent state, metrics.csv,
samples.jsonl, summary.json, and TensorBoard's scalars and texts must equal bit by bit those of an
undisturbed run. Only measured times and speeds may differ. The exit status is 1 if anything else
differs. Then both runs are exported as an ensemble, which is killed, too: its file must be whole or
absent, and equal that of an undisturbed export.

A life of a run takes about a second. One chain in four also logs to MLflow, if it is installed; the
last value of each step there must equal that in metrics.csv.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from compare_runs import differences, mlflow_differences
from lives import SIGNALS, live

import lyricgen.training.main  # noqa: F401
from lyricgen import export
from lyricgen.training.loggers.mlflow import ENVIRONMENT

# A run of about a second that uses every feature, and the settings that vary between chains.
SMALL = (
    *("trainer=cpu", "trainer.max_epochs=3", "hidden_size=8"),
    *("data.num_steps=10", "callbacks.baseline.max_order=2"),
    *("callbacks.samples.every_n_epochs=1", "callbacks.samples.length=8"),
    "callbacks.samples.count=2",
)
SAMPLERS = {
    "consecutive": ("data.max_chars=900", "sampler=consecutive"),
    "consecutive, rest left out": ("data.max_chars=850", "sampler.drop_last=true"),
    "random": ("data.max_chars=900", "sampler=random"),
    "random, random offset": ("data.max_chars=900", "sampler=random", "sampler.random_offset=true"),
    "lines": ("data=dino", "data.max_chars=700"),
    "lines, carried": ("data=dino", "data.max_chars=120", "sampler=lines_carried"),
    "documents": ("data.path=poems.txt", "data.unit=document", "data.max_chars=700"),
    "documents, carried": (
        *("data.path=poems.txt", "data.unit=document", "data.max_chars=120"),
        "sampler=lines_carried",
    ),
    "rows of a table": ("data.path=songs.csv", "data.column=text", "data.max_chars=700"),
}
LOGGERS = "logger=[default,mlflow]"
VARIATIONS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (
        ("recipe=none", "model.dropout=0.3"),
        ("recipe=auto",),
        ("recipe=auto", "effort=high"),
    ),
    (
        ("cell=rnn",),
        ("cell=gru",),
        ("cell=lstm",),
        ("cell=rnn", "cell.kernel=fused"),
        ("cell=gru", "cell.kernel=fused"),
        ("cell=lstm", "cell.kernel=fused"),
        ("cell=lstm_coupled",),
        ("cell=lstm_coupled", "cell.kernel=torch"),
        ("cell=gru_scratch",),
        ("cell=lstm_scratch",),
    ),
    ((), ("layers=2", "depth.dropout=0.2"), ("depth=deep", "layers=2")),
    (
        (),
        (),
        ("model.weight_drop=0.5", "model.noise=0.2"),
        ("model.locked_dropout=true", "model.noise=0.2", "model.noise_kind=kneser_ney"),
    ),
    ((), ("callbacks.average.enabled=true",)),
    ((), (), ("data.min_count=4",)),
    (("scheduler=none",), ("scheduler=cosine",), ("scheduler=plateau", "scheduler.patience=0")),
    ((), (), ("trainer.precision=64-true",), ("trainer.precision=bf16-mixed",)),
    (
        (),
        ("model.input=one_hot", "model.tie_weights=false"),
        ("model.embedding_dropout=0.2",),
        ("loss.label_smoothing=0",),
    ),
    (
        ("optimizer=sgd", "optimizer.momentum=0.9"),
        ("optimizer=adam",),
        ("optimizer=adamw",),
        ("optimizer=muon",),
    ),
    (
        (),
        (),
        ("trainer.val_check_interval=0.4",),
        ("trainer.val_check_interval=3", "callbacks.early_stopping.patience=2"),
        ("callbacks.early_stopping.patience=1",),
        ("trainer.check_val_every_n_epoch=2",),
        ("data.val_fraction=0", "data.test_fraction=0"),
        ("trainer.limit_train_batches=7",),
    ),
    (
        (),
        ("model=recurrent",),
        ("model=hybrid", "model.short_list=30"),
        ("model=hybrid", "model.combination=product", "model.max_chars=500"),
        ("model=hybrid", "model.combination=product", "model.short_list=10", "model.blocks=3"),
        ("model=hybrid", "memory=cache"),
        ("model=hybrid", "memory=cache", "memory.scope=line", "model.short_list=30"),
        ("model=hybrid", "memory=cache", "memory.size=100", "model.combination=product"),
        ("objective=fill", "recipe=none", "effort=normal"),
        ("loss.reduction=sum", "optimizer.lr=0.001"),
        ("callbacks.smoothed_loss.enabled=true", "callbacks.samples.steps=[2,11]"),
        ("trainer.max_steps=23", "callbacks.smoothed_loss.enabled=true"),
    ),
    tuple((f"callbacks.checkpoint.every_n_steps={n}",) for n in ("1", "2", "3", "5", "null")),
    (
        (),
        (),
        ("callbacks.checkpoint.keep_best=2",),
        ("callbacks.checkpoint.every_n_epochs=2",),
        ("callbacks.checkpoint.keep_best=3", "callbacks.checkpoint.every_n_epochs=3"),
    ),
    ((), (), *((f"trainer.accumulate_grad_batches={n}",) for n in (2, 3))),
    ((), (), (), (LOGGERS,)),
)
DEATHS = 8  # most deaths in a chain
TOUCHES = 250  # approximate number of accesses of an undisturbed run to its files


@dataclass
class Outcome:
    """Result of a chain."""

    configuration: list[str]
    deaths: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chains", type=int, default=25, help="number of chains (default: 25)")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="chains at a time (default: 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    deaths: Counter[str] = Counter()
    samplers: Counter[str] = Counter()
    wrong = 0
    with TemporaryDirectory() as name, ThreadPoolExecutor(arguments.jobs) as pool:
        os.environ["LYRICGEN_OUTPUTS"] = name
        os.chdir(name)
        write_texts(random.Random(arguments.seed))
        load_mlflow(Path(name))
        chains = [
            pool.submit(chain, Path(name) / f"歌 {number}", number, arguments.seed)
            for number in range(arguments.chains)
        ]
        for number, future in enumerate(chains):
            outcome = future.result()
            deaths += outcome.deaths
            samplers[sampler_of(number)] += 1
            wrong += bool(outcome.differences)
            killed = ", ".join(f"{count} {cause}" for cause, count in outcome.deaths.items())
            verdict = "; ".join(outcome.differences) or "equal"
            print(f"{number + 1}/{arguments.chains} {sampler_of(number)}: {killed}: {verdict}")
            if outcome.differences:
                print(f"  {' '.join(outcome.configuration)}")
            sys.stdout.flush()
    print(f"chains by sampler: {dict(samplers)}")
    print(f"deaths: {sum(deaths.values())} {dict(deaths)}")
    print(f"chains that differ from an undisturbed run: {wrong} of {arguments.chains}")
    sys.exit(wrong > 0)


def write_texts(drawn: random.Random) -> None:
    """Write a file of poems, between empty lines, and a table of songs."""

    def verse(characters: str) -> str:
        return "".join(drawn.choices(characters, k=5))

    poems = ["\n".join(verse("春夏秋冬山水风月花雪") for _ in range(2)) for _ in range(30)]
    Path("poems.txt").write_text("\n\n".join(poems), "utf-8")
    rows = [f'{number},"{verse("abcde ")}, {verse("fghij")}"' for number in range(90)]
    Path("songs.csv").write_text("\n".join(["number,text", *rows]), "utf-8")


def sampler_of(number: int) -> str:
    return list(SAMPLERS)[number % len(SAMPLERS)]


def load_mlflow(directory: Path) -> None:
    """Load MLflow and what it needs for a database, once for all chains."""
    if find_spec("mlflow") is not None:
        os.environ.update(ENVIRONMENT)
        import mlflow  # noqa: PLC0415  an extra

        mlflow.MlflowClient(f"sqlite:///{directory}/unused.db").search_experiments(max_results=1)


def chain(directory: Path, number: int, seed: int) -> Outcome:
    """Kill and resume one run until it is done; compare it with an undisturbed run."""
    drawn = random.Random(f"{seed} {number}")
    rows = 1 if "carried" in sampler_of(number) else 4
    configuration = [*SMALL, *SAMPLERS[sampler_of(number)], f"seed={number}"]
    configuration.append(f"data.batch_size={rows}")
    for choices in VARIATIONS:
        configuration += drawn.choice(choices)
    if LOGGERS in configuration and find_spec("mlflow") is None:
        configuration.remove(LOGGERS)
    bf16 = "trainer.precision=bf16-mixed"
    if bf16 in configuration and "cell=lstm" in configuration:
        configuration.remove(bf16)  # not every CPU trains torch's LSTM in it
    outcome = Outcome(configuration)
    undisturbed, run = directory / "undisturbed", directory / "run"
    start = time.perf_counter()
    status = live([*configuration, f"hydra.run.dir='{undisturbed}'"], directory / "undisturbed.log")
    span = time.perf_counter() - start
    if status != 0:
        outcome.differences.append(f"the undisturbed run has status {status}")
        return outcome
    deaths = drawn.randint(1, DEATHS)
    for life in range(100):
        begun = (run / "summary.json").exists()
        arguments = [f"resume={run}"] if begun else [*configuration, f"hydra.run.dir='{run}'"]
        cause, moment = "", 0.0
        if outcome.deaths.total() < deaths:
            cause = drawn.choice(["SIGKILL", "SIGKILL", "file", "signal"])
            moment = 0.7 * (TOUCHES if cause == "file" else span) * drawn.random()
        status = live(arguments, directory / f"life {life}.log", cause, moment, drawn)
        if status == 0 and outcome.deaths:
            break
        if status == 0:  # it ended before its first death
            shutil.rmtree(run)
            continue
        outcome.deaths[cause or "by itself"] += 1
        if status not in (-signal.SIGKILL, 130, 143, *(-number for number in SIGNALS)):
            outcome.differences.append(f"life {life} ended with status {status}")
            outcome.differences.append((directory / f"life {life}.log").read_text("utf-8")[-2000:])
            return outcome
    outcome.differences += differences(undisturbed, run)
    if LOGGERS in configuration:
        for each in (undisturbed, run):
            outcome.differences += mlflow_differences(directory.parent / "mlflow.db", each)
    if not {"objective=fill", "memory=cache"} & {*configuration}:  # no members of ensembles
        outcome.differences += export_with_deaths(directory, [undisturbed, run], drawn)
    return outcome


def export_with_deaths(directory: Path, runs: list[Path], drawn: random.Random) -> list[str]:
    """Export runs as an ensemble, with deaths and without; tell how the files differ."""
    whole, killed, log = directory / "whole.safetensors", directory / "o.safetensors", directory
    start = time.perf_counter()
    status = live([*map(str, runs), "--out", str(whole)], log / "export.log", main=export.main)
    span = time.perf_counter() - start
    if status != 0:
        return [f"export has status {status}", (log / "export.log").read_text("utf-8")[-2000:]]
    arguments = [*map(str, runs), "--out", str(killed), "--force"]
    for death in (*drawn.choices(["SIGKILL", "signal"], k=3), ""):
        live(arguments, log / "killed.log", death, span * drawn.random(), drawn, main=export.main)
        if killed.exists() and killed.read_bytes() != whole.read_bytes():
            return [f"the exported file differs after {death or 'the last export'}"]
    return [] if killed.exists() else ["export has written no file"]


if __name__ == "__main__":
    main()
