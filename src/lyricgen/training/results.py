"""The end of a run: the best epoch's figures, beside the baselines, in one table."""

import logging
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich import box
from rich.table import Table

from lyricgen.console import rounded, show
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.models.files.checkpoint import load
from lyricgen.models.metrics import perplexity_name
from lyricgen.runs.run import Run
from lyricgen.runs.summary import RunSummary
from lyricgen.stacking import put_whole
from lyricgen.training.callbacks.baseline import Baseline
from lyricgen.training.callbacks.checkpoints import Checkpoints
from lyricgen.training.callbacks.epoch_log import EpochLog
from lyricgen.training.callbacks.samples import Samples, one_line
from lyricgen.training.callbacks.throughput import Throughput
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.scored_module import ScoredModule

log = logging.getLogger(__name__)

SMOOTHINGS = {"kneser_ney": "Kneser-Ney", "witten_bell": "Witten-Bell"}


def conclude(
    trainer: pl.Trainer,
    module: ScoredModule,
    datamodule: CharacterDataModule,
    monitor: str,
    learning_rate: float | None,
) -> dict[str, Any]:
    """Evaluate the best epoch's weights.

    Args:
        trainer: that has trained.
        module: left with the best weights.
        datamodule: the corpus.
        monitor: the metric by which an epoch is best.
        learning_rate: that was asked for; None where nothing is learnt by steps.

    Returns:
        Plain figures for summary.json: metrics by their own names, and what is not a metric by
        a name without a slash.
    """
    rows = _only(trainer, EpochLog).rows
    judged = [row for row in rows if not math.isnan(row.get(monitor, math.nan))]
    checkpoints = _find(trainer, Checkpoints)
    checkpoint = "" if checkpoints is None else str(checkpoints.best_path or "")
    if checkpoint and judged:
        best = min(judged, key=lambda row: row[monitor])
        module.model.load_state_dict(load(checkpoint).network.state_dict())
    else:
        best = rows[-1]  # no weights were kept but the last ones
    figures: dict[str, Any] = {
        "model": module.model.description,
        "best_epoch": int(best["epoch"]),
        "epochs": int(rows[-1]["epoch"]),
        "parameters": module.model.num_parameters,
        "chars_per_second": _only(trainer, Throughput).characters_per_second,
        "device": str(trainer.strategy.root_device),
        "threads": torch.get_num_threads(),
        "best_checkpoint": checkpoint or None,
        **{name: best[name] for name in best if name.startswith("train/")},
    }
    figures |= _evaluate(trainer, module, datamodule)
    figures |= _baseline_figures(_find(trainer, Baseline))
    loss = min((row[monitor] for row in judged), default=figures.get(monitor, math.inf))
    if monitor == "train/loss":
        loss = figures.get("test/loss", loss)
    figures["worse_than_uniform"] = _warn_of_divergence(loss, datamodule, learning_rate)
    if isinstance(module, RecurrentModule):
        figures |= _compare_with_ngrams(figures)
    return figures | _draw_samples(trainer, best, int(rows[-1]["step"]))


def _draw_samples(
    trainer: pl.Trainer, best: Mapping[str, float], last_step: int
) -> dict[str, list[str]]:
    """Texts of the best epoch's weights; samples.jsonl gets them if that epoch wrote none."""
    samples = _find(trainer, Samples)
    if samples is None:
        return {}
    step = int(best["step"])
    drawn = samples.draw(step, int(best["epoch"]))
    if not samples.of(step):
        samples.write(trainer, drawn, last_step)
    return {"samples": [sample.text for sample in samples.few(drawn)]}


def _warn_of_divergence(
    loss: float, datamodule: CharacterDataModule, learning_rate: float | None
) -> bool:
    """Whether the best loss is worse than that of guessing; a warning says so."""
    size = len(datamodule.vocabulary)
    if loss <= math.log(size):
        return False
    held_out = "held-out" if len(datamodule.parts) > 1 else "training"
    mend = "" if learning_rate is None else f": lower optimizer.lr={learning_rate:g}"
    log.warning(
        "the best %s loss, %s nats a character, is worse than guessing among all %s characters "
        "(%.2f)%s",
        held_out,
        rounded(loss),
        f"{size:,}",
        math.log(size),
        mend,
    )
    return True


def _best_ngram(by_part: dict[str, Any]) -> tuple[str, float, str] | None:
    """The part that judges n-grams, and the least perplexity on it with the row that has it."""
    for part in ("val", "test"):
        if part in by_part:
            rows = _ngram_rows(by_part[part])
            name = min(rows, key=rows.__getitem__)
            return part, rows[name], name
    return None


def _ngram_rows(perplexities: dict[str, list[float]]) -> dict[str, float]:
    """Perplexity by the name that the table gives to a smoothing and an order."""
    return {
        f"{SMOOTHINGS[smoothing]} {order}-gram": value
        for smoothing, values in perplexities.items()
        for order, value in enumerate(values, start=1)
    }


def _compare_with_ngrams(figures: dict[str, Any]) -> dict[str, Any]:
    """Whether the network beats the best n-gram of all, and which one that is."""
    found = _best_ngram(figures.get("ngram_perplexities", {}))
    if found is None:
        return {}
    part, best, name = found
    own = figures[f"{part}/perplexity"]
    log.info(
        "the network %s the best n-gram on the %s text: perplexity %s, %s %s",
        "beats" if own < best else "does not beat",
        "validation" if part == "val" else "test",
        rounded(own),
        name,
        rounded(best),
    )
    return {"beats_ngrams": own < best}


def _baseline_figures(baseline: Baseline | None) -> dict[str, Any]:
    if baseline is None or not baseline.perplexities:
        return {}
    return {
        "ngram_order": baseline.best_order,
        "ngram_perplexities": baseline.perplexities,
        "ngram_characters": baseline.characters,
        "ngram_sampled": baseline.sampled,
        "mixture_network_weight": baseline.network_weight,
    }


def score(summary: RunSummary) -> float:
    """The figure that sweeps compare: held-out perplexity where there is one."""
    metrics = summary.metrics
    name = perplexity_name(metrics)
    held_out = metrics.get(f"val/{name}", metrics.get(f"train/{name}"))
    return math.inf if held_out is None else float(held_out)  # JSON has no infinity


def show_end(run: Run) -> None:
    """Show a run's results on the terminal: in a table, or in a line for a job of a sweep."""
    if run.sweep is None:
        print_table(run.summary)
    else:
        pruned = ", pruned" if run.summary.status == "pruned" else ""
        show(f"  {in_a_line(run.summary)}, {run.wall_seconds:,.0f} s{pruned}")


def print_table(summary: RunSummary) -> None:
    """Show the figures on the terminal."""
    metrics = summary.metrics
    name = perplexity_name(metrics)
    parts = [part for part in ("train", "val", "test") if f"{part}/{name}" in metrics]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"{name.replace('_', '-')} at epoch {summary.best_epoch}")
    for part in parts:
        table.add_column(part, justify="right", no_wrap=True)
    table.add_row(summary.model, *(_shown(metrics.get(f"{part}/{name}")) for part in parts))
    by_part = summary.ngram_perplexities
    rows = {part: _ngram_rows(perplexities) for part, perplexities in by_part.items()}
    best = _best_ngram(by_part)
    for label in dict.fromkeys(label for each in rows.values() for label in each):
        mark = " (best)" if best is not None and label == best[2] else ""
        table.add_row(label + mark, *(_shown(rows.get(part, {}).get(label)) for part in parts))
    weight = summary.mixture_network_weight
    if weight is not None:
        cells = (_shown(metrics.get(f"{part}/mixture_perplexity")) for part in parts)
        table.add_row(f"mixture ({weight:.2f} network)", *cells)
    if summary.ngram_sampled:
        counted = f"{summary.ngram_characters:,}"
        table.caption = f"n-grams of the last {counted} characters of the training part"
    put_whole(table)
    show(f"{summary.parameters:,} parameters, {summary.chars_per_second:,.0f} characters/s")
    for text in summary.samples:
        show(f"  {one_line(text)}")
    checkpoint = summary.best_checkpoint
    if checkpoint:
        show(f"best checkpoint: {checkpoint}")
        directory = shlex.quote(str(Path(checkpoint).parent.parent))
        fills = " --fill ____" if name == "pseudo_perplexity" else ""
        show(f"to write a text: python -m lyricgen.generate {directory}{fills}")


def in_a_line(summary: RunSummary) -> str:
    """The figures that count, for one of many runs."""
    metrics = summary.metrics
    name = perplexity_name(metrics)
    told = [
        f"{part} {name.replace('_', '-')} {_shown(metrics[f'{part}/{name}'])}"
        for part in ("train", "val", "test")
        if f"{part}/{name}" in metrics
    ]
    return f"{', '.join(told)} at epoch {summary.best_epoch}"


def _evaluate(
    trainer: pl.Trainer, module: ScoredModule, datamodule: CharacterDataModule
) -> dict[str, float]:
    figures: dict[str, float] = {}
    if "val" in datamodule.parts:
        trainer.validate(module, datamodule, verbose=False)
        figures |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    if "test" in datamodule.parts:
        trainer.test(module, datamodule, verbose=False)
        figures |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return figures


def _find(trainer: pl.Trainer, kind: type[Any]) -> Any:
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


def _only(trainer: pl.Trainer, kind: type[Any]) -> Any:
    found = _find(trainer, kind)
    if found is None:
        raise RuntimeError(f"the Trainer has no {kind.__name__} callback")
    return found


def _shown(value: float | None) -> str:
    return "" if value is None else rounded(value)
