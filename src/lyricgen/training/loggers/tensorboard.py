"""Write the event files of a run for TensorBoard: figures, texts, hyperparameters and charts.

`EventFile` replaces torch's writer. That writer may give a new file a name that sorts before the
name of an older file, and it writes in a thread, where errors end in a traceback.
"""

import errno
import io
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.core.saving import save_hparams_to_yaml
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import custom_scalars, scalar, text
from typing_extensions import override

from lyricgen.runs.directories import EVENTS, HPARAMS, outputs_directory
from lyricgen.runs.record_files import Sample
from lyricgen.training.loggers.logger import (
    LoggedRun,
    RunLogger,
    Status,
    as_markdown,
    best_figure,
    select_settings,
)


class EventWriter:
    """Writer of figures, texts and charts for TensorBoard, and of hparams.yaml.

    Args:
        directory: directory of the run.
        purge_step: step from which TensorBoard forgets the content of earlier files.

    Attributes:
        options: options of the run, for hparams.yaml.
    """

    def __init__(self, directory: Path, purge_step: int) -> None:
        self.options: dict[str, Any] = {}
        self._directory = directory
        self._purge_step: int | None = purge_step
        self._file: EventFile | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write figures, each by its name."""
        for name, value in metrics.items():
            self.write(scalar(name, value), step)  # type: ignore[no-untyped-call]

    def log_text(self, tag: str, content: str, step: int) -> None:
        """Write a Markdown text."""
        self.write(text(tag, content), step)  # type: ignore[no-untyped-call]

    def write(self, summary: Summary, step: int | None = None) -> None:
        """Write a summary, to a new file if none is open.

        Raises:
            OSError: the file cannot be written.
        """
        if self._file is None:
            self._file = EventFile(self._directory)
            if self._purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                self._file.add(Event(session_log=start, step=self._purge_step))
                self._purge_step = None
        self._file.add(Event(summary=summary, step=step))

    def save(self) -> None:
        """Write hparams.yaml unless it is there."""
        path = self._directory / HPARAMS
        if not self._directory.is_dir():  # Lightning's function would raise a RuntimeError
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if not path.is_file():
            save_hparams_to_yaml(path, self.options)

    def close(self) -> None:
        """Close the file; the next summary begins another."""
        if self._file is not None:
            self._file.close()
            self._file = None


class EventFile:
    """Event file that TensorBoard reads after all other event files in `directory`.

    TensorBoard reads files in the order of their names, which hold a time in seconds. The new file
    gets a later time than all others, even if the clock is behind.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        named = r"events\.out\.tfevents\.(\d{1,10})\."
        seconds = (re.match(named, path.name) for path in directory.glob(EVENTS))
        newest = max((int(found[1]) for found in seconds if found), default=0)
        second = max(int(time.time()), newest + 1)
        name = f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._path = directory / name
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.add(Event(file_version="brain.Event:2"))

    def add(self, event: Event) -> None:
        """Write an event with the current time, at once.

        Raises:
            OSError: the file cannot be written.
        """
        event.wall_time = time.time()
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        left = record.getbuffer()
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class TensorBoardLogger(RunLogger):
    """Writes figures, samples, the run's row in the HPARAMS tab, and the page of charts.

    TensorBoard makes the table's columns from all runs of a directory, since no run writes an
    `Experiment`. By default it shows five metrics: `run/best_val_perplexity`,
    `run/chars_per_second`, `run/parameters`, `run/test_perplexity` and `run/wall_seconds`. Every
    run writes the page of charts, but TensorBoard shows equal charts once.
    """

    def __init__(self, logged: LoggedRun) -> None:
        super().__init__(logged)
        purge_step = 0 if logged.steps is None else logged.steps + 1
        self.events = EventWriter(logged.run.directory, purge_step)
        self.events.options = logged.options.model_dump()

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = self.logged
        if any(fnmatch(name, EVENTS) for name in logged.state.sizes):  # a resumed run has its row
            return
        charts = custom_scalars(layout(logged.model.metric_prefix))  # type: ignore[no-untyped-call]
        self.events.write(charts)
        group = trial_name(logged.run.directory)
        start = SessionStartInfo(start_time_secs=time.time(), group_name=group)
        for name, value in hyperparameters(self.events.options).items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(start.hparams[name], kind, value)
        self._write(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parameters = self.logged.model.num_parameters  # 0 for an n-gram model before it is fitted
        if trainer.global_step == 0 and parameters:
            self.log_metrics({"run/parameters": parameters}, 0)

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.events.log_metrics(metrics, step)

    @override
    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        self.events.log_text("samples", as_markdown(samples), step)

    @override
    def save(self) -> None:
        self.events.save()

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self._update(trainer)

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self._update(trainer)

    @override
    def finish(self, figures: Mapping[str, float]) -> None:
        self.log_metrics(figures, int(self.logged.state.rows[-1]["step"]))

    @override
    def close(self, status: Status, reason: str | None) -> None:
        kinds = {"interrupted": api_pb2.STATUS_UNKNOWN, "failed": api_pb2.STATUS_FAILURE}
        with suppress(OSError) if status in kinds else nullcontext():  # it must not hide an error
            code = kinds.get(status, api_pb2.STATUS_SUCCESS)
            end = SessionEndInfo(status=code, end_time_secs=time.time())
            self._write(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))
            self.events.save()
            self.events.close()

    def _update(self, trainer: pl.Trainer) -> None:
        """Fill the row with the figures so far."""
        state = self.logged.state
        figures = {"run/wall_seconds": self.logged.run.wall_seconds}
        if state.trained_characters:
            figures["run/chars_per_second"] = state.characters_per_second
        self.log_metrics(figures | best_figure(state.rows), trainer.global_step)

    def _write(self, tag: str, content: HParamsPluginData) -> None:
        content.version = metadata.PLUGIN_DATA_VERSION
        plugin = SummaryMetadata.PluginData(
            plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
        )
        value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
        self.events.write(Summary(value=[value]))


def trial_name(directory: Path) -> str:
    """Name of a run in the table; its own directory comes first, since TensorBoard cuts the end."""
    directory = directory.resolve()
    parent, outputs = directory.parent, outputs_directory().resolve()
    folder = parent.relative_to(outputs) if parent.is_relative_to(outputs) else parent
    return f"{directory.name} in {folder}"


def hyperparameters(options: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """Select the options to show in the table, with flat names such as optimizer.lr.

    An option that only some choices of a group have, such as cell.forget_bias, begins with `~` to
    come last: parallel coordinates leave out runs that lack one of the first columns.
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
        for name, value in select_settings(options).items()
    }


def layout(prefix: str) -> dict[str, dict[str, list[Any]]]:
    """Page of charts by category; regular expressions select the tags of a chart.

    TensorBoard joins the pages of all runs, and shows equal charts once.

    Args:
        prefix: prefix of the model's perplexity.
    """
    perplexity: dict[str, dict[str, list[Any]]] = {
        "Perplexity": {
            "train, val, and the n-gram line": [
                "Multiline",
                ["train/perplexity$", "val/perplexity$", "val/ngram_perplexity$"],
            ]
        }
    }
    if prefix:
        title = f"{prefix}perplexity".replace("_", "-").capitalize()
        charts = {"train and val": ["Multiline", [f"(train|val)/{prefix}perplexity$"]]}
        perplexity = {title: charts}
    return perplexity | {
        "Training": {
            "loss (nats per character)": ["Multiline", ["(train|val)/loss$"]],
            "characters a second": ["Multiline", ["train/chars_per_second$"]],
            "norm of the gradient": ["Multiline", ["train/grad_norm$"]],
            "learning rate": ["Multiline", ["train/lr$"]],
        }
    }
