"""The files of a report, and what of it is shown on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from lyricgen.console import put, show, table_console
from lyricgen.errors import UserError, printable
from lyricgen.files import replacing, write_atomically
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.formats import markdown, terminal_table, to_csv
from lyricgen.reporting.page import page
from lyricgen.reporting.sections import Section, sections
from lyricgen.reporting.tables import failures, notes, title_of

SHOWN = 10  # runs without a figure that are named on the terminal

REPORT = "report"  # the directory, and the name of its files


def write(comparisons: list[Comparison], sources: Sequence[Path], directory: Path) -> None:
    """Write report.md, report.csv, report.html and the plots.

    Raises:
        UserError: the directory cannot be written.
    """
    source = ", ".join(map(str, sources))
    found = sections(comparisons)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / f"{REPORT}.csv", to_csv(comparisons))
        write_atomically(directory / f"{REPORT}.md", _markdown(found, source))
        write_atomically(directory / f"{REPORT}.html", page(found, source))
        for number, section in enumerate(found):
            for plot in section.plots:
                with replacing(directory / _file(plot.name, number)) as stream:
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


def _markdown(found: list[Section], source: str) -> str:
    parts = [f"# Report\n\n{printable(source)}\n"]
    for number, section in enumerate(found):
        comparison = section.comparison
        parts += [
            f"## {printable(comparison.name)}\n",
            f"{title_of(comparison.metric)}, best first\n",
            markdown(comparison),
            *(f"{line}\n" for line in notes(comparison)),
        ]
        lost = failures(comparison)
        if lost:
            parts.append("".join(f"- {line}\n" for line in lost))
        plots = (f"![{one.name}]({_file(one.name, number)})" for one in section.plots)
        parts.append("".join(f"{plot}\n" for plot in plots))
        parts += [f"{line}\n" for line in section.lines]
    return "\n".join(part for part in parts if part)


def _file(name: str, number: int) -> str:
    return f"{name}.png" if number == 0 else f"{name}_{number + 1}.png"
