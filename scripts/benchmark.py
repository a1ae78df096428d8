"""How fast is lyricgen? python scripts/benchmark.py [--cells lstm] [--rounds 5] [--threads 1].

Training: lyricgen as a user runs it, with the Trainer, all callbacks, both loggers, samples,
validation, checkpoints and the progress bar (drawn into nothing), against the plain loop that the
books teach, one-hot characters into torch.nn.RNN, GRU or LSTM. The two take turns in one process.

Equal in both: the training characters and their order (32 rows read side by side, 35 steps at a
time, the state carried and detached), one layer of 256 units, 1,027 symbols, an output layer with
weights of its own, float32 on the CPU, the mean cross-entropy, the clipping of the gradient's norm,
SGD without momentum or weight decay, no dropout, no label smoothing, the epoch's loss added up.
Different: lyricgen reads an embedding of 256 numbers where the loop multiplies one-hot vectors of
1,027 (most of the gain), keeps the batch first, takes torch's fused SGD, follows the learning-rate
schedule in conf/ and records the gradient's norm. Everything not named here is as conf/ has it.

What is reported, medians over the rounds:
- plain loop: characters a second, the median epoch of a round;
- lyricgen: likewise, from the train/chars_per_second that it logs;
- ratio: of the two in the same round, so that a busy machine slows both; beside it the target;
- whole fit: lyricgen's training characters over all of Trainer.fit, so with n-gram counting,
  untrained samples, validation and checkpoints; it rises with --epochs;
- outside: share of a training step, from one on_train_batch_end to the next, that is spent outside
  training_step, backward, and the optimizer's step and zero_grad. Clipping counts as outside,
  though the plain loop clips too; the second table shows it by itself.
"""

import argparse
import gc
import itertools
import logging
import os
import platform
import shlex
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rich
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from lightning_fabric.utilities.seed import seed_everything
from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lyricgen import build, results
from lyricgen.callbacks.perplexity import EpochLog
from lyricgen.callbacks.samples import Samples
from lyricgen.config import TrainOptions, parse
from lyricgen.console import ConsoleHandler
from lyricgen.model.module import LanguageModelModule
from lyricgen.runs import Run
from lyricgen.train import CONFIG_DIRECTORY

SYMBOLS = 1027
TARGETS = {"rnn": 1.1, "gru": 1.15, "lstm": 1.6}  # lyricgen's speed over the plain loop's
OUTSIDE_TARGET = 0.10
PLAIN = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
PARTS = ("forward", "backward", "optimizer", "clipping", "rest")  # of a training step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each arm (default: 5)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs a turn (default: 5)")
    parser.add_argument("--characters", type=int, default=20_000, help="of the whole text")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own choice)")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, handlers=[ConsoleHandler()])
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    console = Console(width=100, highlight=False)
    with TemporaryDirectory() as directory, Path(os.devnull).open("w") as nowhere:
        os.environ["LYRICGEN_OUTPUTS"] = directory
        rich.reconfigure(file=nowhere, force_terminal=True)  # lyricgen's own console
        facts = machine_facts(Path(directory))
        tables = training_section(arguments, Path(directory))
    for name, value in facts.items():
        console.print(f"{name}: {value}", soft_wrap=True, markup=False)
    console.print(*tables, sep="\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine_facts(directory: Path) -> dict[str, str]:
    run = Run(directory)
    run.begin(seed=0)  # what every run notes of itself
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "command": shlex.join(sys.orig_argv),
        "git commit": str(run.summary["git_commit"]),
        "versions": ", ".join(f"{name} {text}" for name, text in run.summary["versions"].items()),
        "CPU": f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads of torch, load {load:.1f} at the start",
    }


# Training ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What one turn of each arm gave."""

    plain: float  # characters a second
    lyricgen: float  # characters a second
    whole_fit: float  # characters a second
    validation: float  # characters a second
    sampling: float  # characters a second
    checkpoint: float  # ms
    parts: dict[str, float]  # PARTS: ms a step

    @property
    def outside(self) -> float:
        """Share of a step outside forward, backward and optimizer."""
        return (self.parts["clipping"] + self.parts["rest"]) / sum(self.parts.values())


def training_section(arguments: argparse.Namespace, directory: Path) -> list[Table]:
    text = directory / "text.txt"
    text.write_text(zipf_text(arguments.characters), encoding="utf-8")
    numbers = itertools.count()

    def turn(cell: str, epochs: int) -> Turn:
        run = directory / str(next(numbers))
        run.mkdir()
        return take_turn(compose_options(cell, text, epochs), run)

    turns: dict[str, list[Turn]] = {cell: [] for cell in arguments.cells}
    for cell in arguments.cells:
        say(f"{cell}: warm-up")
        turn(cell, epochs=1)
    for number, cell in itertools.product(range(arguments.rounds), arguments.cells):
        latest = turn(cell, arguments.epochs)
        turns[cell].append(latest)
        speeds = f"plain loop {latest.plain:,.0f}, lyricgen {latest.lyricgen:,.0f} characters/s"
        say(f"{cell}: round {number + 1} of {arguments.rounds}: {speeds}")
    return [speed_table(turns), parts_table(turns), other_table(turns)]


def take_turn(options: TrainOptions, directory: Path) -> Turn:
    gc.collect()  # nothing of earlier turns is left to be cleaned up in this one
    seed_everything(options.seed, verbose=False)
    run = Run(directory)
    corpus = build.build_corpus(options.data)
    datamodule = build.build_datamodule(options, corpus)
    network = build.build_network(options, datamodule)
    plain = plain_loop(options, datamodule.parts["train"].ids.long(), len(datamodule.vocabulary))
    module = build.build_module(options, datamodule, network)
    module.__class__ = TimedModule  # the very object that a user trains, with a clock
    trainer = build.build_trainer(options, datamodule, network, corpus, run)
    run.begin(options.seed)
    results.begin_hyperparameters(trainer, options.model_dump())

    start = time.perf_counter()
    trainer.fit(module, datamodule)
    fit_seconds = time.perf_counter() - start

    start = time.perf_counter()
    trainer.save_checkpoint(directory / "timed.ckpt")
    checkpoint_seconds = time.perf_counter() - start

    samples = next(each for each in trainer.callbacks if isinstance(each, Samples))
    start = time.perf_counter()
    drawn = samples.draw(trainer.global_step, trainer.current_epoch)
    sampling_seconds = time.perf_counter() - start

    seconds = module.seconds
    seconds["rest"] = seconds["step"] - sum(seconds[part] for part in PARTS[:-1])
    rows = next(each for each in trainer.callbacks if isinstance(each, EpochLog)).rows
    return Turn(
        plain=plain,
        lyricgen=median(row["train/chars_per_second"] for row in rows),
        whole_fit=len(rows) * module.totals["train"].characters / fit_seconds,
        validation=len(rows) * module.totals["val"].characters / seconds["validation"],
        sampling=sum(len(each.text) - len(each.prefix) for each in drawn) / sampling_seconds,
        checkpoint=1000 * checkpoint_seconds,
        parts={part: 1000 * seconds[part] / trainer.global_step for part in PARTS},
    )


def plain_loop(options: TrainOptions, ids: Tensor, symbols: int) -> float:
    """The loop of the books; gives the characters a second of its median epoch."""
    batch_size, steps = options.data.batch_size, options.data.num_steps
    cell = PLAIN[options.cell.kind](symbols, options.hidden_size)
    output = nn.Linear(options.hidden_size, symbols)
    parameters = [*cell.parameters(), *output.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=options.optimizer.lr)
    rows = ids[: len(ids) // batch_size * batch_size].view(batch_size, -1)  # (B, N//B)
    speeds = []
    for _ in range(options.trainer.max_epochs):
        start = time.perf_counter()
        state, characters, nats = None, 0, 0.0
        for first in range(0, rows.shape[1] - steps, steps):
            inputs = rows[:, first : first + steps].T  # (T, B)
            targets = rows[:, first + 1 : first + steps + 1].T.flatten()  # (T·B,)
            hidden, state = cell(F.one_hot(inputs, symbols).float(), state)  # (T, B, H)
            if isinstance(state, tuple):  # an LSTM's
                state = (state[0].detach(), state[1].detach())
            else:
                state = state.detach()
            loss = F.cross_entropy(output(hidden).flatten(0, 1), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, options.trainer.gradient_clip_val)
            optimizer.step()
            characters += len(targets)
            nats += loss.item() * len(targets)
        speeds.append(characters / (time.perf_counter() - start))
    return median(speeds)


class TimedModule(LanguageModelModule):
    """Adds up the seconds of a training step's parts and of validation.

    Hooks of the module, not of a callback: Lightning's loops ask every callback at every hook, so
    one more would slow what is measured.
    """

    def on_train_start(self) -> None:
        """Begin to count: PARTS but for the rest, whole steps and validation."""
        super().on_train_start()
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def on_train_epoch_start(self) -> None:
        """Here the first step begins."""
        super().on_train_epoch_start()
        self._step_start = time.perf_counter()

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Here a step ends and the next one begins."""
        super().on_train_batch_end(*arguments)
        now = time.perf_counter()
        self.seconds["step"] += now - self._step_start
        self._step_start = now

    def training_step(self, *arguments: Any) -> Tensor:
        """Forward."""
        with self._timed("forward"):
            return super().training_step(*arguments)

    def backward(self, *arguments: Any) -> None:
        """Backward."""
        with self._timed("backward"):
            super().backward(*arguments)

    def optimizer_zero_grad(self, *arguments: Any) -> None:
        """A part of the optimizer's work."""
        with self._timed("optimizer"):
            super().optimizer_zero_grad(*arguments)

    def configure_gradient_clipping(self, *arguments: Any, **options: Any) -> None:
        """Clipping, after which nothing but the update is left."""
        with self._timed("clipping"):
            super().configure_gradient_clipping(*arguments, **options)
        self._update_start = time.perf_counter()

    def optimizer_step(self, *arguments: Any) -> None:
        """The other part; what runs before the update has its own clocks."""
        super().optimizer_step(*arguments)
        self.seconds["optimizer"] += time.perf_counter() - self._update_start

    def on_validation_start(self) -> None:
        """Here validation begins."""
        super().on_validation_start()
        self._validation_start = time.perf_counter()

    def on_validation_epoch_end(self) -> None:
        """Here it ends; checkpoints come later."""
        super().on_validation_epoch_end()
        self.seconds["validation"] += time.perf_counter() - self._validation_start


def compose_options(cell: str, text: Path, epochs: int) -> TrainOptions:
    """The options in conf/, with what makes both arms do the same."""
    overrides = [
        f"cell={cell}",
        "depth=shallow",
        "layers=1",
        "hidden_size=256",
        "model.input=embedding",
        "model.embedding_size=256",
        "model.tie_weights=false",
        "model.dropout=0",
        "loss.label_smoothing=0",
        "optimizer=sgd",
        "optimizer.momentum=0",
        "optimizer.weight_decay=0",
        "sampler=consecutive",
        "sampler.drop_last=true",
        "data=text",
        f"data.path='{text}'",
        "data.batch_size=32",
        "data.num_steps=35",
        "data.val_fraction=0.1",
        "data.test_fraction=0.1",
        "trainer=cpu",
        "trainer.gradient_clip_val=1",
        f"trainer.max_epochs={epochs}",
    ]
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides)
    values: Any = OmegaConf.to_container(config, resolve=True)
    return parse(values)


def zipf_text(length: int) -> str:
    """A text of SYMBOLS distinct characters, the k-th of them drawn 1/k as often as the first."""
    generator = np.random.default_rng(1)
    shares = 1 / np.arange(1, SYMBOLS + 1)
    drawn = generator.choice(SYMBOLS, length - SYMBOLS, p=shares / shares.sum())
    ranks = generator.permutation(np.concatenate([np.arange(SYMBOLS), drawn]))
    alphabet = [chr(0x4E00 + rank) for rank in range(SYMBOLS)]
    alphabet[8] = "\n"  # about every 60th character: songs have lines
    return "".join(alphabet[rank] for rank in ranks)


def speed_table(turns: dict[str, list[Turn]]) -> Table:
    table = new_table("training, characters a second", "")
    for name in ("plain loop", "lyricgen", "ratio", "at least", "whole fit", "outside", "at most"):
        table.add_column(name, justify="right")
    for cell, rounds in turns.items():
        ratio = median(each.lyricgen / each.plain for each in rounds)
        outside = median(each.outside for each in rounds)
        speeds = [medians(rounds, name) for name in ("plain", "lyricgen", "whole_fit")]
        plain, lyricgen, whole = (f"{speed:,.0f}" for speed in speeds)
        row = (plain, lyricgen, f"{ratio:.2f}", f"{TARGETS[cell]:.2f}", whole, f"{outside:.1%}")
        table.add_row(cell, *row, f"{OUTSIDE_TARGET:.0%}")
    return table


def parts_table(turns: dict[str, list[Turn]]) -> Table:
    table = new_table("a training step of lyricgen, ms", "")
    for name in (*PARTS, "step"):
        table.add_column(name, justify="right")
    for cell, rounds in turns.items():
        parts = [median(each.parts[part] for each in rounds) for part in PARTS]
        table.add_row(cell, *(f"{part:.2f}" for part in (*parts, sum(parts))))
    return table


def other_table(turns: dict[str, list[Turn]]) -> Table:
    table = new_table("beside training", "", *turns)
    for name, field in (
        ("validation, characters a second", "validation"),
        ("sampling, characters a second", "sampling"),
        ("one checkpoint, ms", "checkpoint"),
    ):
        table.add_row(name, *(f"{medians(rounds, field):,.0f}" for rounds in turns.values()))
    return table


def medians(rounds: list[Turn], field: str) -> float:
    return float(median(getattr(each, field) for each in rounds))


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


if __name__ == "__main__":
    main()
