"""What runs say of themselves, read from their summary.json."""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lyricgen.console import progress
from lyricgen.errors import UserError
from lyricgen.files import finite
from lyricgen.runs import MULTIRUN, SUMMARY, number_of, outputs_directory, read_summary
from lyricgen.settings import Value, complete, flatten, known_to_model, parse_overrides

log = logging.getLogger(__name__)

# Figures of a summary whose names have no part, as val/ is one.
FIGURES = ("parameters", "chars_per_second", "wall_seconds", "best_epoch", "epochs")
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

    @cached_property
    def settings(self) -> dict[str, Value]:
        """The options, and what was typed that is none: groups such as depth=deep."""
        return known_to_model(self.overrides | self.options)


@dataclass(frozen=True)
class Found:
    """What lies below some directories.

    Attributes:
        records: the runs, in the order of their directories.
        plans: the overrides of every job that a sweep is to do, by its directory and their number.
    """

    records: list[Record]
    plans: dict[Path, dict[int, list[str]]]


def read(directories: Sequence[Path]) -> Found:
    """Read all runs below some directories; those of all outputs where none is named.

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
    found = Found([], {})
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
    for place, folders, files in os.walk(directory):
        if SUMMARY in files:
            yield Path(place)
        folders[:] = sorted(set(folders) - {"checkpoints", ".hydra"}, key=_by_number)


def _by_number(name: str) -> tuple[float, str]:
    number = number_of(Path(name))
    return (math.inf if number is None else number), name


class _Plan(BaseModel):
    """What the report reads of the summary of a sweep."""

    jobs: dict[int, list[str]]


class _Summary(BaseModel):
    """What the report reads of the summary of a run; the rest may be anything."""

    model_config = ConfigDict(strict=True)

    status: str
    reason: str | None = None
    started: str = ""
    options: dict[str, Any] | None = None
    overrides: list[str] = []
    samples: list[str] = []
    search_space: dict[str, dict[str, Any]] | None = None
    job: int | None = None
    figures: dict[str, float]


def _read_into(found: Found, directory: Path) -> None:
    path = directory / SUMMARY
    try:
        if not path.is_file():  # but a pipe, say, which may never end
            raise ValueError("it is no ordinary file")
        summary = finite(read_summary(directory))
        if "jobs" in summary:
            found.plans[directory] = _Plan.model_validate(summary).jobs
        else:
            found.records.append(_record(directory, summary))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        log.warning("%s is left out: %s: %s", path, where, first["msg"])
    except (UserError, ValueError, TypeError, RecursionError, OverflowError) as error:
        cause = error.__cause__ or error
        log.warning("%s is left out: %s", path, getattr(cause, "strerror", None) or cause)


def _record(directory: Path, values: dict[str, Any]) -> Record:
    named = {key: value for key, value in values.items() if "/" in key or key in FIGURES}
    figures = {key: value for key, value in named.items() if value is not None}
    summary = _Summary.model_validate(values | {"figures": figures})
    number = summary.job
    if number is None and (directory.parent / MULTIRUN).exists():  # of a sweep of Hydra's own
        number = number_of(directory)
    return Record(
        directory,
        summary.status,
        summary.reason or "",
        summary.started,
        flatten(complete(summary.options or {})),
        parse_overrides(summary.overrides),
        summary.figures,
        tuple(summary.samples),
        summary.search_space or {},
        None if number is None else directory.parent,
        number,
    )
