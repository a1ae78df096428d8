"""The classes that describe, read and write summary.json of runs and sweeps."""

import logging
import math
import socket
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from lyricgen.errors import UserError
from lyricgen.files import to_json, write_atomically
from lyricgen.runs.directories import SUMMARY, is_alive
from lyricgen.runs.record_files import RecordError, check, read_json

log = logging.getLogger(__name__)

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_JobNumber = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class Summary(BaseModel):
    """Entries that runs and sweeps share; entries without a name here are kept as they are.

    Attributes:
        status: running, finished, failed, interrupted, pruned or killed. `running` is read as
            `killed` if the process was of this machine and is gone. `unknown` stands for a status
            that no file tells.
        reason: of a failure, or of a search that pruned the run.
        traceback: of a failure.
        started: time as ISO 8601.
        process: number of the process.
        host: machine of the process.
        command: as it was typed.
        overrides: from which the configuration was composed.
        wall_seconds: seconds of work.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    status: str
    reason: str | None = None
    traceback: Any = None
    started: str = ""
    process: int = Field(default=0, ge=0, lt=2**31)
    host: str | None = None
    command: str = ""
    overrides: list[str] = []
    wall_seconds: float | None = None

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the summary in a directory.

        Raises:
            UserError: it is missing or damaged.
        """
        return _read(directory, lambda _: cls)

    @classmethod
    def read_earlier(cls, directory: Path) -> Self | None:
        """Read an earlier summary; None if nothing has begun.

        A damaged file gives a warning, and a summary with the status `unknown` alone.
        """
        path = directory / SUMMARY
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):  # nothing has begun
            return None
        except OSError:
            pass  # the reader says why it cannot be read
        try:
            return cls.read(directory)
        except UserError as error:
            _warn_of_damage(path, str(error.__cause__))
            return cls(status="unknown")

    def entries(self) -> dict[str, Any]:
        """The entries of the file, those that were read or set, as plain values."""
        return self.model_dump(exclude_unset=True)

    def write(self, directory: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
        """
        write_atomically(directory / SUMMARY, to_json(self.entries()))


class RunSummary(Summary):
    """The summary of a run.

    Attributes:
        options: the whole configuration as plain values.
        job: its number in a sweep.
        search_space: of the search to which it belongs as a trial.
        corpus_digest: of its text, once that was read.
        resumed: time and version of each resumption.
        metrics: figures of the best epoch, such as val/perplexity; in the file each is an entry.
        best_epoch: counted from 1.
        epochs: the last epoch, counted from 1.
        ngram_perplexities: by split, smoothing and order.
        mixture_network_weight: share of the network in its mixture with an n-gram model.
        samples: texts written at its end.
    """

    seed: Any = None  # of a refused job it may be anything
    git_commit: Any = None
    versions: Any = None
    options: dict[str, Any] | None = None
    job: int | None = None
    search_space: dict[str, dict[str, Any]] | None = None
    corpus_digest: str | None = None
    resumed: list[Any] = []
    model: str = ""
    best_epoch: _Count | None = None
    epochs: _Count | None = None
    parameters: _Count | None = None
    chars_per_second: float | None = None
    best_checkpoint: str | None = None
    ngram_perplexities: dict[str, Any] = {}
    ngram_characters: int | None = None
    ngram_sampled: bool = False
    mixture_network_weight: float | None = None
    samples: list[str] = []
    metrics: dict[str, float | None] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_metrics(cls, entries: dict[str, Any]) -> dict[str, Any]:
        metrics = {name: value for name, value in entries.items() if "/" in name}
        others = {name: value for name, value in entries.items() if "/" not in name}
        return others | {"metrics": metrics}

    @model_serializer(mode="wrap")
    def _spread_metrics(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        entries: dict[str, Any] = handler(self)
        metrics: dict[str, Any] = entries.pop("metrics")
        return entries | metrics

    @property
    def figures(self) -> dict[str, float]:
        """All numbers by which runs can be compared, without those that are None."""
        others = ("parameters", "chars_per_second", "wall_seconds", "best_epoch", "epochs")
        figures = self.metrics | {name: getattr(self, name) for name in others}
        return {name: value for name, value in figures.items() if value is not None}


class SweepSummary(Summary):
    """The summary of a sweep.

    Attributes:
        jobs: overrides of every job, by its number.
    """

    jobs: dict[_JobNumber, list[str]] = {}


def perplexity_name(figures: Mapping[str, Any]) -> str:
    """Find the name of the perplexity among figures: perplexity or pseudo_perplexity."""
    pseudo = any(name.endswith("/pseudo_perplexity") for name in figures)
    return "pseudo_perplexity" if pseudo else "perplexity"


def score(summary: RunSummary) -> float:
    """Find the perplexity by which sweeps compare runs: on validation, else on the training split.

    It is infinity if the summary has none.
    """
    metrics = summary.metrics
    name = perplexity_name(metrics)
    found = metrics.get(f"val/{name}", metrics.get(f"train/{name}"))
    return math.inf if found is None else float(found)  # JSON has no infinity


Kind = TypeVar("Kind", bound=Summary)


def read_summary(directory: Path) -> RunSummary | SweepSummary:
    """Read the summary of a run or a sweep.

    Raises:
        UserError: it is missing or damaged.
    """

    def choose(entries: dict[str, Any]) -> type[RunSummary | SweepSummary]:
        return SweepSummary if "jobs" in entries else RunSummary

    return _read(directory, choose)


def _read(directory: Path, choose: Callable[[dict[str, Any]], type[Kind]]) -> Kind:
    path = directory / SUMMARY
    try:
        entries: Any = read_json(path)
        if not isinstance(entries, dict):
            raise RecordError("it holds no object")
        summary = check(choose(entries), entries)
    except RecordError as error:
        problem = f"{str(path)!r} cannot be read ({error})"
        raise UserError(f"{problem}: name a run's directory") from error
    # sweeps/watch.py finds out about processes on other machines
    here = summary.host == socket.gethostname()
    if summary.status == "running" and here and not is_alive(summary.process):
        summary.status = "killed"
    return summary


@cache
def _warn_of_damage(path: Path, why: str) -> None:
    """Warn once of a file, since a sweep reads its jobs' summaries again and again."""
    log.warning("%s is damaged (%s): what it said of the run is lost", path, why)
