"""Send a run to a server from a thread, so that training never waits for the server."""

import logging
import os
import secrets
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from threading import Event, Thread
from typing import ClassVar

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.errors import UserError, reason
from lyricgen.files import write_atomically
from lyricgen.runs.directories import REMOTE_ID, SAMPLES, STEPS
from lyricgen.runs.record_files import RecordError, Sample, read_columns, read_json_lines
from lyricgen.training.loggers.logger import LoggedRun, RunLogger, Status

log = logging.getLogger(__name__)

SEND_SECONDS = 1.0  # between two sends, so that figures are sent together
RETRY_SECONDS = 5.0  # after a failure
END_SECONDS = 30.0  # longest wait for the server at the end of a run
STOP_SECONDS = 3.0  # the same after a signal
BATCH = 100  # steps in a send
LATER = "; the training goes on, and what is missing is sent later, or by resume="
MOST_STEPS = 100_000  # steps that wait; beyond them, losses of single steps are dropped

StepSamples = tuple[int, Sequence[Sample]]  # samples with the newest step


@dataclass(frozen=True)
class StepFigures:
    """Figures of a step."""

    step: int
    figures: Mapping[str, float]
    milliseconds: int = field(default_factory=lambda: time.time_ns() // 1_000_000)


@dataclass(frozen=True)
class End:
    """How a run has ended, with its final figures, if there are any."""

    status: Status
    reason: str | None
    figures: StepFigures | None


class RemoteLogger(RunLogger):
    """Base of loggers that keep runs elsewhere; a thread calls the abstract methods.

    They may raise any Exception. Then a warning tells the user, and the thread sends the same
    things again later, and once more at the end. A resumed run sends the figures and samples of
    its files that had not arrived at its checkpoint.

    Attributes:
        kind: name of the logger in `logger=` and of its package.
        id: identifies the run; a file in its directory keeps it.
    """

    kind: ClassVar[str]

    def __init__(self, logged: LoggedRun) -> None:
        super().__init__(logged)
        if find_spec(self.kind) is None:
            raise UserError(f"logger={self.kind}: it needs pip install 'lyricgen[{self.kind}]'")
        self.id = ""
        self._figures: list[StepFigures] = []
        self._samples: list[StepSamples] = []
        self._final: StepFigures | None = None
        self._end: End | None = None
        self._connected = False
        self._warned = False
        self._wake, self._closing = Event(), Event()
        self._thread: Thread | None = None

    @abstractmethod
    def connect(self) -> bool:
        """Find the run by `id`, or create it with its options; return whether it lacks content."""

    @abstractmethod
    def send(self, figures: Sequence[StepFigures]) -> None:
        """Send figures; the last figure of a step counts."""

    @abstractmethod
    def send_samples(self, samples: Sequence[Sample], step: int) -> None:
        """Send samples, possibly once more."""

    @abstractmethod
    def send_end(self, end: End) -> None:
        """Send the end of the run."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Name of the place for messages."""

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path, state = self.logged.run.directory / REMOTE_ID, self.logged.state
        with suppress(FileNotFoundError):  # the run is new here
            self.id = path.read_text("utf-8").strip()
        if not self.id.isalnum():
            self.id = secrets.token_hex(8)
            write_atomically(path, f"{self.id}\n")
        # here, since a checkpoint cannot be written while the dictionary grows
        state.sent.setdefault(self.kind, 0)
        self._figures, self._samples = self._read_figures(), self._read_samples()
        earlier = len(self._figures), len(self._samples)
        self._thread = Thread(target=self._work, args=earlier, daemon=True)
        self._thread.start()

    def _read_figures(self) -> list[StepFigures]:
        """Read the figures of earlier processes: of steps.csv, then of epochs and validations."""
        columns: dict[str, list[float]] = {"step": [], "smoothed_loss": []}
        with suppress(RecordError):
            columns = read_columns(self.logged.run.directory / STEPS, list(columns))
        steps = zip(*columns.values(), strict=True)
        of_steps = [StepFigures(int(step), {"train/smoothed_loss": value}) for step, value in steps]
        rows = self.logged.state.rows
        return of_steps + [StepFigures(int(row["step"]), _without_step(row)) for row in rows]

    def _read_samples(self) -> list[StepSamples]:
        """Read the samples of earlier processes by step."""
        path, found = self.logged.run.directory / SAMPLES, dict[int, list[Sample]]()
        with suppress(RecordError):  # none, or damaged
            for sample in read_json_lines(path, Sample):
                found.setdefault(sample.step, []).append(sample)
        return list(found.items())

    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if len(self._figures) < MOST_STEPS or len(metrics) > 1:
            self._figures.append(StepFigures(step or 0, dict(metrics)))
            self._wake.set()

    @override
    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        self._samples.append((step, samples))
        self._wake.set()

    @override
    def finish(self, figures: Mapping[str, float]) -> None:
        self._final = StepFigures(int(self.logged.state.rows[-1]["step"]), figures)

    @override
    def close(self, status: Status, reason: str | None) -> None:
        if self._thread is None:
            return
        self._end = End(status, reason, self._final)
        self._closing.set()
        self._wake.set()
        with suppress(KeyboardInterrupt, SystemExit):  # a signal ends the wait; callers notice it
            self._thread.join(STOP_SECONDS if status == "interrupted" else END_SECONDS)
        self._thread = None
        if self._end is not None:
            self._warn(f"{self.address}: it has not answered in time{LATER}")

    def _work(self, old_figures: int, old_samples: int) -> None:
        """Send until the run is closed; the arguments count what earlier processes have logged."""
        while True:
            closing, failed = self._closing.is_set(), False
            try:
                self._send_all(old_figures, old_samples)
            except Exception as error:
                failed = True
                self._warn(f"{self.address}: {reason(error)}{LATER}")
            if closing:
                return
            self._closing.wait(RETRY_SECONDS if failed else SEND_SECONDS)
            if not failed:
                self._wake.wait()
            self._wake.clear()

    def _send_all(self, old_figures: int, old_samples: int) -> None:
        sent = self.logged.state.sent
        if not self._connected:
            first = 0 if self.connect() else sent[self.kind]
            figures, samples = self._figures[:old_figures], self._samples[:old_samples]
            self._figures[:old_figures] = [one for one in figures if one.step >= first]
            self._samples[:old_samples] = [one for one in samples if one[0] >= first]
            self._connected = True
        newest = max([sent[self.kind], *(one.step for one in self._figures[-1:])])
        while batch := self._figures[:BATCH]:
            self.send(batch)
            del self._figures[: len(batch)]
        while self._samples:
            step, drawn = self._samples[0]
            self.send_samples(drawn, step)
            del self._samples[0]
        sent[self.kind] = newest
        if self._end is not None:
            self.send_end(self._end)
            self._end = None

    def _warn(self, text: str) -> None:
        """Warn once that the server cannot be reached."""
        if not self._warned:
            self._warned = True
            log.warning("logger=%s: %s", self.kind, text)


def _without_step(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name not in ("epoch", "step")}


def set_environment(values: Mapping[str, str | os.PathLike[str]]) -> None:
    """Set environment variables, which a package reads at its import or later."""
    os.environ.update({name: str(value) for name, value in values.items()})
