"""Records of runs, read from their summary.json."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lyricgen.console import progress
from lyricgen.errors import UserError
from lyricgen.runs.listing import MULTIRUN, SUMMARY, number_of, outputs_directory, read_summary
from lyricgen.runs.record_files import walk
from lyricgen.runs.summary import figures_of
from lyricgen.settings import Value, complete, flatten, known_to_model, parse_overrides

log = logging.getLogger(__name__)

MISSING = "missing"  # the status of a job that has left nothing


@dataclass(frozen=True)
class Record:
    """A run, or a job that has never become one.

    Attributes:
        directory: where it is.
        status: finished, failed, killed, interrupted, pruned, running or missing.
        reason: of a failure.
        started: when, as ISO 8601.
        options: flat.
        overrides: what was typed, in that order.
        figures: those of its end, by their names in summary.json.
        samples: texts that it wrote at its end.
        search_space: of its sweep, if that is a search.
        sweep: the directory of the sweep whose job it is.
        number: of the job.
        corpus_digest: of its text; None for a job that has not read it, and for an old run.
    """

    directory: Path
    status: str
    reason: str = ""
    started: str = ""
    options: dict[str, Value] = field(default_factory=dict)
    overrides: dict[str, Value] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    search_space: dict[str, dict[str, Any]] = field(default_factory=dict)
    sweep: Path | None = None
    number: int | None = None
    corpus_digest: str | None = None

    @cached_property
    def settings(self) -> dict[str, Value]:
        """The options, and what was typed that is none: groups such as depth=deep."""
        return known_to_model(self.overrides | self.options)


@dataclass(frozen=True)
class FoundRuns:
    """Runs and sweeps below some directories.

    Attributes:
        records: the runs, in the order of their directories.
        plans: the overrides of every job that a sweep is to do, by its directory and their number.
    """

    records: list[Record]
    plans: dict[Path, dict[int, list[str]]]


def read(directories: Sequence[Path]) -> FoundRuns:
    """Read all runs below some directories; without a directory, those of all outputs.

    What cannot be read is left out, and a warning names it.

    Raises:
        UserError: a directory is not there, or no run is in any.
    """
    asked = list(directories) or [outputs_directory()]
    for directory in asked:
        if not directory.is_dir():
            mended = "train one (python -m lyricgen.train) or set LYRICGEN_OUTPUTS"
            raise UserError(
                f"{str(directory)!r} is not there: "
                f"{'name a directory that holds runs' if directories else mended}"
            )
    paths = list(dict.fromkeys(path.resolve() for one in asked for path in _with_summary(one)))
    found = FoundRuns([], {})
    with progress("reading runs", len(paths)) as moved:
        for number, path in enumerate(paths):
            _read_into(found, path)
            moved(number + 1)
    if not found.records and not found.plans:
        named = " and ".join(repr(str(each)) for each in asked)
        raise UserError(
            f"no run found in {named}: train one (python -m lyricgen.train), or name one"
        )
    return found


def _with_summary(directory: Path) -> Iterator[Path]:
    """The directories below one that have a summary.json, in the order of their names."""
    for place, folders, files in walk(directory):
        if SUMMARY in files:
            yield place
        folders[:] = sorted(set(folders) - {"checkpoints", ".hydra"}, key=_by_number)


def _by_number(name: str) -> tuple[float, str]:
    number = number_of(Path(name))
    return (math.inf if number is None else number), name


def _read_into(found: FoundRuns, directory: Path) -> None:
    try:
        summary = read_summary(directory)
    except UserError as error:
        log.warning("%s is left out: %s", directory / SUMMARY, error.__cause__)
        return
    if "jobs" in summary:
        plan = {int(number): overrides for number, overrides in summary["jobs"].items()}
        found.plans[directory] = plan
    else:
        found.records.append(_record(directory, summary))


def _record(directory: Path, summary: dict[str, Any]) -> Record:
    number = summary.get("job")
    if number is None and (directory.parent / MULTIRUN).exists():  # of a sweep of Hydra's own
        number = number_of(directory)
    return Record(
        directory,
        summary["status"],
        summary.get("reason") or "",
        summary.get("started", ""),
        flatten(complete(summary.get("options") or {})),
        parse_overrides(summary.get("overrides", [])),
        {key: value for key, value in figures_of(summary).items() if value is not None},
        tuple(summary.get("samples", [])),
        summary.get("search_space") or {},
        None if number is None else directory.parent,
        number,
        summary.get("corpus_digest"),
    )
