"""Plots of the scores, curves and memorisation of checkpoints."""

import logging
import os
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from lyricgen.console import format_figure
from lyricgen.errors import escape_line
from lyricgen.evaluation.curves import Curve, Curves
from lyricgen.evaluation.intervals import Floats, Row
from lyricgen.evaluation.memorisation import LOGGED_LINES, LOGGED_NGRAMS, Memorisation, Overlap
from lyricgen.evaluation.scores import CheckpointWithText, Scores
from lyricgen.evaluation.style import choose_families
from lyricgen.evaluation.tables import WithMemory
from lyricgen.runs.directories import METRICS
from lyricgen.runs.record_files import RecordError, read_columns

log = logging.getLogger(__name__)

DPI = 120
WIDTH = 13  # inches
STRETCHES = 40  # of a split, over which nats are averaged
PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")  # 1,000 instead of a power of ten
COLOURS = {"checkpoint": "C0", "ensemble": "C2", "mixture": "C4"}  # of others: C7
TITLES = {
    "position": "by position in the {unit}",
    "context": "by characters of context",
    "frequency": "by times in the training split",
}

Points = list[tuple[float, float]]


def plot_scores(scores: Scores, curves: Curves | None, with_memory: WithMemory) -> Figure:
    """Plot the perplexities on each split as bars with intervals, and more below.

    Below are any curves, and the nats along each split with and without a memory.
    """
    names = [row.series.name for row in max(scores.splits.values(), key=len)]
    bars = 0.32 * len(names) + 1.1
    remembering = any(row.nats is not None for rows in with_memory.values() for row in rows)
    heights = [bars] + [3.4] * ((curves is not None) + remembering)
    figure = Figure((WIDTH, sum(heights) + 0.5), dpi=DPI, layout="constrained")
    rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    text = scores.evaluated[0].corpus.name
    families, _ = choose_families("".join(map(escape_line, [*names, text])))
    axes = rows[0].subplots(1, len(scores.splits), sharey=True, squeeze=False)[0]
    for each, (split, of_split) in zip(axes, scores.splits.items(), strict=True):
        _plot_bars(each, split, of_split, names)
    axes[0].set_yticks(range(len(names)), [*map(escape_line, names)], family=families)
    axes[0].invert_yaxis()
    metric = f"{scores.prefix}perplexity".replace("_", "-")
    rows[0].suptitle(f"{metric} on {escape_line(text)}, 95 % intervals", family=families)
    if curves is not None:
        rows[1].suptitle(f"{metric} on {curves.split}")
        panels = rows[1].subplots(1, len(curves.curves), squeeze=False)[0]
        for each, curve in zip(panels, curves.curves, strict=True):
            _plot_curve(each, curve, TITLES[curve.name].format(unit=curves.position_in), families)
    if remembering:
        rows[-1].suptitle("nats per character along the split, with and without memory")
        panels = rows[-1].subplots(1, len(scores.splits), sharey=True, squeeze=False)[0]
        for each, (split, of_split) in zip(panels, scores.splits.items(), strict=True):
            lines = [
                row.series for row in of_split if row.series.kind in ("checkpoint", "ensemble")
            ]
            along = {name: nats for name, _, nats in lines}
            along |= {row.name: row.nats for row in with_memory[split] if row.nats is not None}
            _plot_along(each, split, along, families)
    return figure


def _plot_along(axes: Axes, split: str, along: dict[str, Floats], families: list[str]) -> None:
    """Plot means of nats, (C,) by name, over stretches of equal length."""
    names = list(along)
    for name, nats in along.items():
        # a model has one colour, with memory and without
        base = max((one for one in names if name.startswith(one) and one != name), default=name)
        parts = np.array_split(nats, min(STRETCHES, len(nats)))
        ends = np.cumsum([len(part) for part in parts])
        known = [part[~np.isnan(part)] for part in parts]
        means = np.array([part.mean() if len(part) else np.nan for part in known])
        style = "-" if base == name else "--"
        axes.plot(ends, means, style, color=f"C{names.index(base)}", label=escape_line(name))
    axes.xaxis.set_major_formatter(PLAIN)
    below = (0.5, -0.1)  # a legend inside would hide the lowest nats
    font = {"family": families, "size": 8}
    axes.legend(prop=font, loc="upper center", bbox_to_anchor=below)
    _finish(axes, f"{split}, by characters read")


def _plot_bars(axes: Axes, split: str, rows: Sequence[Row], names: Sequence[str]) -> None:
    for row in rows:
        value, low, high = row.perplexity
        number = names.index(row.series.name)
        error = None
        if low is not None and high is not None and high - low > 1e-9 * value:
            error = [[value - low], [high - value]]
        axes.barh(
            number,
            value - 1,
            left=1,  # the least perplexity; a logarithmic axis has no 0
            xerr=error,
            color=COLOURS.get(row.series.kind, "C7"),
            height=0.7,
            error_kw={"elinewidth": 1.2, "capsize": 2.5},
        )
        axes.annotate(
            format_figure(value),
            (value if high is None else high, number),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            size=8,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.margins(x=0.22)
    axes.set_xlim(left=1)
    axes.set_title(f"{split}: {rows[0].characters:,} characters", size=10)
    axes.spines[["top", "right"]].set_visible(False)


def _plot_curve(axes: Axes, curve: Curve, title: str, families: list[str]) -> None:
    for label, values in curve.perplexities.items():
        known = [(index, value) for index, value in enumerate(values) if value is not None]
        axes.plot(*zip(*known, strict=True), marker="o", markersize=3, label=escape_line(label))
    ticks = list(curve.scored)
    if curve.name == "position":  # 1, 5, 10, 15 …; fewer on a long axis
        step = 5 * max(1, -(-len(ticks) // 60))
        ticks = [index for index in ticks if index == 0 or (index + 1) % step == 0]
    rotation = 45 if curve.name == "frequency" else 0
    axes.set_xticks(ticks, [curve.places[index] for index in ticks], size=8, rotation=rotation)
    _finish(axes, title)
    if len(curve.perplexities) > 1:
        axes.legend(prop={"family": families, "size": 8})
    if curve.name == "frequency":
        _note_characters(axes, curve)


def _note_characters(axes: Axes, curve: Curve) -> None:
    """Write the number of characters of each bin below the curve; make its axis logarithmic."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PLAIN)
    low, high = axes.get_ylim()
    axes.set_ylim(low / (high / low) ** 0.2)
    for index in curve.scored:
        axes.annotate(
            f"{curve.characters[index]:,}",
            (index, 0.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="center",
            size=7,
            color="0.4",
        )


def plot_memorisation(measured: Sequence[tuple[CheckpointWithText, Memorisation]]) -> Figure:
    """Plot the shares of copied n-grams by n, and below them the shares that training logged."""
    logs = [(*each, points) for each in measured if (points := read_logged_shares(each[0].path))]
    heights = [4.2, *(3.0 for _ in logs)]
    figure = Figure((8, sum(heights)), dpi=DPI, layout="constrained")
    first, *below = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    held_out: list[dict[int, float]] = []
    for number, (evaluated, found) in enumerate(measured):
        label = f"generated by {escape_line(evaluated.label)}"
        _plot_shares(first, found.generated.ngrams, label=label, color=f"C{number}")
        if found.held_out is not None and found.held_out.ngrams not in held_out:
            held_out.append(found.held_out.ngrams)
            _plot_shares(first, held_out[-1], label="held-out text", color="0.4", linestyle="--")
    _finish_shares(first, "n-grams that stand in the training text", "n")
    for axes, (evaluated, found, points) in zip(below, logs, strict=True):
        _plot_log(axes, escape_line(evaluated.label), points, found.held_out)
    return figure


def read_logged_shares(checkpoint: Path) -> dict[str, Points]:
    """Read the shares of copied text that training has logged, as points (epoch, share) by name.

    The shares come from metrics.csv in the directory of the checkpoint's run. The result is empty
    if this file is missing or has no shares, or, with a warning, if it cannot be read.
    """
    path = checkpoint.parent.parent / METRICS
    if not os.path.lexists(path):
        return {}
    try:
        columns = read_columns(path, ("epoch",), (*LOGGED_NGRAMS.values(), LOGGED_LINES))
    except RecordError as error:
        log.warning("%s is left out: %s", path, error)
        return {}
    epochs = columns.pop("epoch")
    finite = {
        name: [point for point in zip(epochs, values, strict=True) if all(map(isfinite, point))]
        for name, values in columns.items()
    }
    return {name: points for name, points in finite.items() if points}


def _plot_shares(axes: Axes, shares: dict[int, float], **style: Any) -> None:
    axes.plot(list(shares), list(shares.values()), marker="o", markersize=4, **style)


def _plot_log(axes: Axes, label: str, log: dict[str, Points], held_out: Overlap | None) -> None:
    for number, (name, points) in enumerate(log.items()):
        n = next((n for n, metric in LOGGED_NGRAMS.items() if metric == name), None)
        title = "whole lines" if n is None else f"{n}-grams"
        axes.plot(*zip(*points, strict=True), color=f"C{number}", label=title, marker="o", ms=3)
        if held_out is not None and n in held_out.ngrams:
            axes.axhline(held_out.ngrams[n], color=f"C{number}", linestyle="--", linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish_shares(axes, f"in training, {label}; dashed: held-out text", "epoch")


def _finish_shares(axes: Axes, title: str, across: str) -> None:
    axes.set_xlabel(across)
    # shares differ by powers of ten and may be 0, which a logarithmic axis does not have
    axes.set_yscale("symlog", linthresh=0.001, linscale=0.4)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("share")
    axes.legend(fontsize=8)
    _finish(axes, title)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, size=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
