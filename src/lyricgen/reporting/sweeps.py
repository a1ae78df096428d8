"""Planned jobs of sweeps: those without a trace, and settings of those that failed early."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from lyricgen.reporting.records import MISSING, FoundRuns, Record
from lyricgen.settings import Value, parse_overrides

_MOST = 100_000  # combinations of a grid that are looked at


def complete(found: FoundRuns) -> list[Record]:
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
            typed = parse_overrides(overrides)
            yield Record(sweep, MISSING, overrides=typed, sweep=sweep, number=number)


def _gaps(jobs: list[Record]) -> Iterator[Record]:
    """The cells that a grid without a plan has no job for."""
    keys = list(jobs[0].overrides)
    if any(job.search_space or list(job.overrides) != keys for job in jobs):
        return
    values = [list(dict.fromkeys(job.overrides[key] for job in jobs)) for key in keys]
    if math.prod(map(len, values)) > _MOST:
        return
    there = {tuple(job.overrides.values()) for job in jobs}
    for cell in product(*values):
        if cell not in there:
            typed = dict(zip(keys, cell, strict=True))
            yield Record(jobs[0].directory.parent, MISSING, overrides=typed, sweep=jobs[0].sweep)


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
