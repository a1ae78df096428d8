"""Speed of writing, compared with the notebooks' loop; a part of benchmark.py.

The loop writes one text with one-hot vectors, one Python step for each character, and records
gradients. lyricgen writes 1, 16 and 256 texts at a time. Both have the same weights (an LSTM of 256
units, 1,027 symbols, one-hot input, float32), a prefix of one character, the same length, and
temperature 0.8. They take turns in one process after a warm-up. lyricgen's time covers the whole
call, including its random numbers.

Figures are medians over the rounds. The column "ratio" is lyricgen's speed over the loop's in the
same round; "at least" is the target of the ratio.

A second table compares an ensemble of four such models with one of them. Its column "time" is the
ensemble's time over that of its first member in the same round; its target is the number of
members.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from rich.table import Table
from training_speed import SYMBOLS, make_table

from lyricgen.generation.continuing import continue_texts, draw_uniforms
from lyricgen.generation.options import Strategy
from lyricgen.generation.rules import strategy_rules
from lyricgen.models.architectures import EnsembleArchitecture
from lyricgen.models.ensemble import EnsembleModel
from lyricgen.models.model import NextModel
from lyricgen.models.network import LanguageModel
from lyricgen.models.options import RecurrentArchitecture
from lyricgen.options import validate

LOOP = "notebooks' loop"
TARGETS = {1: 8, 16: None, 256: 100}  # lyricgen's speed over the loop's, by texts at a time
TEMPERATURE = 0.8
MEMBERS = 4  # of the ensemble


def generation(rounds: int, length: int) -> Table:
    torch.manual_seed(1)
    model = LanguageModel(architecture()).eval()
    arms: dict[str, Callable[[], int]] = {LOOP: partial(notebook_loop, model, length)}
    names = {f"lyricgen, {count} at a time": count for count in TARGETS}
    for name, count in names.items():
        arms[name] = partial(write, model, count, length)
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            characters = arm()
            speed = characters / (time.perf_counter() - start)
            if number:
                speeds[name].append(speed)
        stage = f"round {number} of {rounds}" if number else "warm-up"
        print(stage, file=sys.stderr, flush=True)

    rows = []
    for name, each in speeds.items():
        ratios = [one / loop for one, loop in zip(each, speeds[LOOP], strict=True)]
        target = TARGETS[names[name]] if name in names else None
        rows.append([name, f"{median(each):,.0f}", f"{median(ratios):.1f}", str(target or "")])
    title = f"writing texts of {length} characters, median of {rounds} rounds"
    return make_table(title, ["characters a second", "ratio", "at least"], rows)


def ensemble_generation(rounds: int, length: int) -> Table:
    members = []
    for seed in range(MEMBERS):
        torch.manual_seed(seed)
        members.append(LanguageModel(architecture()).eval())
    plain = {
        "kind": "ensemble",
        "vocabulary_size": SYMBOLS,
        "members": [member.architecture for member in members],
        "weights": [1 / MEMBERS] * MEMBERS,
        "ids": [None] * MEMBERS,
    }
    rows = []
    for combination in ("arithmetic", "geometric"):
        described = validate(EnsembleArchitecture, {**plain, "combination": combination})
        ensemble = EnsembleModel(described, members).eval()
        for count in (1, 256):
            times = [
                [measure(partial(write, model, count, length)) for model in (members[0], ensemble)]
                for _ in range(rounds + 1)
            ][1:]  # the first round is the warm-up
            ratio = median(whole / one for one, whole in times)
            speed = count * length / median(whole for _, whole in times)
            name = f"ensemble, {combination}, {count} at a time"
            rows.append([name, f"{speed:,.0f}", f"{ratio:.2f}"])
            print(name, file=sys.stderr, flush=True)
    title = f"an ensemble of {MEMBERS}, texts of {length} characters, median of {rounds} rounds"
    headings = ["characters a second", "time", "at most"]
    return make_table(title, headings, [[*row, str(MEMBERS)] for row in rows])


def measure(work: Callable[[], int]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def architecture() -> RecurrentArchitecture:
    plain = {
        "kind": "recurrent",
        "vocabulary_size": SYMBOLS,
        "start_symbol": False,
        "objective": "next",
        "layers": 1,
        "hidden_size": 256,
        "cell": {"kind": "lstm", "forget_bias": None, "kernel": "torch"},
        "depth": {"dropout": 0.0, "residual": False},
        "model": {
            "kind": "recurrent",
            "input": "one_hot",
            "embedding_size": None,
            "tie_weights": False,
            "dropout": 0.0,
            "init": "torch",
            **{"locked_dropout": False, "embedding_dropout": 0.0, "weight_drop": 0.0},
            **{"noise": 0.0, "noise_kind": "unigram"},
            "output_bias": "init",
        },
    }
    built: RecurrentArchitecture = validate(RecurrentArchitecture, plain)
    return built


def notebook_loop(model: LanguageModel, length: int) -> int:
    """Write one text as the notebooks do; return its number of characters."""
    [layer], dense = model.recurrence.blocks, model.output
    state, text = None, [0]
    while len(text) <= length:
        vector = F.one_hot(torch.tensor([[text[-1]]]), SYMBOLS).float()  # (1, 1, V)
        hidden, state = layer(vector, state)
        probabilities = torch.softmax(dense(hidden[0, 0]) / TEMPERATURE, dim=0)  # (V,)
        text.append(int(torch.multinomial(probabilities, 1)))
    return length


def write(model: NextModel, count: int, length: int) -> int:
    """Write `count` texts with lyricgen; return their number of characters."""
    texts = continue_texts(
        model,
        [torch.tensor([0])] * count,
        rules=strategy_rules(Strategy(temperature=TEMPERATURE)),
        uniforms=draw_uniforms("torch", list(range(count)), length),
        length=length,
    )
    return sum(map(len, texts))
