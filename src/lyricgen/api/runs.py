"""Several runs and sweeps as Python objects: their tables and plots."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import fspath
from pathlib import Path
from typing import Any, overload

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from typing_extensions import override

from lyricgen.api.html import image_html, make_figure, paragraph_html, table_html
from lyricgen.api.run import Run
from lyricgen.errors import UserError
from lyricgen.options import check_number, list_texts
from lyricgen.reporting.comparison import Comparison, compare
from lyricgen.reporting.grouping import list_varied_settings
from lyricgen.reporting.missing_jobs import MISSING, with_missing_jobs
from lyricgen.reporting.page import choose_plots, words_of
from lyricgen.reporting.ranking import rank_records
from lyricgen.reporting.records import Conditions, Record, parse_conditions, read, select
from lyricgen.reporting.tables import failures, list_columns, notes, to_frame
from lyricgen.runs.references import Reference, find_directory, read_reference
from lyricgen.runs.summary import EnsembleSummary, SweepSummary, read_summary
from lyricgen.settings import override_text

Where = str | Sequence[str] | Mapping[str, Any]
CURVES = "learning curves"


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

        >>> table = runs.table(by=["cell", "layers"], over="seed", metric="test/perplexity")
        >>> list(table["rank"])
        [1, 2, 3, 4]

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

        >>> runs.plot("heat map", by=["cell", "layers"]).savefig("map.png")

        Args:
            name: "learning curves", "parameters", "wall time", "heat map" (of two settings in `by`)
                or "importance" (of a search).
            choices: `by`, `over` and `metric`; see the class.

        Raises:
            UserError: the runs have no such plot, are on several texts, or `table` raises it.
        """
        comparisons = self.compare(**choices)
        if len(comparisons) > 1:
            texts = "; ".join(each.name for each in comparisons)
            raise UserError(
                f"the runs are on {len(comparisons)} texts: choose one by where, as in "
                f"where='data=dino': {texts}"
            )
        plots, messages = choose_plots(comparisons[0])
        if name not in plots:
            there = "; ".join([f"there is {', '.join(plots) or 'none'}", *messages])
            raise UserError(f"the runs have no plot {name!r}: {there}")
        return make_figure(plots[name], words_of(comparisons[0]))

    def compare(
        self,
        by: str | Sequence[str] = (),
        over: str | Sequence[str] = "seed",
        metric: str | None = None,
    ) -> list[Comparison]:
        """Compare the runs, by a comparison for each text; see the class for the arguments."""
        by, over = (
            given.split(",") if isinstance(given, str) else list_texts(name, given)
            for name, given in (("by", by), ("over", over))
        )
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
            parts += [paragraph_html(each.name), table_html([one.heading for one in columns], rows)]
            plots, _ = choose_plots(each)
            if CURVES in plots:
                parts.append(image_html(make_figure(plots[CURVES], words_of(each))))
            parts += [paragraph_html(line) for line in (*notes(each), *failures(each))]
        return Markup("").join(parts)


class Sweep(Runs):
    """A sweep, whose runs are the jobs that have begun, in the order of their numbers.

    Args:
        path: directory, id or name of the sweep, or "latest".

    Raises:
        UserError: the directory holds no sweep, or no job of it can be read.
    """

    def __init__(self, path: Reference) -> None:
        self.path = find_directory(read_reference(path)).resolve()
        summary = read_summary(self.path)
        if not isinstance(summary, SweepSummary):
            raise UserError(f"{fspath(path)!r} is a run: open it by lyricgen.Run")
        self.summary = summary
        found = read([self.path])
        super().__init__(with_missing_jobs(found), found.ensembles)

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def best(self) -> Run:
        """The finished job with the lowest held-out perplexity.

        Raises:
            UserError: no job has finished, or the jobs are on several texts.
        """
        return Run(rank_records(self.records)[0])


def find_runs(*paths: str | Path, where: Where = (), best: int | None = None) -> Runs:
    """Find runs in the outputs, or in and below some directories.

    >>> runs = lyricgen.find_runs(where={"cell": ["rnn", "gru"], "status": "finished"})
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
    if best is not None:
        records = rank_records(records)[: check_number("best", best)]
    return Runs(records, found.ensembles)


def _conditions(where: Where) -> Conditions:
    if not isinstance(where, Mapping):
        return parse_conditions([where] if isinstance(where, str) else list_texts("where", where))
    several = {name: one if isinstance(one, list | tuple) else [one] for name, one in where.items()}
    return {name: list(map(override_text, values)) for name, values in several.items()}


@contextmanager
def _python_words() -> Iterator[None]:
    """Name arguments instead of options of the command report in an error of the block."""
    try:
        yield
    except UserError as error:
        raise UserError(re.sub(r"--(\w+) ", r"\1=", str(error))) from None
