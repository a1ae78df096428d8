"""Speed of training, beside the plain loop; a part of benchmark.py.

lyricgen trains as for a user: with the Trainer, all callbacks, both loggers, samples, validation,
checkpoints and the progress bar (drawn into nothing). The plain loop of the textbooks feeds one-hot
characters to torch.nn.RNN, GRU or LSTM; for the cells written out, it calls RNNCell, GRUCell or
LSTMCell step by step. Both take turns in one process.

Equal in both: the training characters and their order (32 rows read side by side, 35 steps at a
time, the state carried and detached), one layer of 256 units, 1,027 symbols, an output layer with
weights of its own, float32 on the CPU, the mean cross-entropy, the clipping of the gradient's norm,
SGD without momentum or weight decay, no dropout, no label smoothing, and the sum of the epoch's
loss.

Different: lyricgen reads an embedding of 256 numbers where the loop multiplies one-hot vectors of
1,027 (most of the gain), keeps the batch first, takes the kernel of cell.kernel=auto and torch's
fused SGD, follows the learning-rate schedule in conf/ and records the gradient's norm. The cells
written out read one-hot input as rows of their matrix, all steps at once. All other settings are
those of conf/.

All figures are medians over the rounds. Columns:
- plain loop, lyricgen: characters a second in the median epoch of a round;
- ratio: lyricgen over plain loop in the same round; at least: its target;
- whole fit: lyricgen's training characters over the time of Trainer.fit, including n-gram counting,
  samples, validation and checkpoints; it rises with --epochs;
- outside: share of an epoch's training, up to its validation, outside training_step, backward, and
  the optimizer's step and zero_grad; at most: its target. Clipping counts as outside, though the
  plain loop clips too; the second table shows it by itself.
"""

import gc
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from lightning_fabric.utilities.seed import seed_everything
from omegaconf import OmegaConf
from plain_loop import plain_loop
from rich import box
from rich.table import Column, Table
from torch import Tensor

from lyricgen.cli.composition import register_resolvers
from lyricgen.data.build import build_corpus
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import ResumePoint, RunState
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.training import build
from lyricgen.training.build_trainer import build_observers, build_trainer
from lyricgen.training.hardware import choose_kernel
from lyricgen.training.options import TrainOptions, parse
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal

SYMBOLS = 1027
TARGETS = {"rnn": 1.4, "gru": 1.5, "lstm": 2.1}  # lyricgen's speed over the plain loop's
TARGETS |= {"rnn_scratch": 1.0, "gru_scratch": 1.0, "lstm_scratch": 1.0}
OUTSIDE_TARGET = 0.06
PARTS = ("forward", "backward", "optimizer", "clipping", "rest")  # of a training step

# columns of the tables, by the names in take_turn, with the formats of their numbers
SPEEDS = {"plain loop": ",.0f", "lyricgen": ",.0f", "ratio": ".2f", "at least": ".2f"}
SPEEDS |= {"whole fit": ",.0f", "outside": ".1%", "at most": ".0%"}
STEP = dict.fromkeys((*PARTS, "step"), ".2f")
BESIDE = {"validation": ",.0f", "sampling": ",.0f", "one checkpoint, ms": ".1f"}


def training(cells: list[str], rounds: int, epochs: int, directory: Path) -> list[Table]:
    text = directory / "text.txt"
    text.write_text(zipf_text(20_000), encoding="utf-8")
    turns: dict[str, list[dict[str, float]]] = {cell: [] for cell in cells}
    for number, cell in itertools.product(range(rounds + 1), cells):
        run = directory / f"{number}_{cell}"
        run.mkdir()
        turn = take_turn(compose_options(cell, text, epochs if number else 1), run)
        if number:
            turns[cell].append(turn)
        stage = f"round {number} of {rounds}" if number else "warm-up"
        speeds = f"plain loop {turn['plain loop']:,.0f}, lyricgen {turn['lyricgen']:,.0f}"
        print(f"{cell}, {stage}: {speeds} characters a second", file=sys.stderr, flush=True)

    def shown(cell: str, name: str, form: str) -> str:
        return format(median(turn[name] for turn in turns[cell]), form)

    def rows(forms: dict[str, str]) -> list[list[str]]:
        return [[cell, *(shown(cell, *item) for item in forms.items())] for cell in cells]

    beside = [[item[0], *(shown(cell, *item) for cell in cells)] for item in BESIDE.items()]
    return [
        make_table("training, characters a second", SPEEDS, rows(SPEEDS)),
        make_table("a training step of lyricgen, ms", STEP, rows(STEP)),
        make_table("beside training, characters a second", cells, beside),
    ]


def take_turn(options: TrainOptions, directory: Path) -> dict[str, float]:
    gc.collect()  # so that this turn does not clean up after earlier turns
    seed_everything(options.seed, verbose=False)
    corpus = build_corpus(options.data)
    datamodule = build.build_datamodule(options, corpus)
    network = build.build_model(options, datamodule)
    state, total = RunState(), NatsTotal(corpus.vocabulary)
    module = build.build_module(options, datamodule, network, state, total)
    module.__class__ = _TimedModule  # the very object that a user trains, with clocks
    module.seconds = seconds = Counter()
    run = Run(directory)
    run.begin(options.model_dump(mode="json"))
    observers = build_observers(
        *(options, datamodule, network, state, total, corpus),
        *(run, Interruption(), None, ResumePoint(), 0),
    )
    trainer = build_trainer(options, datamodule, run, observers, rank=0)

    ids = datamodule.splits["train"].ids.long().to(trainer.strategy.root_device)
    plain = plain_loop(options, ids, len(datamodule.vocabulary))
    with timed(seconds, "fit"):
        trainer.fit(module, datamodule)
    with timed(seconds, "checkpoint"):
        trainer.save_checkpoint(directory / "timed.ckpt")
    with timed(seconds, "sampling"):
        drawn = observers.samples.draw(trainer.global_step, trainer.current_epoch)

    seconds["rest"] = seconds["step"] - sum(seconds[part] for part in PARTS[:-1])
    lyricgen = median(row["train/chars_per_second"] for row in state.rows)
    sampled = sum(len(sample.text) - len(sample.prefix) for sample in drawn)
    epochs = len(state.rows)
    return {
        "plain loop": plain,
        "lyricgen": lyricgen,
        "ratio": lyricgen / plain,
        "at least": TARGETS[options.cell.kind],
        "whole fit": epochs * total.characters / seconds["fit"],
        "outside": (seconds["clipping"] + seconds["rest"]) / seconds["step"],
        "at most": OUTSIDE_TARGET,
        **{name: 1000 * seconds[name] / trainer.global_step for name in STEP},
        "validation": epochs * module.totals["val"].characters / seconds["validation"],
        "sampling": sampled / seconds["sampling"],
        "one checkpoint, ms": 1000 * seconds["checkpoint"],
    }


def make_table(title: str, names: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    columns = [Column(name, justify="right") for name in names]
    table = Table("", *columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    return table


@contextmanager
def timed(seconds: Counter[str], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - start


class _TimedModule(RecurrentModule):
    """Adds up seconds in the module's hooks, since one more callback would slow every hook."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._since = time.perf_counter()

    def on_validation_start(self) -> None:
        self._lap("step")

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._lap("validation")

    def _lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._since
        self._since = now

    def training_step(self, *arguments: Any) -> Tensor:
        with timed(self.seconds, "forward"):
            return super().training_step(*arguments)

    def optimizer_zero_grad(self, *arguments: Any) -> None:
        with timed(self.seconds, "optimizer"):
            super().optimizer_zero_grad(*arguments)

    def backward(self, *arguments: Any) -> None:
        with timed(self.seconds, "backward"):
            super().backward(*arguments)

    def configure_gradient_clipping(self, *arguments: Any, **options: Any) -> None:
        with timed(self.seconds, "clipping"):
            super().configure_gradient_clipping(*arguments, **options)
        self._clipped = time.perf_counter()

    def optimizer_step(self, *arguments: Any) -> None:
        super().optimizer_step(*arguments)  # calls the four hooks above, then updates
        self.seconds["optimizer"] += time.perf_counter() - self._clipped


def compose_options(cell: str, text: Path, epochs: int, accelerator: str = "cpu") -> TrainOptions:
    """Return the options of conf/, changed so that both programs do the same work."""
    given = "one_hot" if cell.endswith("_scratch") else "embedding"
    overrides = f"""
        recipe=none cell={cell} depth=shallow layers=1 hidden_size=256 loss.label_smoothing=0
        model.input={given} model.embedding_size=256 model.tie_weights=false model.dropout=0
        optimizer=sgd optimizer.momentum=0 optimizer.weight_decay=0
        sampler=consecutive sampler.drop_last=true data=text data.batch_size=32 data.num_steps=35
        data.val_fraction=0.1 data.test_fraction=0.1
        trainer.accelerator={accelerator} trainer.gradient_clip_val=1 trainer.max_epochs={epochs}
    """.split()
    overrides += ["cell.reset=after"] * (cell == "gru_scratch")  # as torch.nn.GRUCell
    return choose_kernel(parse(compose_values(*overrides, f"data.path='{text}'")))


def compose_values(*overrides: str) -> dict[str, Any]:
    """Compose the configuration in conf/ into plain values, which are not checked."""
    register_resolvers()
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", list(overrides))
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def zipf_text(length: int) -> str:
    """Make a text with all SYMBOLS characters, whose frequencies follow Zipf's law."""
    generator = np.random.default_rng(1)
    shares = 1 / np.arange(1, SYMBOLS + 1)
    drawn = generator.choice(SYMBOLS, length - SYMBOLS, p=shares / shares.sum())
    ranks = generator.permutation(np.concatenate([np.arange(SYMBOLS), drawn]))
    return "".join(chr(0x4E00 + rank) for rank in ranks)
