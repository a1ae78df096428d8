"""A list of runs, a run with all that is known of it, and the differences of two runs."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lyricgen.console import format_figure, put, show
from lyricgen.errors import UserError, escape_line
from lyricgen.reporting.ranking import DEFAULT_METRIC, choose_metric, rank_records
from lyricgen.reporting.records import (
    ABSENT,
    Record,
    format_value,
    parse_conditions,
    read_all,
    select,
)
from lyricgen.runs.directories import outputs_directory
from lyricgen.runs.newest import describe_options, find_start, format_age
from lyricgen.runs.notes import EMPTY, Notes
from lyricgen.runs.references import list_directories, name_of, shorten_ids
from lyricgen.settings import OF_SAMPLER, OF_TEXT, Settings, Value, key
from lyricgen.stacking import table_console

Row = dict[str, Any]


def list_rows(directories: Sequence[Path], where: Sequence[str], *, jobs: bool) -> list[Row]:
    """List the runs and sweeps in and below directories, the newest first, as plain values.

    Damaged summaries have rows, too; of all conditions, only status=damaged selects them.

    Args:
        directories: directories to read; empty for all outputs.
        where: conditions that runs must fulfil.
        jobs: whether the jobs of a sweep follow it.

    Raises:
        UserError: a directory does not exist, a condition cannot be read, or no run fulfils them.
    """
    found = read_all(directories)
    conditions = parse_conditions(where)
    if conditions == {"status": ["damaged"]}:
        records, damaged = [], found.damaged
    elif conditions:
        records, damaged = select(found.records, conditions), {}
    else:
        records, damaged = found.records, found.damaged
    members: dict[Path, list[Record]] = {} if where else {sweep: [] for sweep in found.sweeps}
    for record in records:
        path = record.sweep if record.sweep in found.sweeps else record.directory
        members.setdefault(path or record.directory, []).append(record)
    ids, rows = _find_ids(), []
    for path in sorted([*members, *damaged], key=find_start, reverse=True):
        runs, notes = members.get(path, []), found.notes.get(path, EMPTY)
        if path in damaged:
            row = _row(path, "damaged", runs, notes) | {"reason": damaged[path]}
        elif path in found.sweeps:
            row = _row(path, found.sweeps[path].status, runs, notes)
            row |= {
                "jobs": len(found.sweeps[path].jobs),
                "model": f"{len(runs)} job{'s' * (len(runs) != 1)}",
            }
        else:
            row = _row(path, runs[0].summary.status, runs, notes)
        rows.append(row)
        if jobs and path in found.sweeps:
            rows += [_row(one.directory, one.summary.status, [one], one.notes) for one in runs]
    return [{"id": ids.get(Path(row["directory"]), ABSENT)} | row for row in rows]


def _find_ids() -> dict[Path, str]:
    outputs = outputs_directory()
    known = shorten_ids(list_directories())
    return {outputs.resolve() / path.relative_to(outputs): one for one, path in known.items()}


def _row(directory: Path, status: str, runs: Sequence[Record], notes: Notes) -> Row:
    """Make the row of a run, or of a sweep with some of its jobs."""
    described = [describe_options(record.summary.options) for record in runs]
    texts = sorted({text for _, text in described if text})
    row: Row = {"directory": str(directory), "status": status, "figure": None, "value": None}
    row |= {"started": datetime.fromtimestamp(find_start(directory)).isoformat(timespec="seconds")}
    named = any(key(one) == "name" for record in runs for one in record.summary.overrides)
    row |= {"name": name_of(directory) if named else ""}
    row |= {"text": texts[0] if len(texts) == 1 else f"{len(texts)} texts" if texts else ""}
    row |= {"model": runs[0].summary.model or described[0][0] if runs else "", "jobs": None}
    with suppress(UserError):  # there is none, or no single text
        best = rank_records(runs)[0]
        row["figure"] = choose_metric([best])
        row["value"] = best.figures[row["figure"]]
    reason = runs[0].summary.reason if len(runs) == 1 else None
    return row | {"reason": reason, "note": notes.note, "tags": list(notes.tags)}


def print_rows(rows: Sequence[Row]) -> None:
    """Print a table with a line for each run; it has names if some run was given one."""
    if not rows:
        show(f"no runs in {str(outputs_directory())!r} yet: lyricgen train makes one")
        return
    names = ["name"] if any(row["name"] for row in rows) else []
    table = _table("id", "age", *names, "text", "model", "status", DEFAULT_METRIC, "note")
    for row in rows:
        age = format_age(datetime.fromisoformat(row["started"]).timestamp())
        tags = f"[{', '.join(row['tags'])}]" if row["tags"] else ""
        note = " ".join(one for one in (row["note"], tags) if one)
        shown = [row["id"], age, *(row[name] for name in (*names, "text", "model", "status"))]
        table.add_row(*map(_cell, [*shown, _figure(row), note]))
    put(table, table_console())


def _figure(row: Row) -> str:
    if row["value"] is None:
        return ABSENT
    name = "" if row["figure"] == DEFAULT_METRIC else f" {row['figure']}"
    return f"{format_figure(row['value'])}{name}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if "/" in column else "left", overflow="fold")
    return table


def _cell(text: str) -> Text:
    return Text(escape_line(text))


def read_run(directory: Path) -> tuple[Row, Record | None]:
    """Read the row of a run, sweep or job; and its record, unless it is a sweep or damaged.

    Raises:
        UserError: the directory is none of these.
    """
    path = directory.resolve()
    rows = list_rows([directory], [], jobs=False) if directory.is_dir() else []
    for row in rows:
        if row["directory"] == str(path):
            records = [] if row["jobs"] is not None else read_all([directory]).records
            return row, next((one for one in records if one.directory == path), None)
    raise UserError(f"{str(directory)!r} holds no run: name a run by its id, name or directory")


def print_run(row: Row, record: Record | None, defaults: Mapping[str, Value]) -> None:
    """Print what is known of a run, sweep or job, as `read_run` returns it.

    Args:
        row: its row in the list.
        record: its record, if any.
        defaults: defaults of settings. Other values are shown, unless the text or the recipe has
            filled them.
    """
    facts = {
        name: row[name]
        for name in ("id", "directory", "started", "name", "text", "model", "status", "reason")
    }
    if record is not None:
        facts |= {"command": record.summary.command}
    for name, value in (facts | {"note": row["note"], "tags": ", ".join(row["tags"])}).items():
        if value:
            show(f"{name:9}  {escape_line(value)}")
    directory = Path(row["directory"])
    if record is None and row["jobs"] is None:  # damaged
        return
    if record is None:
        print_rows(list_rows([directory], [], jobs=True)[1:])
        return
    typed, hidden = record.overrides, {*record.summary.filled, *OF_TEXT, *OF_SAMPLER}
    chosen = {
        name: (format_value(value), format_value(defaults[name]))
        for name, value in record.settings.items()
        if value != defaults.get(name, value)
        and (name in typed or not (name in hidden or "${" in str(defaults[name])))
    }
    figures = {name: [f"{value:,.6g}"] for name, value in record.figures.items()}
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    sizes = {str(path.relative_to(directory)): [f"{path.stat().st_size:,}"] for path in files}
    _print_table(["setting", "value", "default"], chosen)
    _print_table(["figure", "value"], figures)
    _print_table(["file", "bytes"], sizes)
    for sample in record.summary.samples:
        show(f"sample     {escape_line(sample)}")


def _print_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    if rows:
        table = _table(*columns)
        for name, values in rows.items():
            table.add_row(*map(_cell, (name, *values)))
        show("")
        put(table, table_console())


def print_differences(one: Record, other: Record) -> None:
    """Print the settings and the figures in which two runs differ."""
    names = [record.directory.name for record in (one, other)]
    pairs: list[tuple[str, Settings, Settings]] = [
        ("setting", one.settings, other.settings),
        ("figure", one.figures, other.figures),
    ]
    for kind, first, second in pairs:
        differing = {
            name: [format_value(each.get(name, ABSENT)) for each in (first, second)]
            for name in dict.fromkeys([*first, *second])
            if first.get(name, ABSENT) != second.get(name, ABSENT)
        }
        _print_table([kind, *names], differing)
        if not differing:
            show(f"no {kind} differs")
