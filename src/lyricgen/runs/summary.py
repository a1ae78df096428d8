"""Read and write summary.json of runs and sweeps."""

import logging
import math
import socket
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

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
from lyricgen.settings import flatten, restore_auto

log = logging.getLogger(__name__)

# begin the names of perplexities that do not compare with others; with the setting of such runs
PREFIXES = {"pseudo_": ("objective", "fill"), "memory_": ("memory", "cache")}

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_JobNumber = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class Summary(BaseModel):
    """Entries of summary.json that runs and sweeps share; unknown entries are kept.

    Attributes:
        status: running, finished, failed, interrupted, pruned or killed; unknown without a readable
            file. `running` is read as `killed` if the process ran on this machine and is gone.
        reason: reason of a failure, or why a search pruned the run.
        traceback: traceback of a failure.
        started: time of the start, as ISO 8601.
        process: number of the process.
        host: machine of the process.
        command: command as it was typed.
        overrides: overrides of the configuration.
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
        """Read the summary of an earlier run or sweep; None if there is no file.

        For a file that is damaged or cannot be read, warn and return a summary that only has the
        status `unknown`.
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
        """Entries that were read or set, as plain values."""
        return self.model_dump(exclude_unset=True)

    def write(self, directory: Path) -> None:
        """Write summary.json into a directory.

        Raises:
            OSError: the file cannot be written.
        """
        write_atomically(directory / SUMMARY, to_json(self.entries()))


class Figures(BaseModel):
    """Base of records with figures; in the file each figure is an entry."""

    metrics: dict[str, float | None] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_metrics(cls, entries: dict[str, Any]) -> dict[str, Any]:
        metrics = {name: value for name, value in entries.items() if "/" in name}
        fields = {name: value for name, value in entries.items() if "/" not in name}
        return fields | {"metrics": metrics}

    @model_serializer(mode="wrap")
    def _spread_metrics(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        entries: dict[str, Any] = handler(self)
        metrics: dict[str, Any] = entries.pop("metrics")
        return entries | metrics


class RunSummary(Figures, Summary):
    """The summary of a run.

    Attributes:
        options: the whole configuration as plain values.
        job: number of the run in its sweep.
        search_space: settings that the run's search varies, with their ranges.
        corpus_digest: SHA-256 of the corpus; None before the text is read.
        filled: settings of `options` that said `auto`; the recipe or the machine has filled them.
        resumed: time and versions of each resumption.
        model: short description of the model.
        metrics: figures of `best_epoch`, such as val/perplexity.
        best_epoch: the best epoch, or the last if no checkpoint is kept; counted from
            1; 0 before the first step.
        epochs: the last epoch, counted from 1.
        ngram_perplexities: perplexities of n-gram models by split, smoothing and order.
        ngram_characters: characters of the training split whose n-grams are counted.
        ngram_sampled: whether the training split has more characters than these.
        ngram_order: order of the best n-gram model, which is mixed with the network.
        mixture_network_weight: share of the network in its mixture with an n-gram model.
        samples: texts drawn at the end of the run.
        device: where the network was trained.
        threads: threads of torch.
        worse_than_uniform: whether the model predicts worse than equal probabilities would.
        beats_ngrams: whether a network is better than the best n-gram model; None without a
            comparison.
        memory_reach: characters that a memory holds at most, by held-out split.
    """

    seed: Any = None  # any value, in the summary of a refused job
    git_commit: Any = None
    versions: Any = None
    options: dict[str, Any] | None = None
    job: int | None = None
    search_space: dict[str, dict[str, Any]] | None = None
    corpus_digest: str | None = None
    filled: list[str] = []
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
    ngram_order: int | None = Field(default=None, ge=1, le=9)
    mixture_network_weight: float | None = Field(default=None, ge=0, le=1)
    samples: list[str] = []
    device: str | None = None
    threads: _Count | None = None
    worse_than_uniform: bool = False
    beats_ngrams: bool | None = None
    memory_reach: dict[str, int] = {}

    @property
    def unfilled(self) -> dict[str, Any]:
        """The options as they were before settings that say `auto` were filled."""
        return restore_auto(self.options or {}, self.filled)

    @property
    def memory(self) -> str | None:
        """Sentence on what a memory means for the figures; None without a memory."""
        scope = flatten(self.options or {}).get("memory.scope")
        if scope is None:
            return None
        facts = [describe_reach(str(scope), self.memory_reach)] if self.memory_reach else []
        return "; ".join([*facts, "figures without memory do not compare"])

    @property
    def figures(self) -> dict[str, float]:
        """Numbers by which runs can be compared; missing numbers are left out."""
        fields = ("parameters", "chars_per_second", "wall_seconds", "best_epoch", "epochs")
        figures = self.metrics | {name: getattr(self, name) for name in fields}
        return {name: value for name, value in figures.items() if value is not None}


class EnsembleSummary(Figures):
    """All jobs of a sweep as one model, an ensemble.

    Attributes:
        combination: average of the distributions.
        weights: weights of the jobs.
        losses: validation losses of the jobs, which change if a job goes on.
        metrics: figures, such as val/perplexity.
    """

    model_config = ConfigDict(strict=True)

    combination: Literal["arithmetic", "geometric"]
    weights: list[float]
    losses: list[float | None]


class SweepSummary(Summary):
    """The summary of a sweep.

    Attributes:
        jobs: overrides of each job, by the number of the job.
        ensemble: all jobs as one model, if only the seed varies.
    """

    jobs: dict[_JobNumber, list[str]] = {}
    ensemble: EnsembleSummary | None = None


def describe_reach(scope: str, reach: Mapping[str, int]) -> str:
    """Say in words how far characters may look back within their `scope`, by names of texts."""
    counts = [f"{count:,} ({name})" for name, count in reach.items()]
    if len(reach) == 1:
        counts = [f"{count:,}" for count in reach.values()]
    return f"a character may look back at up to {', '.join(counts)} characters of its {scope}"


def perplexity_name(figures: Mapping[str, Any]) -> str:
    """Return the name of the perplexity among a run's figures, with the prefix that it has."""
    for prefix in PREFIXES:
        if any(name.endswith(f"/{prefix}perplexity") for name in figures):
            return f"{prefix}perplexity"
    return "perplexity"


def score(summary: RunSummary) -> float:
    """Find the perplexity by which sweeps compare runs: validation, else training perplexity.

    It is infinity if the summary has neither.
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
    """Warn of a damaged summary; a repeated call does nothing."""
    log.warning("%s is damaged (%s): its entries are lost", path, why)
