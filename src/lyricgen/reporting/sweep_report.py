"""Report on runs, for the report command and for the end of a sweep."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lyricgen.console import put, show
from lyricgen.errors import UserError, reason
from lyricgen.files import replace_file, write_atomically
from lyricgen.reporting.comparison import Comparison, compare
from lyricgen.reporting.missing_jobs import with_missing_jobs
from lyricgen.reporting.page import build_sections, render
from lyricgen.reporting.records import parse_conditions, read, select
from lyricgen.reporting.tables import failures, notes, terminal_table, to_frame
from lyricgen.runs.directories import outputs_directory
from lyricgen.stacking import table_console

RUNS_SHOWN = 10  # largest number of runs without a figure that the terminal lists
REPORT = "report"  # name of the directory and of its files
_LONGEST = 100  # largest number of bytes of a report's name

log = logging.getLogger(__name__)


def report(
    directories: Sequence[Path],
    *,
    where: Sequence[str] = (),
    by: Sequence[str] = (),
    over: Sequence[str] = ("seed",),
    metric: str | None = None,
    out: Path | None = None,
) -> tuple[list[Comparison], Path]:
    """Compare the runs below some directories, and write the files of the report.

    Args:
        directories: directories of runs or sweeps, or above them; empty for all outputs.
        where: conditions, such as `cell=lstm`.
        by: settings to group by; empty for the settings that vary.
        over: settings to average over.
        metric: the ranking figure; None for the validation perplexity, or for the training
            perplexity if no run on the text has validated.
        out: directory of the files. None means a directory in the sweep, if `directories` is one
            sweep, else in the outputs; the name of this directory tells the other arguments.

    Returns:
        The comparisons and the directory of the files.

    Raises:
        UserError: a directory, run, setting or figure does not exist, no run fulfils the
            conditions, a condition cannot be read, or a file cannot be written.
    """
    conditions = parse_conditions(where)
    found = read(directories)
    selected = select(with_missing_jobs(found), conditions)
    comparisons = compare(selected, by, over, metric, found.ensembles)
    sweeps = {record.sweep for record in found.records} | set(found.plans)
    if out is None:
        one = len(directories) == 1 and sweeps == {directories[0].resolve()}
        parent = directories[0] if one else outputs_directory()
        out = parent / _make_name({"where": where, "by": by, "over": over, "metric": metric})
    _write(comparisons, directories or [outputs_directory()], out)
    return comparisons, out


def _write(comparisons: list[Comparison], sources: Sequence[Path], directory: Path) -> None:
    source = ", ".join(map(str, sources))
    sections = build_sections(comparisons)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        table = to_frame(comparisons).to_csv(index=False, lineterminator="\n")
        write_atomically(directory / f"{REPORT}.csv", table)
        for name in (f"{REPORT}.md", f"{REPORT}.html"):
            write_atomically(directory / name, render(name, sections, source))
        for plot in (plot for section in sections for plot in section.plots):
            with replace_file(directory / plot.file) as stream:
                stream.write(plot.png)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {str(directory)!r} ({error.strerror}): "
            "--out DIRECTORY names another place"
        ) from error


def _make_name(choices: Mapping[str, str | Sequence[str] | None]) -> str:
    """Name the directory of a report by the arguments of `report` that are not defaults."""
    parts = [
        f"{option}_{value if isinstance(value, str) else ','.join(value)}"
        for option, value in choices.items()
        if value and (option, list(value)) != ("over", ["seed"])
    ]
    name = "_".join([REPORT, *parts])
    plain = re.sub(r"[^\w=,.+-]", "-", name)
    if plain == name and len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]  # shortened names may be equal
    return f"{plain.encode()[:_LONGEST].decode(errors='ignore')}_{digest}"


def print_report(comparisons: list[Comparison], directory: Path) -> None:
    """Show the tables, the runs without a figure, and the path of the report."""
    console = table_console()
    for comparison in comparisons:
        put(terminal_table(comparison, console), console)
        lines = failures(comparison)
        for line in (*notes(comparison), *lines[:RUNS_SHOWN]):
            show(line)
        if len(lines) > RUNS_SHOWN:
            show(f"… and {len(lines) - RUNS_SHOWN} more, in the report")
    show(f"report: {directory / REPORT}.html")


def report_sweep(directory: Path) -> None:
    """Write the report of a sweep into `report/` in its directory, and show it.

    An error becomes a warning, since the sweep itself is done.
    """
    try:
        print_report(*report([directory]))
    except Exception as error:  # the failed jobs must still be listed
        log.warning("no report: %s", reason(error))
        log.debug("no report", exc_info=True)
