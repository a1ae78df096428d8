"""TensorBoard's event files: each sorts after those before, and errors come where they happen.

Lightning's logger and torch's writer name a file by the clock alone and write it in a thread, whose
errors end in a traceback.
"""

import errno
import io
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.core.saving import save_hparams_to_yaml
from pytorch_lightning.loggers import Logger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import custom_scalars, scalar, text
from typing_extensions import override

from lyricgen.runs.directories import EVENTS


class EventLogger(Logger):
    """Lightning's logger of a run: figures, texts and charts for TensorBoard, and hparams.yaml.

    Args:
        directory: of the run.
        purge_step: the first step that TensorBoard forgets of the files before.

    Attributes:
        options: of the run, for hparams.yaml.
    """

    name: str | None = None
    version: int | str | None = None

    def __init__(self, directory: Path, purge_step: int) -> None:
        super().__init__()
        self.options: dict[str, Any] = {}
        self._directory = directory
        self._purge_step: int | None = purge_step
        self._file: EventFile | None = None

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.write(scalar(name, value), step)  # type: ignore[no-untyped-call]

    @override
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `options` are written by `save`."""

    def log_text(self, tag: str, content: str, step: int) -> None:
        """Write a text in Markdown."""
        self.write(text(tag, content), step)  # type: ignore[no-untyped-call]

    def log_layout(self, layout: dict[str, Any]) -> None:
        """Write the page of custom scalars."""
        self.write(custom_scalars(layout))  # type: ignore[no-untyped-call]

    def write(self, summary: Summary, step: int | None = None) -> None:
        """Write an event, to a new file if none is open.

        Raises:
            OSError: the disk is full.
        """
        if self._file is None:
            self._file = EventFile(self._directory)
            if self._purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                self._file.add(Event(session_log=start, step=self._purge_step))
                self._purge_step = None
        self._file.add(Event(summary=summary, step=step))

    @override
    def save(self) -> None:
        path = self._directory / "hparams.yaml"
        if not self._directory.is_dir():  # which Lightning's function makes a RuntimeError of
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if not path.is_file():
            save_hparams_to_yaml(path, self.options)

    @override
    def finalize(self, status: str) -> None:
        if status == "success":
            self.save()
        if self._file is not None:
            self._file.close()
            self._file = None


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
        named = r"events\.out\.tfevents\.(\d{1,10})\."
        seconds = (re.match(named, path.name) for path in directory.glob(EVENTS))
        newest = max((int(found[1]) for found in seconds if found), default=0)
        second = max(int(time.time()), newest + 1)
        name = f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._path = directory / name
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.add(Event(file_version="brain.Event:2"))

    def add(self, event: Event) -> None:
        """Write an event with the time of now, at once.

        Raises:
            OSError: the disk is full.
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
