"""TensorBoard beside the curves: the run's row of HPARAMS, and one page of charts."""

import math
import time
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from typing_extensions import override

from lyricgen.models.metrics import perplexity_name
from lyricgen.models.model import Model
from lyricgen.runs.directories import EVENTS, outputs_directory
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState
from lyricgen.settings import PLUMBING, belongs_to, flatten, known_to_model
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.loggers.event_file import EventLogger


class TensorBoardSummary(Observer):
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
        state: of the run.
        logger: of the run.
        model: that is trained.
    """

    def __init__(
        self,
        options: dict[str, Any],
        run: Run,
        state: RunState,
        logger: EventLogger,
        model: Model,
    ) -> None:
        self._options = options
        self._run = run
        self._state = state
        self._logger = logger
        self._model = model

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        new = not any(fnmatch(name, EVENTS) for name in self._state.sizes)  # else the row is there
        self._logger.options = self._options
        if new:
            self._logger.log_layout(layout(self._options["objective"]))
            name = trial_name(self._run.directory)
            start = SessionStartInfo(start_time_secs=time.time(), group_name=name)
            for name, value in hyperparameters(self._options).items():
                kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
                setattr(start.hparams[name], kind, value)
            row = HParamsPluginData(session_start_info=start)
            self._write(metadata.SESSION_START_INFO_TAG, row)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # n-grams are parameters once they are counted
        if trainer.global_step == 0 and not self._model.counts_ngrams:
            self._logger.log_metrics({"run/parameters": self._model.num_parameters}, 0)

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._update(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._update(trainer)

    @override
    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit)
        with suppress(OSError):  # a full disk must not hide what went wrong before
            self._close(api_pb2.STATUS_UNKNOWN if stopped else api_pb2.STATUS_FAILURE)

    def finish(self, step: int, figures: dict[str, Any]) -> None:
        """Fill the row, write the figures that no epoch has written, and close the row.

        Args:
            step: that training has reached.
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
            "run/wall_seconds": self._run.wall_seconds,
        }
        known = {tag: value for tag, value in final.items() if value is not None}
        self._logger.log_metrics(known, step)
        self._close(api_pb2.STATUS_SUCCESS)

    def _update(self, trainer: pl.Trainer) -> None:
        figures = {"run/wall_seconds": self._run.wall_seconds}
        rows = self._state.rows
        if self._state.trained_characters:
            figures["run/chars_per_second"] = self._state.characters_per_second
        name = perplexity_name(rows[-1])
        best = min(row.get(f"val/{name}", math.inf) for row in rows)
        if math.isfinite(best):
            figures[best_tag(name)] = best
        self._logger.log_metrics(figures, trainer.global_step)

    def _close(self, status: int) -> None:
        end = SessionEndInfo(status=status, end_time_secs=time.time())
        self._write(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))
        self._logger.save()

    def _write(self, tag: str, content: HParamsPluginData) -> None:
        content.version = metadata.PLUGIN_DATA_VERSION
        plugin = SummaryMetadata.PluginData(
            plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
        )
        value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
        self._logger.write(Summary(value=[value]))


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
