"""Speed of scoring lines, compared with the plain forward pass; a part of benchmark.py.

2,000 lines of 5 to 60 random characters are scored by `model.score`, which prepares and encodes
them, pads those of like length to batches, and computes the nats of each character. The plain
forward pass of the same network (an LSTM of 256 units, 1,027 symbols, one-hot input, float32) gets
encoded lines and computes logits alone: line by line, and for lines sorted by length, 64 at a time.
All take turns in one process after a warm-up.

Figures are medians over the rounds. The column "ratio" is the speed of `model.score` over that of
the plain forward pass in the same round.
"""

import random
import sys
from collections.abc import Callable
from functools import partial
from operator import truediv
from statistics import median

import torch
from generation_speed import architecture, measure
from rich.table import Table
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from training_speed import SYMBOLS, make_table

from lyricgen.api.models import WritingModel
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.network import LanguageModel

LINES, SHORTEST, LONGEST, AT_ONCE = 2000, 5, 60, 64
SCORE = "model.score"


def scoring(rounds: int) -> Table:
    torch.manual_seed(1)
    network = LanguageModel(architecture()).eval()
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + SYMBOLS)))
    model = WritingModel(network, Vocabulary(characters), "stream", lowercase=False)
    draw = random.Random(1)
    lines = [
        "".join(draw.choices(characters, k=draw.randint(SHORTEST, LONGEST))) for _ in range(LINES)
    ]
    total = sum(map(len, lines))
    encoded = sorted((model.encode_prefix(line)[:-1] for line in lines), key=len)
    batches = [
        pad_sequence(encoded[first : first + AT_ONCE], batch_first=True)
        for first in range(0, LINES, AT_ONCE)
    ]
    arms: dict[str, Callable[[], int]] = {
        SCORE: lambda: len(model.score(lines)),
        "forward pass, line by line": partial(read, network, [one[None] for one in encoded]),
        f"forward pass, {AT_ONCE} lines at a time": partial(read, network, batches),
    }
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 1):
        for name, arm in arms.items():
            speed = total / measure(arm)
            if number:
                speeds[name].append(speed)
        print(f"round {number} of {rounds}" if number else "warm-up", file=sys.stderr, flush=True)
    rows = [
        [name, f"{median(each):,.0f}", f"{median(map(truediv, speeds[SCORE], each)):.2f}"]
        for name, each in speeds.items()
    ]
    title = f"scoring {LINES:,} lines, {total:,} characters, median of {rounds} rounds"
    return make_table(title, ["characters a second", "ratio"], rows)


def read(network: LanguageModel, batches: list[Tensor]) -> int:
    """Compute the logits of ids, (B, T) each; return the number of batches."""
    with torch.inference_mode():
        for batch in batches:
            network(batch)
    return len(batches)
