"""Records of jobs that left no files, and options of jobs that failed early."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from lyricgen.reporting.records import Record, RunRecords
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import Value, parse_overrides

MISSING = RunSummary(status="missing")  # summary of a job that left no files
_MOST = 100_000  # largest number of combinations that are searched for missing jobs


def with_missing_jobs(found: RunRecords) -> list[Record]:
    """Return the records that were found, and records of the missing jobs of their sweeps.

    A job without options, which is missing or failed early, gets options from the job of the same
    sweep with the nearest overrides, if any job has options. It gets only options that both jobs
    must share.
    """
    plans = found.plans
    sweeps: dict[Path, list[Record]] = {sweep: [] for sweep in plans}
    for record in found.records:
        if record.sweep is not None:
            sweeps.setdefault(record.sweep, []).append(record)
    records = [record for record in found.records if record.sweep is None]
    for sweep, jobs in sweeps.items():
        plan = plans.get(sweep)
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
