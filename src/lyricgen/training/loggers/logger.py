"""Base class of loggers, and the figures and samples that they log."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger
from typing_extensions import override

from lyricgen.models.model import Model
from lyricgen.runs.record_files import Sample
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState
from lyricgen.runs.summary import perplexity_name
from lyricgen.settings import Value, flatten, is_plumbing, known_to_model
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.options import TrainOptions

Status = Literal["finished", "pruned", "interrupted", "failed"]


@dataclass(frozen=True)
class LoggedRun:
    """Parts of a run that its loggers read; `steps` is None for a new run."""

    options: TrainOptions
    run: Run
    state: RunState
    model: Model
    steps: int | None  # steps before the checkpoint

    @property
    def group(self) -> str | None:
        """Date and name of the run's sweep; None for a single run."""
        sweep: Path | None = self.run.sweep
        return None if sweep is None else f"{sweep.parent.name}/{sweep.name}"

    @property
    def settings(self) -> dict[str, Value]:
        """Options that change what the run learns, by names with dots."""
        return select_settings(self.options.model_dump(mode="json"))


class RunLogger(Logger, Observer):
    """Destination of a run's figures, texts and status.

    Only rank 0 has loggers. As an observer, a logger acts after metrics.csv has its new row. The
    perplexity of the n-grams is one of the figures, `val/ngram_perplexity`.
    """

    name: str | None = None
    version: int | str | None = None

    def __init__(self, logged: LoggedRun) -> None:
        super().__init__()
        self.logged = logged

    @abstractmethod
    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures of a step, by their names."""

    @override
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a logger takes the options from `logged` when the training begins."""

    @override
    def finalize(self, status: str) -> None:
        """Do nothing at the end of Lightning's training: `close` follows."""

    def log_samples(self, samples: Sequence[Sample], step: int) -> None:
        """Log samples at the newest step; samples of an earlier step may be among them."""

    def finish(self, figures: Mapping[str, float]) -> None:
        """Log the final figures, the result of `final_figures`."""

    def close(self, status: Status, reason: str | None) -> None:
        """Log how the run has ended; `reason` tells why it failed or was pruned."""


def select_settings(options: dict[str, Any]) -> dict[str, Value]:
    """Select the options that change what a run learns, by names with dots."""
    flat = known_to_model(flatten(options))
    return {name: value for name, value in flat.items() if not is_plumbing(name)}


def as_markdown(samples: Sequence[Sample]) -> str:
    """Write samples as Markdown, with a heading for each epoch and strategy.

    The texts are unaltered, but TensorBoard leaves out empty lines at their beginning and end.
    """
    drawn: dict[str, list[str]] = {}
    for sample in samples:
        # indented, so that Markdown keeps line breaks, stars and hashes
        text = "\n".join(f"    {line}" for line in sample.text.split("\n"))
        drawn.setdefault(f"**epoch {sample.epoch}, {sample.strategy}**", []).append(text)
    parts = (
        part for heading, texts in drawn.items() for part in (heading, "\n\n---\n\n".join(texts))
    )
    return "\n\n".join(parts)


def as_table(samples: Iterable[Sample]) -> dict[str, Any]:
    """Write samples as the columns and the rows of a table."""
    rows = [list(astuple(sample)) for sample in samples]
    return {"columns": [each.name for each in fields(Sample)], "data": rows}


def final_figures(figures: Mapping[str, Any], wall_seconds: float) -> dict[str, float]:
    """Select the final figures for loggers from the result of `results.conclude`."""
    name = perplexity_name(figures)
    final = {
        **{tag: figures[tag] for tag in figures if tag.startswith("test/")},
        "val/mixture_perplexity": figures.get("val/mixture_perplexity"),
        best_tag(name): figures.get(f"val/{name}"),
        f"{_row(name)}/test_{name}": figures.get(f"test/{name}"),
        "run/parameters": figures["parameters"],
        "run/chars_per_second": figures["chars_per_second"],
        "run/wall_seconds": wall_seconds,
    }
    return {tag: value for tag, value in final.items() if value is not None}


def best_tag(name: str) -> str:
    """Tag of a run's best validation value of the metric `name`.

    TensorBoard's parallel coordinates leave out runs that lack one of the first five tags. So tags
    of runs with another kind of perplexity come last.
    """
    return f"{_row(name)}/best_val_{name}"


def best_figure(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Find the best validation perplexity so far, with its tag; {} without a finite one."""
    name = perplexity_name(rows[-1])
    best = min(row.get(f"val/{name}", math.inf) for row in rows)
    return {best_tag(name): best} if math.isfinite(best) else {}


def _row(name: str) -> str:
    rows = {"pseudo_": "run_fill", "memory_": "run_memory"}
    return next((row for prefix, row in rows.items() if name.startswith(prefix)), "run")
