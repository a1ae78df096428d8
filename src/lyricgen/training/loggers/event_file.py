"""TensorBoard's event files: each sorts after those before, and errors come where they happen.

This builds on parts of torch's SummaryWriter that are not public: `_get_file_writer`, which names
the file by the clock alone and writes it in a thread, whose errors end in a traceback.
"""

import io
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

from lyricgen.runs.resume import EVENTS


class EventLogger(TensorBoardLogger):
    """Lightning's logger of a run.

    Args:
        directory: of the run.
        purge_step: the first step that TensorBoard forgets of the files before.
    """

    def __init__(self, directory: Path, purge_step: int) -> None:
        super().__init__(
            directory, name="", version="", default_hp_metric=False, purge_step=purge_step
        )

    @property
    def log_dir(self) -> str:
        """The run's directory as it is; Lightning would expand $NAME in it."""
        return self.root_dir

    @property
    def experiment(self) -> SummaryWriter:
        """The writer, made when it is first asked for."""
        if self._experiment is None:
            self._experiment = EventWriter(self.log_dir, **self._kwargs)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write figures; Lightning would take a full disk for a wrong type of value."""
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)


class EventWriter(SummaryWriter):
    """Torch's writer, to an `EventFile`."""

    file_writer: Any
    all_writers: Any

    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is None:
            self.file_writer = _FileWriter(Path(self.log_dir))
            self.all_writers = {self.log_dir: self.file_writer}
            if self.purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                self.file_writer.add_event(Event(session_log=start), self.purge_step)
                self.purge_step = None
        writer: FileWriter = self.file_writer
        return writer


class _FileWriter(FileWriter):
    def __init__(self, directory: Path) -> None:
        self.event_writer = EventFile(directory)


class EventFile:
    """One event file, which TensorBoard reads after all that are in the directory.

    It reads files in the order of their names, which begin with a second. The clock may be behind
    the one that the names of a resumed run come from.

    Args:
        directory: where it is made.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        named = r"events\.out\.tfevents\.(\d{1,10})\."
        seconds = (re.match(named, path.name) for path in directory.glob(EVENTS))
        newest = max((int(found[1]) for found in seconds if found), default=0)
        second = max(int(time.time()), newest + 1)
        name = f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._path = directory / name
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def get_logdir(self) -> str:
        """The directory."""
        return str(self._directory)

    def add_event(self, event: Event) -> None:
        """Write an event, at once.

        Raises:
            OSError: the disk is full.
        """
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        left = record.getbuffer()
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            error.filename = str(self._path)
            raise

    def flush(self) -> None:
        """Do nothing: every event is written at once."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
