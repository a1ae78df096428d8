"""Settings that suit a text: `recipe=auto` fills them in where they say `auto`.

A short text is read many times, by a network that is kept from learning it by heart, and its
n-grams are mixed with the network. A long text is read a few times, and the network learns to
correct the n-grams. docs/recipes.md shows the measurements.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lyricgen.data.corpus import EncodedCorpus
from lyricgen.models.cells import CELLS
from lyricgen.settings import (
    OF_SAMPLER,
    OF_TEXT,
    Settings,
    flatten,
    list_auto,
    override_text,
    replace_auto,
)
from lyricgen.training.hardware import choose_kernel
from lyricgen.training.options import Effort, TrainOptions, fill_forced, parse

log = logging.getLogger(__name__)

# Training characters over the root of the number of symbols: of a short and of a long text.
SHORT, LONG = 1_000, 60_000
PRODUCT = 300_000  # training characters from which a product is better than a mixture
# Bound on characters read, times multiplications for each: some three minutes on two cores.
BUDGET = 2e12
GPU = 50  # factor of the budget on a GPU; not measured
HIGH = 4  # factor of the budget with effort=high
READINGS = {"normal": (40, 5), "high": (60, 12)}  # most epochs for a short and for a long text
LISTED = 1_000  # characters of a short list, for a product of many symbols
FEW = 3  # readings up to which no text is learnt by heart
OLDER_RATE = 0.5  # factor of the learning rate with init_from, measured on 1,100 characters
FEWEST_STEPS = 20  # of an epoch; a shorter text gets smaller batches
CHARACTERS = 1_500  # of a batch of lines or documents
PIECE = 128  # most characters of a piece of a document; docs/recipes.md has the measurement


@dataclass(frozen=True)
class Text:
    """Facts about a text that decide its recipe.

    Attributes:
        characters: number of training characters.
        symbols: number of distinct characters.
        row: mean characters in a line of a list, or in a piece of a document; None for running
            text.
        longest: most characters in a piece of a document; None for lines and running text.
    """

    characters: int
    symbols: int
    row: float | None
    longest: int | None = None


def recipe(
    text: Text, effort: Effort, *, on_gpu: bool, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Choose the settings for a text, by flat names.

    `effort=high` allows four times the computation. `chosen` holds the settings that the user has
    chosen, by flat names; the number of layers, the cell and the model are always among them.
    """
    max_epochs, max_steps = chosen.get("trainer.max_epochs"), chosen.get("trainer.max_steps")
    ratio = text.characters / math.sqrt(text.symbols)
    long = min(max(math.log(ratio / SHORT) / math.log(LONG / SHORT), 0.0), 1.0)
    size = 512 if on_gpu else 384 if effort == "high" and long == 1 else 256
    sizes = _choose_sizes(text, size, chosen)
    # characters to read
    budget = BUDGET * (HIGH if effort == "high" else 1) * (GPU if on_gpu else 1)
    budget /= _count_multiplications(text, {**sizes, **chosen})
    if budget < FEW * text.characters:
        long = 1.0
    short, scarce = 1 - long, max(0.0, 1 - 4 * long)
    most = READINGS[effort][0] * short + READINGS[effort][1] * long
    readings = max_epochs or min(budget / text.characters, most)
    rows, steps = _batch(text, long, on_gpu=on_gpu)
    devices = chosen.get("trainer.devices")
    rows = max(rows, devices) if isinstance(devices, int) else rows  # each process needs one
    window = text.row or chosen.get("data.num_steps", steps)
    batches = chosen.get("trainer.accumulate_grad_batches", 1)
    step = batches * chosen.get("data.batch_size", rows) * window  # characters
    length = readings if max_steps is None else min(readings, max_steps * step / text.characters)
    rate = 0.012**short * 0.008**long * (1 if chosen.get("init_from") is None else OLDER_RATE)
    return sizes | {
        "model.dropout": round(0.65 * short + 0.2 * long, 2),
        "model.weight_drop": round(0.5 * scarce, 2),
        "model.noise": round(0.1 * scarce, 2),
        "loss.label_smoothing": round(0.1 * scarce, 2),
        "data.batch_size": rows,
        "data.num_steps": steps,
        "optimizer.lr": round(rate, 4),
        "optimizer.weight_decay": round(0.3**short * 0.01**long, 2),
        "scheduler.warmup_epochs": round(0.04 * length, 3),
        "trainer.max_epochs": max(1, round(readings)),
        "trainer.max_steps": None if readings >= 1 else math.ceil(budget / step),
        "callbacks.average.enabled": long < 1,
    }


def _choose_sizes(text: Text, hidden_size: int, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the sizes of a model, by flat names; `hidden_size` unless the user has chosen one."""
    tied = text.symbols > 1000
    way = "product" if text.characters >= PRODUCT else "mixture"
    many = chosen.get("model.combination", way) == "product" and text.symbols > 2 * LISTED
    return {
        "hidden_size": chosen.get("hidden_size", hidden_size),
        "model.embedding_size": None if tied else 64,
        "model.tie_weights": tied,
        "model.short_list": LISTED if many else None,
        "model.combination": way,
    }


def _count_multiplications(text: Text, settings: Mapping[str, Any]) -> int:
    """Count the multiplications for a character in the cells and in the output layer."""
    size: int = settings["hidden_size"]
    outputs: int = text.symbols
    listed = settings["model.short_list"] if settings["model"] == "hybrid" else None
    if listed is not None and outputs > 2 * listed:  # fewer characters get no list
        outputs = listed
    inputs: int = (settings["model.embedding_size"] or size) + (2 * settings["layers"] - 1) * size
    return size * (len(CELLS[settings["cell"]].gates) * inputs + outputs)


def _batch(text: Text, long: float, *, on_gpu: bool) -> tuple[int, int]:
    """Choose the rows of a batch, and the characters of a window or of a piece of a document."""
    steps, most = (128, 128) if on_gpu else (48, 48) if long == 1 else (35, 32)
    row: float = steps
    if text.row is not None:
        row = text.row
        most = math.ceil(CHARACTERS / row)
    rows = max(1, min(most, int(text.characters / (row * FEWEST_STEPS))))
    return rows, text.longest or steps


def _describe_text(corpus: EncodedCorpus, options: TrainOptions, chosen: Settings) -> Text:
    data, total = options.data, len(corpus)
    most = total if data.max_held_out is None else data.max_held_out
    held_out = sum(min(most, total * part) for part in (data.val_fraction, data.test_fraction))
    longest: Any = chosen.get("data.num_steps", PIECE) if data.unit == "document" else None
    row = None
    if data.unit != "text":
        lengths = [len(line) + 1 for line in corpus.lines]
        pieces = [1 if longest is None else -(-length // longest) for length in lengths]
        row = total / sum(pieces)
    return Text(max(1, int(total - held_out)), len(corpus.vocabulary), row, longest)


def fill_auto(values: dict[str, Any], corpus: EncodedCorpus) -> TrainOptions:
    """Fill in the settings that say `auto`; with recipe=none they get their plain values.

    Args:
        values: the whole configuration, in plain values.
        corpus: the text of the run.
    """
    separator, verse = corpus.division
    found = {"data.unit": corpus.unit, "data.separator": separator, "data.verse": verse}
    values = replace_auto(values, found)
    options = parse(values)
    if options.recipe == "auto":
        values, trainer = fill_forced(values), options.trainer
        flat = flatten(options.model_dump(mode="json"))
        chosen = {name: flat[name] for name in flat.keys() - list_auto(values)}
        on_gpu = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        text = _describe_text(corpus, options, chosen)
        filled = recipe(text, options.effort, on_gpu=on_gpu, chosen=chosen)
        if trainer.has_half_weights:  # too short for an average, which gets its plain value
            del filled["callbacks.average.enabled"]
        values = replace_auto(values, filled)
        options = parse(values)
    return choose_kernel(options)


def log_filled(options: TrainOptions, names: list[str]) -> None:
    """Log one line with the settings that the recipe has filled, without settings of the text."""
    names = [name for name in names if name not in (*OF_TEXT, *OF_SAMPLER)]
    if names and options.recipe != "none":
        flat = flatten(options.model_dump(mode="json"))
        filled = " ".join(f"{name}={override_text(flat[name])}" for name in names)
        log.info("recipe=auto: %s", filled)
