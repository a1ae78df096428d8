"""Speed of the kernels of a cell; a part of benchmark.py.

A round computes the outputs of a layer and their gradients by both kernels in turn, once for each
size. The figures are the shortest times, of the processor on one thread, else by the clock.
"""

import itertools
import time

import torch
from rich.table import Table
from training_speed import make_table

from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell
from lyricgen.models.options import CellOptions, GruOptions, Kernel, LstmOptions, RnnOptions

CELL_KINDS = ("rnn", "gru", "lstm", "lstm_coupled")
KERNELS: tuple[Kernel, ...] = ("torch", "fused")
# rows, steps, inputs, units
SIZES = (
    *((4, 10, 64, 64), (8, 20, 64, 64), (32, 35, 64, 64), (32, 35, 256, 256), (64, 48, 64, 256)),
    *((64, 35, 256, 256), (128, 35, 256, 256)),
)


def kernel_speed(rounds: int) -> Table:
    rows = []
    for size, kind in itertools.product(SIZES, CELL_KINDS):
        layers = [CELLS[kind](options_of(kind, kernel), *size[2:]) for kernel in KERNELS]
        best = [float("inf")] * len(KERNELS)
        for _ in range(rounds + 1):  # the first round also warms up
            best = [min(best[n], seconds(layer, *size[:3])) for n, layer in enumerate(layers)]
        figures = [f"{1000 * each:.1f}" for each in best]
        rows.append(["x".join(map(str, size)), kind, *figures, f"{best[0] / best[1]:.2f}"])
    names = ("rows, steps, inputs, units", "cell", *KERNELS, "ratio")
    return make_table("forward and backward, ms", names, rows)


def options_of(kind: str, kernel: Kernel) -> CellOptions:
    if kind == "rnn":
        return RnnOptions(kind=kind, nonlinearity="tanh", kernel=kernel)
    if kind == "gru":
        return GruOptions(kind=kind, kernel=kernel)
    return LstmOptions(kind=kind, forget_bias=1.0, kernel=kernel)


def seconds(layer: Cell, rows: int, steps: int, inputs: int) -> float:
    layer.zero_grad()
    features = torch.randn(rows, steps, inputs, requires_grad=True)
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    output, _ = layer(features, None)
    output.backward(torch.ones_like(output))
    return clock() - start
