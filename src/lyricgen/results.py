"""The end of a run: the best epoch's figures, beside the baselines, in one table."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from rich import box
from rich.table import Table
from torch.utils.tensorboard.summary import hparams

from lyricgen.callbacks.baseline import Baseline
from lyricgen.callbacks.checkpoints import Checkpoints
from lyricgen.callbacks.epoch_log import EpochLog
from lyricgen.callbacks.samples import Samples, one_line
from lyricgen.callbacks.throughput import Throughput
from lyricgen.console import put, show
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.metrics import perplexity_name
from lyricgen.model.checkpoint import load
from lyricgen.model.scored_module import ScoredModule

# The columns of the HPARAMS tab, the same for every run, and the figures they show.
SUMMARY_METRICS = {
    "summary/best_val_perplexity": "val/perplexity",
    "summary/test_perplexity": "test/perplexity",
    "summary/train_perplexity": "train/perplexity",
    "summary/train_pseudo_perplexity": "train/pseudo_perplexity",
    "summary/best_val_pseudo_perplexity": "val/pseudo_perplexity",
    "summary/test_pseudo_perplexity": "test/pseudo_perplexity",
    "summary/val_ngram_perplexity": "val/ngram_perplexity",
    "summary/test_ngram_perplexity": "test/ngram_perplexity",
    "summary/val_mixture_perplexity": "val/mixture_perplexity",
    "summary/test_mixture_perplexity": "test/mixture_perplexity",
    "summary/parameters": "parameters",
    "summary/chars_per_second": "chars_per_second",
    "summary/wall_seconds": "wall_seconds",
}
# Groups that do not change what is learnt, and so make no column.
_PLUMBING = {"callbacks", "logger", "name", "init_from", "resume"}
# Those that n-grams do not know.
_NETWORKS = {"layers", "hidden_size", "cell", "depth", "loss", "optimizer", "scheduler", "trainer"}


def conclude(
    trainer: pl.Trainer,
    module: ScoredModule,
    datamodule: CharacterDataModule,
    monitor: str,
) -> dict[str, Any]:
    """Evaluate the best epoch's weights.

    Args:
        trainer: that has trained.
        module: left with the best weights.
        datamodule: the corpus.
        monitor: the metric by which an epoch is best.

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
        "best_checkpoint": checkpoint or None,
        **{name: best[name] for name in best if name.startswith("train/")},
    }
    figures |= _evaluate(trainer, module, datamodule)
    baseline = _find(trainer, Baseline)
    if baseline is not None and baseline.perplexities:
        figures["ngram_order"] = baseline.best_order
        figures["ngram_perplexities"] = baseline.perplexities
        figures["ngram_characters"] = baseline.characters
        figures["ngram_sampled"] = baseline.sampled
        figures["mixture_network_weight"] = baseline.network_weight
    samples = _find(trainer, Samples)
    if samples is not None:
        drawn = samples.draw(int(best["step"]), figures["best_epoch"])
        if not samples.has(int(best["step"])):
            samples.write(trainer, drawn)
        figures["samples"] = [sample.text for sample in samples.few(drawn)]
    return figures


def score(figures: dict[str, Any]) -> float:
    """The figure that sweeps compare: held-out perplexity where there is one."""
    name = perplexity_name(figures)
    held_out = figures.get(f"val/{name}", figures.get(f"train/{name}"))
    return math.inf if held_out is None else float(held_out)  # JSON has no infinity


def print_table(figures: dict[str, Any]) -> None:
    """Show the figures on the terminal."""
    name = perplexity_name(figures)
    parts = [part for part in ("train", "val", "test") if f"{part}/{name}" in figures]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"{name.replace('_', '-')} at epoch {figures['best_epoch']}")
    for part in parts:
        table.add_column(part, justify="right")
    table.add_row(figures["model"], *(_shown(figures.get(f"{part}/{name}")) for part in parts))
    order = figures.get("ngram_order")
    for smoothing, name in (("kneser_ney", "Kneser-Ney"), ("witten_bell", "Witten-Bell")):
        by_part = {
            part: perplexities[smoothing]
            for part, perplexities in figures.get("ngram_perplexities", {}).items()
        }
        for index in range(max((len(values) for values in by_part.values()), default=0)):
            label = f"{name} {index + 1}-gram"
            if smoothing == "kneser_ney" and index + 1 == order:
                label += " (best)"
            cells = (_shown(by_part[part][index] if part in by_part else None) for part in parts)
            table.add_row(label, *cells)
    if figures.get("mixture_network_weight") is not None:
        weight = figures["mixture_network_weight"]
        cells = (_shown(figures.get(f"{part}/mixture_perplexity")) for part in parts)
        table.add_row(f"mixture ({weight:.2f} network)", *cells)
    if figures.get("ngram_sampled"):
        counted = f"{figures['ngram_characters']:,}"
        table.caption = f"n-grams of the last {counted} characters of the training part"
    put(table)
    show(f"{figures['parameters']:,} parameters, {figures['chars_per_second']:,.0f} characters/s")
    for text in figures.get("samples", []):
        show(f"  {one_line(text)}")
    if figures["best_checkpoint"]:
        show(f"best checkpoint: {figures['best_checkpoint']}")


def in_a_line(figures: dict[str, Any]) -> str:
    """The figures that count, for one of many runs."""
    name = perplexity_name(figures)
    told = [
        f"{part} {name.replace('_', '-')} {_shown(figures[f'{part}/{name}'])}"
        for part in ("train", "val", "test")
        if f"{part}/{name}" in figures
    ]
    return f"{', '.join(told)} at epoch {figures['best_epoch']}"


def begin_hyperparameters(
    trainer: pl.Trainer, options: dict[str, Any], *, new: bool = True
) -> None:
    """Open the run's row of TensorBoard's HPARAMS tab, which `finish_hyperparameters` fills.

    The row names its metrics without giving them a value: a curve that begins with nan is blank.

    Args:
        trainer: whose loggers to write to.
        options: plain, nested.
        new: whether the row is not there yet, as it is where a run is resumed.
    """
    chosen = _hyperparameters(options)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.hparams.update(options)  # for hparams.yaml
            if not new:
                continue
            writer = logger.experiment._get_file_writer()
            summaries = hparams(chosen, dict.fromkeys(SUMMARY_METRICS, 0.0))  # type: ignore[no-untyped-call]
            for summary in summaries:
                writer.add_summary(summary)


def finish_hyperparameters(
    trainer: pl.Trainer, figures: dict[str, Any], wall_seconds: float
) -> None:
    """Fill the row, and write the figures that no epoch has written."""
    final = {name: value for name, value in figures.items() if name.startswith("test/")}
    if "val/mixture_perplexity" in figures:
        final["val/mixture_perplexity"] = figures["val/mixture_perplexity"]
    known = figures | {"wall_seconds": wall_seconds}
    final |= {tag: known[name] for tag, name in SUMMARY_METRICS.items() if name in known}
    for logger in trainer.loggers:
        logger.log_metrics(final, step=trainer.global_step)
        logger.save()


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
    return "" if value is None else f"{value:,.2f}"


def _hyperparameters(options: dict[str, Any]) -> dict[str, Any]:
    """The options that a run is compared by, flat; the kind of a group under the group's name."""
    left_out = _PLUMBING | (_NETWORKS if options["model"]["kind"] == "ngram" else set())
    chosen = {key: value for key, value in options.items() if key not in left_out}
    flat: dict[str, Any] = {}
    for key, value in chosen.items():
        for name, entry in value.items() if isinstance(value, dict) else [("kind", value)]:
            tag = key if name == "kind" else f"{key}.{name}"
            flat[tag] = entry if isinstance(entry, bool | int | float) else str(entry)
    return flat
