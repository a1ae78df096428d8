"""TensorBoard beside the curves: the run's row of HPARAMS, and one page of charts."""

import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from lyricgen.models.metrics import perplexity_name
from lyricgen.runs.listing import outputs_directory
from lyricgen.runs.run import Run
from lyricgen.settings import PLUMBING, belongs_to, flatten, known_to_model
from lyricgen.training.callbacks.epoch_log import EpochLog
from lyricgen.training.callbacks.throughput import Throughput
from lyricgen.training.recurrent_module import RecurrentModule


class TensorBoardSummary(pl.Callback):
    """Opens the run's row of the HPARAMS tab, fills it as training goes on, and closes it.

    No experiment is declared, so TensorBoard makes the table's columns from all runs of a
    directory: the options that differ come first, and of the metrics, in the order of their
    names, `run/best_val_perplexity`, `run/chars_per_second`, `run/parameters`,
    `run/test_perplexity` and `run/wall_seconds`, the five that it shows by itself. Declared
    columns would be those of whichever run is read first.

    The page of custom scalars is written by every run; TensorBoard shows equal charts once.

    Args:
        options: plain, nested.
        run: its directory, whose seconds count.
        new: whether the row is not there yet, as it is where a run is resumed.
    """

    def __init__(self, options: dict[str, Any], run: Run, *, new: bool) -> None:
        self.options = options
        self.run = run
        self.new = new

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the row, and lay the charts out."""
        del pl_module
        for logger in _tensorboards(trainer):
            logger.hparams.update(self.options)  # for hparams.yaml
            if self.new:
                logger.experiment.add_custom_scalars(layout(self.options["objective"]))
        if self.new:
            name = trial_name(self.run.directory)
            start = SessionStartInfo(start_time_secs=time.time(), group_name=name)
            for name, value in hyperparameters(self.options).items():
                kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
                setattr(start.hparams[name], kind, value)
            _write(
                trainer,
                metadata.SESSION_START_INFO_TAG,
                HParamsPluginData(session_start_info=start),
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how large the model is, where that is known before it is trained."""
        if trainer.global_step == 0 and isinstance(pl_module, RecurrentModule):
            self._log(trainer, {"run/parameters": pl_module.model.num_parameters})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the row up to date after a validation within the epoch."""
        del pl_module
        if trainer.state.fn == "fit" and not trainer.is_last_batch:
            self._update(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the row up to date."""
        del pl_module
        if trainer.is_last_batch:  # else a validation within the epoch has ended training
            self._update(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the row of a run that stops short."""
        del pl_module
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit)
        with suppress(OSError):  # a full disk must not hide what went wrong before
            self._close(trainer, api_pb2.STATUS_UNKNOWN if stopped else api_pb2.STATUS_FAILURE)

    def finish(self, trainer: pl.Trainer, figures: dict[str, Any]) -> None:
        """Fill the row, write the figures that no epoch has written, and close the row.

        Args:
            trainer: that has trained.
            figures: as `results.conclude` gives them.
        """
        name = perplexity_name(figures)
        final = {
            **{tag: figures[tag] for tag in figures if tag.startswith("test/")},
            "val/mixture_perplexity": figures.get("val/mixture_perplexity"),
            best_tag(name): figures.get(f"val/{name}"),
            f"{_row(name)}/test_{name}": figures.get(f"test/{name}"),
            "run/parameters": figures["parameters"],
            "run/chars_per_second": figures["chars_per_second"],
            "run/wall_seconds": self.run.wall_seconds,
        }
        self._log(trainer, {tag: value for tag, value in final.items() if value is not None})
        self._close(trainer, api_pb2.STATUS_SUCCESS)

    def _update(self, trainer: pl.Trainer) -> None:
        figures = {"run/wall_seconds": self.run.wall_seconds}
        rows = next(c.rows for c in trainer.callbacks if isinstance(c, EpochLog))  # type: ignore[attr-defined]
        speed = next(c for c in trainer.callbacks if isinstance(c, Throughput))  # type: ignore[attr-defined]
        if speed.characters:
            figures["run/chars_per_second"] = speed.characters_per_second
        name = perplexity_name(rows[-1])
        best = min(row.get(f"val/{name}", math.inf) for row in rows)
        if math.isfinite(best):
            figures[best_tag(name)] = best
        self._log(trainer, figures)

    def _log(self, trainer: pl.Trainer, figures: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)

    def _close(self, trainer: pl.Trainer, status: int) -> None:
        end = SessionEndInfo(status=status, end_time_secs=time.time())
        _write(trainer, metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))
        for logger in trainer.loggers:
            logger.save()


def trial_name(directory: Path) -> str:
    """Name of a run in the table: its own first, since TensorBoard cuts off the end."""
    directory = directory.resolve()
    parent, outputs = directory.parent, outputs_directory().resolve()
    place = parent.relative_to(outputs) if parent.is_relative_to(outputs) else parent
    return f"{directory.name} in {place}"


def best_tag(name: str) -> str:
    """Tag of the best held-out figure of a run.

    Parallel coordinates show the first five tags and only runs that have all of these: the tags of
    runs that fill gaps come after those of all others.
    """
    return f"{_row(name)}/best_val_{name}"


def _row(name: str) -> str:
    return "run_fill" if name.startswith("pseudo_") else "run"


def hyperparameters(options: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """The options that a run is compared by, flat; the kind of a group under the group's name.

    An option that only one choice of a group has, as cell.forget_bias, begins with `~` and so
    comes last: parallel coordinates show the first columns and only runs that have all of these.
    """
    chosen = {
        name
        for name, value in options.items()
        if isinstance(value, dict) and "kind" in value and name != "data"
    }
    return {
        f"~{name}" if name.partition(".")[0] in chosen - {name} else name: (
            value if isinstance(value, bool | int | float) else str(value)
        )
        for name, value in known_to_model(flatten(options)).items()
        if not belongs_to(name, PLUMBING)
    }


def layout(objective: str) -> dict[str, dict[str, list[Any]]]:
    """The page of custom scalars: categories of charts, whose tags are regular expressions.

    TensorBoard joins the pages of all runs by the names of categories, and their charts by what is
    in them.

    Args:
        objective: "next", or "fill", whose pseudo-perplexity stands in no chart with perplexities.
    """
    perplexity: dict[str, dict[str, list[Any]]] = {
        "next": {
            "Perplexity": {
                "train, val, and the n-gram line": [
                    "Multiline",
                    ["train/perplexity$", "val/perplexity$", "val/ngram_perplexity$"],
                ]
            }
        },
        "fill": {
            "Pseudo-perplexity": {
                "train and val": ["Multiline", ["(train|val)/pseudo_perplexity$"]],
            }
        },
    }[objective]
    return perplexity | {
        "Training": {
            "loss (nats per character)": ["Multiline", ["(train|val)/loss$"]],
            "characters a second": ["Multiline", ["train/chars_per_second$"]],
            "norm of the gradient": ["Multiline", ["train/grad_norm$"]],
            "learning rate": ["Multiline", ["train/lr$"]],
        }
    }


def _tensorboards(trainer: pl.Trainer) -> list[TensorBoardLogger]:
    if not trainer.is_global_zero:
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _write(trainer: pl.Trainer, tag: str, content: HParamsPluginData) -> None:
    content.version = metadata.PLUGIN_DATA_VERSION
    plugin = SummaryMetadata.PluginData(
        plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
    )
    value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
    for logger in _tensorboards(trainer):
        logger.experiment._get_file_writer().add_summary(Summary(value=[value]))
