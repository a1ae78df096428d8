"""Records of runs, read from their summary.json and selected by --where."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product, takewhile
from pathlib import Path

from lyricgen.console import progress
from lyricgen.errors import UserError
from lyricgen.runs.directories import MULTIRUN, SUMMARY, number_of, outputs_directory
from lyricgen.runs.record_files import walk
from lyricgen.runs.summary import RunSummary, SweepSummary, read_summary
from lyricgen.settings import (
    Value,
    complete,
    flatten,
    known_to_model,
    parse_overrides,
    parse_value,
    typed_value,
)
from lyricgen.suggestions import did_you_mean

log = logging.getLogger(__name__)

MISSING = RunSummary(status="missing")  # of a job that has left nothing
ABSENT = "–"
_SHORT = 24  # characters of a value that need not be cut
Conditions = dict[str, list[str]]  # what a setting has to be, one of these
_MOST = 100_000  # combinations of a grid that are looked at


@dataclass(frozen=True)
class Record:
    """A run, or a job that has never become one.

    Attributes:
        directory: where it is.
        summary: what it says of itself; of a job that has left nothing the status is `missing`.
        options: flat.
        overrides: what was typed, in that order.
        sweep: the directory of the sweep whose job it is.
        number: of the job.
    """

    directory: Path
    summary: RunSummary
    options: dict[str, Value]
    overrides: dict[str, Value]
    sweep: Path | None = None
    number: int | None = None

    @cached_property
    def settings(self) -> dict[str, Value]:
        """The options, and what was typed that is none: groups such as depth=deep."""
        return known_to_model(self.overrides | self.options)

    @cached_property
    def figures(self) -> dict[str, float]:
        """The figures of its end, by their names in summary.json."""
        return self.summary.figures


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
    """Read all runs below the directories, or all runs in outputs/ if none is given.

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
    if isinstance(summary, SweepSummary):
        found.plans[directory] = {int(number): typed for number, typed in summary.jobs.items()}
        return
    number = summary.job
    if number is None and (directory.parent / MULTIRUN).exists():  # of a sweep of Hydra's own
        number = number_of(directory)
    record = Record(
        directory,
        summary,
        flatten(complete(summary.options or {})),
        parse_overrides(summary.overrides),
        None if number is None else directory.parent,
        number,
    )
    found.records.append(record)


def with_missing_jobs(found: FoundRuns) -> list[Record]:
    """All records: the jobs that are missing beside those that are there.

    A job that failed before its options were known gets those that it shares with the job of its
    sweep whose overrides are the nearest to its own.
    """
    sweeps: dict[Path, list[Record]] = {sweep: [] for sweep in found.plans}
    for record in found.records:
        if record.sweep is not None:
            sweeps.setdefault(record.sweep, []).append(record)
    records = [record for record in found.records if record.sweep is None]
    for sweep, jobs in sweeps.items():
        missing = _planned(sweep, found.plans[sweep], jobs) if sweep in found.plans else _gaps(jobs)
        known = [job for job in jobs if "model" in job.options]
        for job in [*jobs, *missing]:
            records.append(job if "model" in job.options else _with_options(job, known))
    return records


def _planned(sweep: Path, plan: Mapping[int, list[str]], jobs: list[Record]) -> Iterator[Record]:
    there = {job.number for job in jobs}
    for number, overrides in plan.items():
        if number not in there:
            yield Record(sweep, MISSING, {}, parse_overrides(overrides), sweep, number)


def _gaps(jobs: list[Record]) -> Iterator[Record]:
    """The cells that a grid without a plan has no job for."""
    keys = list(jobs[0].overrides)
    if any(job.summary.search_space or list(job.overrides) != keys for job in jobs):
        return
    values = [list(dict.fromkeys(job.overrides[key] for job in jobs)) for key in keys]
    if math.prod(map(len, values)) > _MOST:
        return
    there = {tuple(job.overrides.values()) for job in jobs}
    for cell in product(*values):
        if cell not in there:
            typed = dict(zip(keys, cell, strict=True))
            yield Record(jobs[0].directory.parent, MISSING, {}, typed, jobs[0].sweep)


def _with_options(job: Record, known: Iterable[Record]) -> Record:
    """A job with the options that it has in common with the nearest one."""
    nearest = max(known, key=lambda other: _nearness(job, other), default=None)
    if nearest is None:
        return job
    differing = [key for key, value in job.overrides.items() if nearest.overrides.get(key) != value]
    options: dict[str, Value] = {
        key: value
        for key, value in nearest.options.items()
        if not any(key.startswith(f"{group}.") for group in differing)
    }
    typed = {key: value for key, value in job.overrides.items() if key in options}
    return replace(job, options=options | job.options | typed)


def _nearness(one: Record, other: Record) -> tuple[bool, int]:
    """Whether two jobs have the same text, and how many of their overrides are the same."""
    shared = len(one.overrides.items() & other.overrides.items())
    return _text(one) == _text(other), shared


def _text(job: Record) -> dict[str, Value]:
    groups = ("data", "objective")
    return {key: one for key, one in job.overrides.items() if key.partition(".")[0] in groups}


def parse_conditions(typed: Iterable[str]) -> Conditions:
    """Conditions as they were typed: `cell=lstm,gru`, or `cell=lstm,layers=2`.

    Raises:
        UserError: one has no `=`.
    """
    conditions: Conditions = {}
    for one in typed:
        key = ""
        for piece in re.split(r",(?![^\[]*\])", one):  # a comma within a list is the list's
            name, equals, value = piece.partition("=")
            if equals and name.strip():
                key = name.strip()
            elif not key:
                raise UserError(f"--where {one}: say of which setting, as in --where cell=lstm")
            conditions.setdefault(key, []).append((value if equals else piece).strip())
    return conditions


def select(records: Sequence[Record], conditions: Conditions) -> list[Record]:
    """The records that fulfil all conditions.

    Raises:
        UserError: no run has such a setting, or none fulfils them.
    """
    check_known(conditions, records, "--where")
    chosen = list(records)
    for key, values in conditions.items():
        left = [record for record in chosen if _among(setting(record, key), values)]
        if not left:
            there = ", ".join(sorted({shown(setting(record, key)) for record in chosen}))
            raise UserError(f"no run has --where {key}={','.join(values)}: there is {there}")
        chosen = left
    return chosen


def check_known(keys: Iterable[str], records: Sequence[Record], option: str) -> None:
    """Refuse settings that no run has.

    Raises:
        UserError: with the names that come near.
    """
    known = {"status"}.union(*(record.settings for record in records))
    for key in keys:
        if key not in known:
            meant = did_you_mean(key, known) or "; settings are cell, layers, optimizer.lr, …"
            raise UserError(f"{option} {key}: no run has this setting{meant}")


def setting(record: Record, key: str) -> Value:
    """A setting of a run, or its status; a dash where it has none."""
    return record.summary.status if key == "status" else record.settings.get(key, ABSENT)


def shown(value: Value) -> str:
    """A value as it is typed; a fraction in six digits."""
    return f"{value:.6g}" if isinstance(value, float) else typed_value(value)


def told_apart(texts: Sequence[str]) -> list[str]:
    """Shorten long texts: … stands for the beginning and the end that they share."""
    if len(set(texts)) < 2 or max(map(len, texts)) <= _SHORT:
        return list(texts)
    start = _common_start(texts)
    rest = [text[len(start) :] for text in texts]
    end = _common_start([text[::-1] for text in rest])
    middle = [text[: len(text) - len(end)] for text in rest]
    return [f"{'…' if start else ''}{text}{'…' if end else ''}" for text in middle]


def _common_start(texts: Sequence[str]) -> str:
    """The beginning that texts have in common, up to a whole word."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    return re.sub(r"\w*$", "", "".join(characters[0] for characters in alike))


def _among(value: Value, typed: Sequence[str]) -> bool:
    return any(value == parse_value(one) or str(value) == one for one in typed)
