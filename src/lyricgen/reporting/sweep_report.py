"""The report on runs: as the command makes it, and as a sweep does at its end."""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lyricgen.console import show
from lyricgen.errors import reason
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.grouping import compare
from lyricgen.reporting.output import REPORT, print_tables, write
from lyricgen.reporting.records import read
from lyricgen.reporting.selection import parse_conditions, select
from lyricgen.reporting.sweeps import complete
from lyricgen.runs.listing import outputs_directory

log = logging.getLogger(__name__)

_LONGEST = 100  # bytes of a report's name


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
    comparisons = compare(select(complete(found), conditions), by, over, metric)
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
