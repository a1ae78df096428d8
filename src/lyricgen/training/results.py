"""Score the best epoch of a run, compare it with n-grams, and show the results."""

import logging
import math
import shlex
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from lyricgen.console import format_figure, show
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.splits import SPLITS
from lyricgen.models.checkpoint import load
from lyricgen.models.memory_model import is_memory
from lyricgen.runs.run import Run
from lyricgen.runs.summary import RunSummary, perplexity_name
from lyricgen.stacking import put_whole
from lyricgen.training.build import choose_monitor
from lyricgen.training.callbacks.samples import one_line
from lyricgen.training.fitting import Training

log = logging.getLogger(__name__)

SMOOTHING_NAMES = {"kneser_ney": "Kneser-Ney", "witten_bell": "Witten-Bell"}


def conclude(training: Training, checkpoint: Path | None) -> dict[str, Any]:
    """Evaluate the model with the weights of its best epoch, from `checkpoint`.

    Without a checkpoint the model keeps its last weights, and the last epoch counts as the best.

    Returns:
        Plain figures for summary.json; only the names of metrics have a slash.

    Raises:
        UserError: the checkpoint is gone or damaged.
    """
    model, datamodule, state = training.model, training.datamodule, training.state
    monitor, rows = choose_monitor(datamodule), state.rows
    judged = [row for row in rows if not math.isnan(row.get(monitor, math.nan))]
    if checkpoint is not None and judged:
        best = min(judged, key=lambda row: row[monitor])
        model.load_state_dict(load(checkpoint).network.state_dict())
    else:
        best = rows[-1]  # only the last weights are there
    figures: dict[str, Any] = {
        "model": model.description,
        "best_epoch": int(best["epoch"]),
        "epochs": int(rows[-1]["epoch"]),
        "parameters": model.num_parameters,
        "chars_per_second": state.characters_per_second,
        "device": str(training.device),
        "threads": torch.get_num_threads(),
        "best_checkpoint": None if checkpoint is None else str(checkpoint),
        **{name: best[name] for name in best if name.startswith("train/")},
    }
    figures |= _evaluate(training)
    if is_memory(model):
        held_out = (name for name in datamodule.splits if name != "train")
        figures["memory_reach"] = {one: model.reach(datamodule.splits[one]) for one in held_out}
    loss = min((row[monitor] for row in judged), default=figures.get(monitor, math.inf))
    if monitor == "train/loss":
        loss = figures.get("test/loss", loss)
    learnt = model.trains_in_steps and figures["best_epoch"] > 0
    rate = training.options.optimizer.lr if learnt else None
    figures["worse_than_uniform"] = _warn_if_worse_than_uniform(loss, datamodule, rate)
    if model.mixes_with_ngrams:
        figures |= _compare_with_ngrams(figures)
    if training.observers.samples is not None:
        figures["samples"] = training.observers.samples.of_best(best)
    return figures


def _evaluate(training: Training) -> dict[str, Any]:
    """Score the held-out splits with the model, with n-grams and with their mixture."""
    baseline, metrics = training.observers.baseline, training.state.metrics
    metrics.clear()
    if baseline is not None:
        baseline.count(training.datamodule)
    for split in training.datamodule.splits:
        if split == "train":
            continue
        nats = None  # (N,) of the network, for its mixture with n-grams
        if baseline is not None and split in baseline.nats and training.model.mixes_with_ngrams:
            nats = torch.full_like(baseline.nats[split], torch.nan)
        metrics |= training.score(split, nats)
        if baseline is not None:
            baseline.record(split, nats)
    return metrics | ({} if baseline is None else baseline.figures())


def _warn_if_worse_than_uniform(
    loss: float, datamodule: CharacterDataModule, learning_rate: float | None
) -> bool:
    """Log a warning if the best loss is worse than uniform guessing; return whether it is.

    `learning_rate` is None if no step has led to this loss.
    """
    size = datamodule.vocabulary.num_distinct
    if loss <= math.log(size):
        return False
    log.warning(
        "the best %s loss, %s nats a character, is worse than guessing among all %s characters "
        "(%.2f)%s",
        "held-out" if len(datamodule.splits) > 1 else "training",
        format_figure(loss),
        f"{size:,}",
        math.log(size),
        "" if learning_rate is None else f": lower optimizer.lr={learning_rate:g}",
    )
    return True


def _best_ngram(by_split: dict[str, Any]) -> tuple[str, float, str] | None:
    """Find the best n-gram model on the validation split, else on the test split.

    Returns:
        Name of the split, perplexity, and name of the model in the table; None without n-grams.
    """
    for split in ("val", "test"):
        if split in by_split:
            rows = _ngram_rows(by_split[split])
            name = min(rows, key=rows.__getitem__)
            return split, rows[name], name
    return None


def _ngram_rows(perplexities: dict[str, list[float]]) -> dict[str, float]:
    """Name each perplexity by smoothing and order, for the rows of the table."""
    return {
        f"{SMOOTHING_NAMES[smoothing]} {order}-gram": value
        for smoothing, values in perplexities.items()
        for order, value in enumerate(values, start=1)
    }


def _compare_with_ngrams(figures: dict[str, Any]) -> dict[str, Any]:
    """Log whether the network beats the best n-gram model, and return this as a figure.

    Without scores of n-gram models the result is {}.
    """
    found = _best_ngram(figures.get("ngram_perplexities", {}))
    if found is None:
        return {}
    split, best, name = found
    own = figures[f"{split}/perplexity"]
    log.info(
        "the network %s the best n-gram on the %s text: perplexity %s, %s %s",
        "beats" if own < best else "does not beat",
        "validation" if split == "val" else "test",
        format_figure(own),
        name,
        format_figure(best),
    )
    return {"beats_ngrams": own < best}


def show_end(run: Run) -> None:
    """Show the results of a run in a table, or in one line for a job of a sweep."""
    if run.sweep is None:
        print_table(run.summary)
        return
    metrics = run.summary.metrics
    name = perplexity_name(metrics)
    shown = [
        f"{split} {name.replace('_', '-')} {_format(metrics[f'{split}/{name}'])}"
        for split in SPLITS
        if f"{split}/{name}" in metrics
    ]
    pruned = ", pruned" if run.summary.status == "pruned" else ""
    best = run.summary.best_epoch
    show(f"  {', '.join(shown)} at epoch {best}, {run.wall_seconds:,.0f} s{pruned}")


def print_table(summary: RunSummary) -> None:
    """Show tables of figures, then the samples and the command that writes a text.

    Figures with memory have a table of their own.
    """
    metrics = summary.metrics
    name = perplexity_name(metrics)
    splits = [split for split in SPLITS if f"{split}/{name}" in metrics]
    table = _new_table(f"{name.replace('_', '-')} at epoch {summary.best_epoch}", splits)
    table.add_row(summary.model, *(_format(metrics.get(f"{split}/{name}")) for split in splits))
    if name == "memory_perplexity":
        table.caption = summary.memory
        put_whole(table)
        table = _new_table("perplexity without memory", splits)
    _add_other_rows(table, summary, splits)
    if table.row_count:
        put_whole(table)
    show(f"{summary.parameters:,} parameters, {summary.chars_per_second:,.0f} characters/s")
    for text in summary.samples:
        show(f"  {one_line(text)}")
    if summary.best_checkpoint:
        show(f"best checkpoint: {summary.best_checkpoint}")
        directory = shlex.quote(str(Path(summary.best_checkpoint).parent.parent))
        fills = " --fill ____" if name == "pseudo_perplexity" else ""
        show(f"to write a text: python -m lyricgen.generate {directory}{fills}")


def _new_table(heading: str, splits: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column(heading)
    for split in splits:
        table.add_column(split, justify="right", no_wrap=True)
    return table


def _add_other_rows(table: Table, summary: RunSummary, splits: list[str]) -> None:
    """Add the perplexities of the network alone, of n-grams and of their mixture."""
    metrics = summary.metrics
    if any(f"{split}/network_perplexity" in metrics for split in splits):
        cells = (_format(metrics.get(f"{split}/network_perplexity")) for split in splits)
        table.add_row("its network alone", *cells)
    by_split = summary.ngram_perplexities
    rows = {split: _ngram_rows(perplexities) for split, perplexities in by_split.items()}
    best = _best_ngram(by_split)
    for label in dict.fromkeys(label for each in rows.values() for label in each):
        mark = " (best)" if best is not None and label == best[2] else ""
        table.add_row(label + mark, *(_format(rows.get(split, {}).get(label)) for split in splits))
    weight = summary.mixture_network_weight
    if weight is not None:
        cells = (_format(metrics.get(f"{split}/mixture_perplexity")) for split in splits)
        table.add_row(f"mixture ({weight:.2f} network)", *cells)
    if summary.ngram_sampled:
        counted = f"{summary.ngram_characters:,}"
        table.caption = f"n-grams of the last {counted} characters of the training split"


def _format(value: float | None) -> str:
    return "" if value is None else format_figure(value)
