"""Records of runs, read from summary.json files and selected by conditions."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product, takewhile
from pathlib import Path

from lyricgen.console import progress
from lyricgen.errors import UserError, did_you_mean
from lyricgen.runs.directories import (
    CHECKPOINTS,
    HYDRA_FOLDER,
    MULTIRUN,
    SUMMARY,
    outputs_directory,
    read_number,
)
from lyricgen.runs.record_files import walk
from lyricgen.runs.summary import EnsembleSummary, RunSummary, SweepSummary, read_summary
from lyricgen.settings import (
    Value,
    complete,
    flatten,
    known_to_model,
    override_text,
    parse_overrides,
    parse_value,
)

log = logging.getLogger(__name__)

MISSING = RunSummary(status="missing")  # summary of a job that left no files
ABSENT = "–"
_SHORT = 24  # largest number of characters of a text that is not shortened
_MOST = 100_000  # largest number of combinations that are searched for missing jobs
Conditions = dict[str, list[str]]  # allowed values of each setting


@dataclass(frozen=True)
class Record:
    """A run, or a missing job, which left no files.

    Attributes:
        directory: directory of the run; for a missing job, directory of its sweep.
        summary: content of summary.json; a missing job has the status `missing`.
        options: options by names with dots, such as optimizer.lr.
        overrides: settings that the user typed, in their order.
        sweep: directory of the sweep that the job belongs to; None for a single run.
        number: number of the job; None if it is unknown, or for a single run.
    """

    directory: Path
    summary: RunSummary
    options: dict[str, Value]
    overrides: dict[str, Value]
    sweep: Path | None = None
    number: int | None = None

    @cached_property
    def settings(self) -> dict[str, Value]:
        """The options, and typed settings that are no options, such as depth=deep.

        A run of an n-gram model has only the settings that the model reads.
        """
        return known_to_model(self.overrides | self.options)

    @cached_property
    def figures(self) -> dict[str, float]:
        """The figures of the run, by their names in summary.json."""
        return self.summary.figures

    def value(self, key: str) -> Value:
        """Look up a setting, or the status; return a dash if the run does not have the setting."""
        return self.summary.status if key == "status" else self.settings.get(key, ABSENT)

    def values(self, keys: Iterable[str]) -> tuple[Value, ...]:
        """Look up several settings, as `value` does."""
        return tuple(map(self.value, keys))


@dataclass(frozen=True)
class RunRecords:
    """Runs and sweeps below some directories.

    Attributes:
        records: records of the runs, in the order of their directories.
        plans: overrides of all planned jobs, by the sweep's directory and the job's number.
        ensembles: all jobs of a sweep as one model, by the sweep's directory.
    """

    records: list[Record]
    plans: dict[Path, dict[int, list[str]]]
    ensembles: dict[Path, EnsembleSummary]


def read(directories: Sequence[Path]) -> RunRecords:
    """Read all runs in and below directories, or in the outputs if `directories` is empty.

    Unreadable summaries are left out, and a warning names them.

    Raises:
        UserError: a directory does not exist, or no directory holds a run or sweep.
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
    found = RunRecords([], {}, {})
    with progress("reading runs", len(paths)) as moved:
        for number, path in enumerate(paths, 1):
            try:
                _add(found, path, read_summary(path))
            except UserError as error:
                log.warning("%s is left out: %s", path / SUMMARY, error.__cause__)
            moved(number)
    if not found.records and not found.plans:
        named = " and ".join(repr(str(each)) for each in asked)
        raise UserError(
            f"no run found in {named}: train a run (python -m lyricgen.train), or name a "
            "directory with runs"
        )
    return found


def _with_summary(directory: Path) -> Iterator[Path]:
    """Yield the directories that hold a summary.json, with jobs in the order of their numbers."""
    for folder, folders, files in walk(directory):
        if SUMMARY in files:
            yield folder
        folders[:] = sorted(set(folders) - {CHECKPOINTS, HYDRA_FOLDER}, key=_by_number)


def _by_number(name: str) -> tuple[float, str]:
    number = read_number(Path(name))
    return (math.inf if number is None else number), name


def _add(found: RunRecords, directory: Path, summary: RunSummary | SweepSummary) -> None:
    if isinstance(summary, SweepSummary):
        found.plans[directory] = {int(number): typed for number, typed in summary.jobs.items()}
        if summary.ensemble is not None:
            found.ensembles[directory] = summary.ensemble
        return
    found.records.append(make_record(directory, summary))


def make_record(directory: Path, summary: RunSummary) -> Record:
    """Make the record of a run from its directory and its summary."""
    number = summary.job
    if number is None and (directory.parent / MULTIRUN).exists():  # a job of Hydra's own sweeper
        number = read_number(directory)
    options = flatten(complete(summary.options or {}))
    overrides = parse_overrides(summary.overrides)
    sweep = None if number is None else directory.parent
    return Record(directory, summary, options, overrides, sweep, number)


def with_missing_jobs(found: RunRecords) -> list[Record]:
    """Return the records that were found, and records of the missing jobs of their sweeps.

    A job without options, which is missing or failed early, gets options from the job of the same
    sweep with the nearest overrides, if any job has options. It gets only options that both jobs
    must share.
    """
    sweeps: dict[Path, list[Record]] = {sweep: [] for sweep in found.plans}
    for record in found.records:
        if record.sweep is not None:
            sweeps.setdefault(record.sweep, []).append(record)
    records = [record for record in found.records if record.sweep is None]
    for sweep, jobs in sweeps.items():
        plan = found.plans.get(sweep)
        missing = _gaps(jobs) if plan is None else _find_missing_jobs(sweep, plan, jobs)
        known = [job for job in jobs if "model" in job.options]
        for job in [*jobs, *missing]:
            records.append(job if "model" in job.options else _with_options(job, known))
    return records


def _find_missing_jobs(
    sweep: Path, plan: Mapping[int, list[str]], jobs: list[Record]
) -> Iterator[Record]:
    """Find the planned jobs that left no files."""
    there = {job.number for job in jobs}
    for number, overrides in plan.items():
        if number not in there:
            yield Record(sweep, MISSING, {}, parse_overrides(overrides), sweep, number)


def _gaps(jobs: list[Record]) -> Iterator[Record]:
    """Find the combinations of a grid's values that have no job, for a grid without a plan.

    The result is empty for a search, for jobs that set different settings, and for a grid of more
    than `_MOST` combinations.
    """
    keys = list(jobs[0].overrides)
    if any(job.summary.search_space or list(job.overrides) != keys for job in jobs):
        return
    values = [list(dict.fromkeys(job.overrides[key] for job in jobs)) for key in keys]
    if math.prod(map(len, values)) > _MOST:
        return
    there = {tuple(job.overrides.values()) for job in jobs}
    for combination in product(*values):
        if combination not in there:
            typed = dict(zip(keys, combination, strict=True))
            yield Record(jobs[0].directory.parent, MISSING, {}, typed, jobs[0].sweep)


def _with_options(job: Record, known: Iterable[Record]) -> Record:
    """Give a job the options that it must share with the nearest job in `known`, if any."""

    def nearness(other: Record) -> tuple[bool, int]:
        same = job.overrides.items() & other.overrides.items()
        differing = job.overrides.items() ^ other.overrides.items()
        groups = {key.partition(".")[0] for key, _ in differing}
        return not groups & {"data", "objective"}, len(same)

    nearest = max(known, key=nearness, default=None)
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


def parse_conditions(typed: Iterable[str]) -> Conditions:
    """Parse conditions such as `cell=lstm,gru` or `cell=lstm,layers=2`.

    Raises:
        UserError: a condition does not begin with a setting and `=`.
    """
    conditions: Conditions = {}
    for one in typed:
        key = ""
        for piece in re.split(r",(?![^\[]*\])", one):  # not at a comma within a list
            name, equals, value = piece.partition("=")
            if equals and name.strip():
                key = name.strip()
            elif not key:
                raise UserError(f"--where {one}: say of which setting, as in --where cell=lstm")
            conditions.setdefault(key, []).append((value if equals else piece).strip())
    return conditions


def select(records: Sequence[Record], conditions: Conditions) -> list[Record]:
    """Select the records that fulfil all conditions.

    Raises:
        UserError: no run has the setting, or no run fulfils the conditions.
    """
    check_known(conditions, records, "--where")
    chosen = list(records)
    for key, texts in conditions.items():
        allowed = {text: parse_value(text) for text in texts}
        values = [record.value(key) for record in chosen]
        left = [
            record
            for record, value in zip(chosen, values, strict=True)
            if str(value) in allowed or value in allowed.values()
        ]
        if not left:
            there = ", ".join(sorted(set(map(format_value, values))))
            raise UserError(f"no run has --where {key}={','.join(texts)}: there is {there}")
        chosen = left
    return chosen


def check_known(keys: Iterable[str], records: Sequence[Record], option: str) -> None:
    """Check that some run has each setting; `option`, such as --where, begins the message.

    Raises:
        UserError: no run has a setting in `keys`; the message names similar settings.
    """
    known = {"status"}.union(*(record.settings for record in records))
    for key in keys:
        if key not in known:
            meant = did_you_mean(key, known) or "; settings are cell, layers, optimizer.lr, …"
            raise UserError(f"{option} {key}: no run has this setting{meant}")


def format_value(value: Value) -> str:
    """Format a value as a user types it; a float has at most six significant digits."""
    return f"{value:.6g}" if isinstance(value, float) else override_text(value)


def shorten(texts: Sequence[str]) -> list[str]:
    """Replace the common beginning and end of different texts by …, if one of the texts is long."""
    if len(set(texts)) < 2 or max(map(len, texts)) <= _SHORT:
        return list(texts)
    start = _common_start(texts)
    rest = [text[len(start) :] for text in texts]
    end = _common_start([text[::-1] for text in rest])
    middle = [text[: len(text) - len(end)] for text in rest]
    return [f"{'…' if start else ''}{text}{'…' if end else ''}" for text in middle]


def _common_start(texts: Sequence[str]) -> str:
    """Find the common beginning of texts, up to the start of a word."""
    alike = takewhile(lambda characters: len(set(characters)) == 1, zip(*texts, strict=False))
    return re.sub(r"\w*$", "", "".join(characters[0] for characters in alike))
