"""Runs and sweeps as Python objects: their settings, figures, tables and plots."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from typing_extensions import override

from lyricgen.console import format_figure
from lyricgen.errors import HARMLESS, UserError, escape_text
from lyricgen.reporting.comparison import Comparison, compare
from lyricgen.reporting.grouping import list_varied_settings
from lyricgen.reporting.page import choose_plots, words_of
from lyricgen.reporting.plot_style import plot_style, to_png
from lyricgen.reporting.plots import plot_run
from lyricgen.reporting.ranking import rank_records
from lyricgen.reporting.records import (
    MISSING,
    Conditions,
    Record,
    make_record,
    parse_conditions,
    read,
    select,
    with_missing_jobs,
)
from lyricgen.reporting.tables import failures, list_columns, notes, to_frame
from lyricgen.runs.directories import METRICS, SAMPLES
from lyricgen.runs.record_files import MOST_OF_TABLE, RecordError, open_record, read_json_lines
from lyricgen.runs.summary import (
    EnsembleSummary,
    RunSummary,
    SweepSummary,
    perplexity_name,
    read_summary,
)
from lyricgen.settings import Value, override_text

if TYPE_CHECKING:
    from lyricgen.api.models import WritingModel

Where = str | Sequence[str] | Mapping[str, Any]
CURVES = "learning curves"
SHOWN = 3  # samples that a notebook shows


@dataclass(frozen=True)
class Sample:
    """A line of samples.jsonl, by the names in docs/train.md."""

    step: int
    epoch: int
    prefix: str
    strategy: str
    seed: int
    text: str


class Run:
    """A run and the files in its directory.

    Args:
        path: directory of the run.

    Raises:
        UserError: the directory holds no run, or its summary.json is damaged.
    """

    def __init__(self, path: str | Path | Record) -> None:
        if not isinstance(path, Record):
            directory = Path(path).resolve()
            summary = read_summary(directory)
            if isinstance(summary, SweepSummary):
                raise UserError(f"{str(path)!r} is a sweep: open it by lyricgen.Sweep")
            path = make_record(directory, summary)
        self.record = path

    @property
    def path(self) -> Path:
        """Directory of the run."""
        return self.record.directory

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
        """The table metrics.csv: figures after each validation, by epoch and step.

        Raises:
            UserError: the file is missing or damaged.
        """
        with (
            _readable(self.path / METRICS),
            open_record(self.path / METRICS, MOST_OF_TABLE) as file,
        ):
            return pd.read_csv(file, float_precision="round_trip")

    @property
    def samples(self) -> pd.DataFrame:
        """The samples drawn during training: step, epoch, prefix, strategy, seed and text.

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

        Raises:
            UserError: the run has no curve yet, or no metrics.csv.
        """
        return _draw(lambda: plot_run(self.record), str(self.path))

    @override
    def __repr__(self) -> str:
        figures = [f"{name} {format_figure(one)}" for name, one in self._perplexities().items()]
        return f"<Run {', '.join([str(self.path), self.summary.status, *figures])}>"

    def _perplexities(self) -> dict[str, float]:
        own = perplexity_name(self.figures)
        return {name: one for name, one in self.figures.items() if name.endswith(f"/{own}")}

    def _repr_html_(self) -> str:
        rows = [[name, format_figure(one)] for name, one in self._perplexities().items()]
        parts = [_paragraph(f"{self.path}: {self.summary.status}", self.summary.reason or "")]
        parts += [_table(["figure", ""], rows), *map(_sample, self.summary.samples[:SHOWN])]
        with suppress(UserError):  # nothing to plot yet
            parts.insert(1, _image(self.plot()))
        return Markup("").join(parts)


class Runs(Sequence[Run]):
    """Runs to compare, as `lyricgen.find_runs` finds them; a sequence of `Run`.

    `table`, `plot`, `notes` and `failures` take the options of the command report by their names:

    - `by`: settings to group by, such as "cell" or ["cell", "layers"]; by default those that vary;
    - `over`: settings to average over; by default the seed;
    - `metric`: the figure that ranks the groups; by default the held-out perplexity.

    Args:
        records: records of the runs, and of missing jobs of sweeps.
        ensembles: all jobs of a sweep as one model, by the sweep's directory.
    """

    def __init__(
        self, records: Sequence[Record], ensembles: Mapping[Path, EnsembleSummary]
    ) -> None:
        self.records, self._ensembles = list(records), ensembles
        self._runs = [Run(each) for each in records if each.summary is not MISSING]

    @override
    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...

    @override
    def __getitem__(self, index: int | slice) -> "Run | Runs":
        if isinstance(index, slice):
            return Runs([each.record for each in self._runs[index]], self._ensembles)
        return self._runs[index]

    def frame(self) -> pd.DataFrame:
        """Make a table with a row a run: status, varied settings, figures, then other settings.

        The index holds the directories.
        """
        varied = list_varied_settings([each.record for each in self], ["seed"])
        rows = [
            {"status": run.summary.status}
            | {name: run.record.value(name) for name in (*varied, "seed") if name in run.settings}
            | run.figures
            | run.settings
            for run in self
        ]
        return pd.DataFrame(rows, pd.Index([run.path for run in self], name="path"))

    def table(self, **choices: Any) -> pd.DataFrame:
        """Compare groups of runs: means, deviations and paired tests, the best group first.

        docs/report.md explains the columns, which are those of report.csv.

        >>> runs.table(by="cell", over="seed", metric="test/perplexity")

        Args:
            choices: `by`, `over` and `metric`; see the class.

        Raises:
            UserError: no run has a setting or figure.
        """
        return to_frame(self.compare(**choices))

    def notes(self, **choices: Any) -> list[str]:
        """Say what the table means, as below the table of a report; `table` explains choices."""
        return [line for each in self.compare(**choices) for line in notes(each)]

    def failures(self, **choices: Any) -> list[str]:
        """List the runs without a figure and the reasons; `table` explains choices."""
        return [line for each in self.compare(**choices) for line in failures(each)]

    def plot(self, name: str = CURVES, **choices: Any) -> Figure:
        """Make a plot of the report.

        >>> runs.plot("heat map", by=["cell", "layers"])

        Args:
            name: "learning curves", "parameters", "wall time", "heat map" or "importance".
            choices: `by`, `over` and `metric`; see the class.

        Raises:
            UserError: the runs have no such plot, are on several texts, or `table` raises it.
        """
        comparisons = self.compare(**choices)
        if len(comparisons) > 1:
            texts = "; ".join(each.name for each in comparisons)
            raise UserError(f"the runs are on {len(comparisons)} texts: choose by where=: {texts}")
        plots, messages = choose_plots(comparisons[0])
        if name not in plots:
            there = "; ".join([f"there is {', '.join(plots) or 'none'}", *messages])
            raise UserError(f"the runs have no plot {name!r}: {there}")
        return _draw(plots[name], words_of(comparisons[0]))

    def compare(
        self,
        by: str | Sequence[str] = (),
        over: str | Sequence[str] = "seed",
        metric: str | None = None,
    ) -> list[Comparison]:
        """Compare the runs, by a comparison for each text; see the class for the arguments."""
        by, over = (each.split(",") if isinstance(each, str) else each for each in (by, over))
        with _python_words():
            return compare(self.records, by, over, metric, self._ensembles)

    @override
    def __repr__(self) -> str:
        statuses = [each.summary.status for each in self]
        counts = (f"{statuses.count(each)} {each}" for each in dict.fromkeys(statuses))
        return f"<{type(self).__name__} of {len(self)} runs: {', '.join(counts)}>"

    def _repr_html_(self) -> str:
        parts = []
        for each in self.compare():
            columns = list_columns(each)
            rows = list(zip(*(column.texts for column in columns), strict=True))
            parts += [_paragraph(each.name), _table([one.heading for one in columns], rows)]
            plots, _ = choose_plots(each)
            if CURVES in plots:
                parts.append(_image(_draw(plots[CURVES], words_of(each))))
            parts += [_paragraph(line) for line in (*notes(each), *failures(each))]
        return Markup("").join(parts)


class Sweep(Runs):
    """A sweep, whose jobs are its runs.

    Args:
        path: directory of the sweep.

    Raises:
        UserError: the directory holds no sweep, or no job of it can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        summary = read_summary(self.path)
        if not isinstance(summary, SweepSummary):
            raise UserError(f"{str(path)!r} is a run: open it by lyricgen.Run")
        self.summary = summary
        found = read([self.path])
        super().__init__(with_missing_jobs(found), found.ensembles)

    @property
    def runs(self) -> list[Run]:
        """The jobs that have begun, in the order of their numbers."""
        return list(self)

    @property
    def best(self) -> Run:
        """The finished job with the lowest held-out perplexity.

        Raises:
            UserError: no job has finished, or the jobs are on several texts.
        """
        return Run(rank_records(self.records)[0])


def find_runs(*paths: str | Path, where: Where = (), best: int | None = None) -> Runs:
    """Find runs in the outputs, or in and below some directories.

    >>> runs = lyricgen.find_runs(where={"cell": ["lstm", "gru"], "status": "finished"})
    >>> [winner] = lyricgen.find_runs(where="data=dino", best=1)

    Args:
        paths: directories of runs or sweeps, or above them; none for all outputs.
        where: conditions as for the command report, such as "cell=lstm,gru" or a list of them, or
            a dictionary with the allowed values of settings.
        best: number of the best finished runs, by the held-out perplexity; None for all runs.

    Raises:
        UserError: there is no such directory, run or setting; or `best` and several texts.
    """
    found = read([Path(path) for path in paths])
    with _python_words():
        records = select(with_missing_jobs(found), _conditions(where))
    return Runs(records if best is None else rank_records(records)[:best], found.ensembles)


def _conditions(where: Where) -> Conditions:
    if not isinstance(where, Mapping):
        return parse_conditions([where] if isinstance(where, str) else where)
    several = {name: one if isinstance(one, list | tuple) else [one] for name, one in where.items()}
    return {name: list(map(override_text, values)) for name, values in several.items()}


@contextmanager
def _python_words() -> Iterator[None]:
    """Name arguments instead of options of the command report in an error of the block."""
    try:
        yield
    except UserError as error:
        raise UserError(re.sub(r"--(\w+) ", r"\1=", str(error))) from None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (RecordError, ValueError) as error:
        raise UserError(
            f"{str(path)!r} cannot be read ({error}): the run has no such table"
        ) from None


def _draw(plot: Callable[[], Figure], words: str) -> Figure:
    """Make a plot with fonts for `words` on a white ground."""
    with plot_style(words):
        figure = plot()
        figure.set_facecolor("white")
        figure.draw_without_rendering()  # makes the labels, whose fonts the style chooses
    return figure


def _image(figure: Figure) -> Markup:
    image = base64.b64encode(to_png(figure)).decode()
    return Markup('<img style="max-width: 540px" src="data:image/png;base64,{}">').format(image)


def _paragraph(*texts: str) -> Markup:
    return Markup("<p>{}</p>").format(escape_text(" ".join(texts)))


def _sample(text: str) -> Markup:
    return Markup("<pre>{}</pre>").format(escape_text(text, HARMLESS))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    lines = [Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row) for row in rows]
    head = Markup("").join(Markup("<th>{}</th>").format(each) for each in headings)
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in (head, *lines))
    return Markup("<table>{}</table>").format(body)
