"""The report on runs: as the command makes it, and as a sweep does at its end."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lyricgen.console import put, show, table_console
from lyricgen.errors import UserError, reason
from lyricgen.files import replacing, write_atomically
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.grouping import compare
from lyricgen.reporting.page import render, sections
from lyricgen.reporting.records import parse_conditions, read, select, with_missing_jobs
from lyricgen.reporting.tables import failures, notes, terminal_table, to_frame
from lyricgen.runs.directories import outputs_directory

SHOWN = 10  # runs without a figure that are named on the terminal

REPORT = "report"  # the directory, and the name of its files


log = logging.getLogger(__name__)
_LONGEST = 100  # bytes of a report's name


def write(comparisons: list[Comparison], sources: Sequence[Path], directory: Path) -> None:
    """Write report.md, report.csv, report.html and the plots.

    Raises:
        UserError: the directory cannot be written.
    """
    source = ", ".join(map(str, sources))
    found = sections(comparisons)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        table = to_frame(comparisons).to_csv(index=False, lineterminator="\n")
        write_atomically(directory / f"{REPORT}.csv", table)
        for name in (f"{REPORT}.md", f"{REPORT}.html"):
            write_atomically(directory / name, render(name, found, source))
        for plot in (plot for section in found for plot in section.plots):
            with replacing(directory / plot.file) as stream:
                stream.write(plot.png)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {str(directory)!r} ({error.strerror}): "
            "--out DIRECTORY names another place"
        ) from error


def print_tables(comparisons: list[Comparison]) -> None:
    """Show the tables and what became of the runs that are not in them."""
    console = table_console()
    for comparison in comparisons:
        put(terminal_table(comparison, console), console)
        for line in notes(comparison):
            show(line)
        lost = failures(comparison)
        for line in lost[:SHOWN]:
            show(line)
        if len(lost) > SHOWN:
            show(f"… and {len(lost) - SHOWN} more, in the report")


def report_sweep(directory: Path) -> None:
    """Report on a sweep into its `report/`, and print the tables.

    What cannot be done is a warning, since the sweep itself is done.
    """
    try:
        comparisons, out = report([directory])
        print_tables(comparisons)
        show(f"report: {out / REPORT}.html")
    except Exception as error:  # the jobs that have failed are still to be named
        log.warning("no report: %s", reason(error))
        log.debug("no report", exc_info=True)


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
        directories: of runs, sweeps or many of both; none for all outputs.
        where: conditions, such as `cell=lstm`.
        by: settings to group by; none for those that vary.
        over: settings to average over.
        metric: to rank by; None for the held-out perplexity.
        out: where to; None for report/ in the sweep, if that is all, else in the outputs; under
            a name of its own where something was chosen.

    Returns:
        The comparisons, and where the files are.

    Raises:
        UserError: no such directory, run, setting or figure; or the files cannot be written.
    """
    conditions = parse_conditions(where)
    found = read(directories)
    comparisons = compare(select(with_missing_jobs(found), conditions), by, over, metric)
    sweeps = {record.sweep for record in found.records} | set(found.plans)
    if out is None:
        one = len(directories) == 1 and sweeps == {directories[0].resolve()}
        place = directories[0] if one else outputs_directory()
        out = place / _name_of({"where": where, "by": by, "over": over, "metric": metric})
    write(comparisons, directories or [outputs_directory()], out)
    return comparisons, out


def _name_of(chosen: Mapping[str, str | Sequence[str] | None]) -> str:
    """Directory of a report; its name says which runs or settings were chosen."""
    told = [
        f"{option}_{value if isinstance(value, str) else ','.join(value)}"
        for option, value in chosen.items()
        if value and (option, list(value)) != ("over", ["seed"])
    ]
    name = "_".join([REPORT, *told])
    plain = re.sub(r"[^\w=,.+-]", "-", name)
    if plain == name and len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]  # another choice may look the same
    return f"{plain.encode()[:_LONGEST].decode(errors='ignore')}_{digest}"
