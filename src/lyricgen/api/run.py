"""A run as a Python object."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from typing_extensions import override

from lyricgen.api.html import image_html, make_figure, paragraph_html, sample_html, table_html
from lyricgen.console import format_figure
from lyricgen.errors import UserError
from lyricgen.reporting.plots import plot_run
from lyricgen.reporting.records import Record, make_record
from lyricgen.runs.directories import METRICS, SAMPLES
from lyricgen.runs.record_files import (
    MOST_OF_TABLE,
    RecordError,
    Sample,
    open_record,
    read_json_lines,
)
from lyricgen.runs.references import Reference, find_directory, read_reference
from lyricgen.runs.summary import RunSummary, SweepSummary, perplexity_name, read_summary
from lyricgen.settings import Value

if TYPE_CHECKING:
    from lyricgen.api.models import WritingModel

SHOWN = 3  # samples that a notebook shows


class Run:
    """A run and the files in its directory; a notebook shows its curve, figures and samples.

    >>> run = lyricgen.Run("latest")
    >>> run.summary.status
    'finished'
    >>> perplexity = run.figures["val/perplexity"]
    >>> text = run.model().generate(seed=2)

    Args:
        path: directory, id or name of the run, or "latest".

    Raises:
        UserError: the directory holds no run, or its summary.json is damaged.
    """

    def __init__(self, path: Reference | Record) -> None:
        if not isinstance(path, Record):
            directory = find_directory(read_reference(path)).resolve()
            summary = read_summary(directory)
            if isinstance(summary, SweepSummary):
                raise UserError(f"{fspath(path)!r} is a sweep: open it by lyricgen.Sweep")
            path = make_record(directory, summary)
        self.record = path

    @property
    def path(self) -> Path:
        """Directory of the run."""
        return self.record.directory

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def summary(self) -> RunSummary:
        """Content of summary.json when the run was opened."""
        return self.record.summary

    @property
    def settings(self) -> dict[str, Value]:
        """All settings by names with dots, such as "optimizer.lr"."""
        return self.record.settings

    @property
    def figures(self) -> dict[str, float]:
        """Figures of the best epoch by their names, such as "val/perplexity"."""
        return self.record.figures

    @property
    def metrics(self) -> pd.DataFrame:
        """The table metrics.csv, the figures after each validation, by epoch and step.

        Raises:
            UserError: the file is missing or damaged.
        """
        with (
            _readable(self.path / METRICS),
            open_record(self.path / METRICS, MOST_OF_TABLE) as file,
        ):
            return pd.read_csv(file, engine="python")  # whose numbers are exact

    @property
    def samples(self) -> pd.DataFrame:
        """The samples drawn in training, with step, epoch, prefix, strategy, seed and text.

        Raises:
            UserError: the file samples.jsonl is missing or damaged.
        """
        with _readable(self.path / SAMPLES):
            return pd.DataFrame(list(read_json_lines(self.path / SAMPLES, Sample)))

    def model(self) -> "WritingModel":
        """Load the best checkpoint, or the newest if there is no best; see `load`."""
        from lyricgen.api.models import load  # noqa: PLC0415  torch takes seconds

        return load(self.path)

    def plot(self) -> Figure:
        """Plot the training and held-out perplexity, and that of the n-gram model.

        >>> run.plot().savefig("curve.png")

        Raises:
            UserError: the run has no curve yet, or no metrics.csv.
        """
        return make_figure(lambda: plot_run(self.record), str(self.path))

    @override
    def __repr__(self) -> str:
        figures = [f"{name} {format_figure(one)}" for name, one in self._perplexities().items()]
        return f"<Run {', '.join([str(self.path), self.summary.status, *figures])}>"

    def _perplexities(self) -> dict[str, float]:
        own = perplexity_name(self.figures)
        return {name: one for name, one in self.figures.items() if name.endswith(f"/{own}")}

    def _repr_html_(self) -> str:
        rows = [[name, format_figure(one)] for name, one in self._perplexities().items()]
        parts = [paragraph_html(f"{self.path}: {self.summary.status}", self.summary.reason or "")]
        parts += [table_html(["figure", ""], rows), *map(sample_html, self.summary.samples[:SHOWN])]
        with suppress(UserError):  # nothing to plot yet
            parts.insert(1, image_html(self.plot()))
        return Markup("").join(parts)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (RecordError, ValueError) as error:
        raise UserError(
            f"{str(path)!r} cannot be read ({error}): the run has no such table"
        ) from None
