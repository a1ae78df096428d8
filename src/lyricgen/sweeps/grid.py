"""A resumable sweep over all combinations of values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import PositiveInt

from lyricgen.cli.composition import job_values
from lyricgen.cli.hydra_private import combine_values
from lyricgen.cli.known_settings import POINTS
from lyricgen.cli.typed_texts import implied_choice
from lyricgen.cli.typed_values import quote_texts, write_value
from lyricgen.console import progress, show
from lyricgen.errors import UserError
from lyricgen.options import Options, validate
from lyricgen.runs.directories import LAST, PREVIOUS, claim_directory, has_checkpoint, job_directory
from lyricgen.runs.state import FREE, sorted_settings
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import complete, flatten, key, known_to_model, replace_auto
from lyricgen.sweeps.launch import check_launcher, launch
from lyricgen.sweeps.sweep import (
    DONE,
    EPOCHS,
    Job,
    Sweep,
    jobs_in,
    read_arguments,
    refuse_fewer_epochs,
)

# Settings that say auto today, where jobs of an earlier version have a value.
CHOSEN = ("cell.kernel", "data.column", "data.key")


class GridOptions(Options):
    """Options of `hydra.sweeper.` with hydra/sweeper=grid."""

    points: Any  # `write_points` checks them
    jobs_at_a_time: PositiveInt | None
    fail_fast: bool
    params: dict[str, Any]


@dataclass(frozen=True)
class PlannedJob:
    """A job that has no number yet.

    Attributes:
        overrides: overrides of the job, including overrides that all jobs share.
        name: part of the directory's name that differs between jobs.
        values: the whole configuration, plain and unchecked, which identifies the job.
    """

    overrides: list[str]
    name: str
    values: dict[str, Any]


def sweep_grid(sweeper: Any, arguments: list[str]) -> None:
    """Run a job for every combination of values that is not done yet.

    Args:
        sweeper: Hydra's sweeper, with its options.
        arguments: overrides of the command line.

    Raises:
        UserError: an option or a value is wrong, another process works on the sweep, the sweep
            exists and `resume=` is missing, or the end of the sweep cannot be recorded.
        OSError: the directory cannot be used, or the beginning of the sweep cannot be recorded.
        HydraException: a combination cannot be composed.
        UnfinishedJobsError: some jobs failed, were killed or never began; with `fail_fast` at the
            first.
        Interrupted: Ctrl-C or another signal came; all jobs have stopped.
    """
    options: GridOptions = validate(GridOptions, sweeper.options, "hydra.sweeper.")
    at_a_time = options.jobs_at_a_time
    check_launcher(sweeper.launcher, at_a_time)
    typed, overrides, resume = read_arguments(arguments, options.params)
    points = write_points(options.points, overrides)
    planned = _compose_jobs(sweeper, overrides, points)
    sweep = Sweep(Path(sweeper.config.hydra.sweep.dir), typed, resume=resume)
    with claim_directory(sweep.directory):
        jobs = plan(sweep.directory, planned)
        with sweep.conclusion():
            sweep.begin(OmegaConf.to_yaml(sweeper.config), jobs)
            left = [(job.number, sweep.arguments(job)) for job in jobs if not job.done]
            if len(left) < len(jobs):
                show(f"{len(jobs) - len(left)} of {len(jobs)} jobs are done")
            launcher, number, fast = sweeper.launcher, len(jobs), options.fail_fast
            launch(launcher, left, sweep.directory, at_a_time, sharing=number, fail_fast=fast)


def write_points(points: Any, others: Sequence[str]) -> list[list[str]]:
    """Write the overrides of each point, that is, of each combination in `hydra.sweeper.points`.

    Args:
        points: the points as plain values; None for no points.
        others: all other overrides.

    Returns:
        The overrides of each point; without points, one empty list.

    Raises:
        UserError: the points are no list of different combinations, or a setting cannot be in them.
    """
    if points is None:
        return [[]]
    are_mappings = isinstance(points, list) and all(isinstance(one, dict) for one in points)
    if not are_mappings or not points:
        raise UserError(
            f"{POINTS}: it is no list of combinations: type them as "
            f"'{POINTS}=[{{cell: gru, layers: 2}}, {{cell: lstm, layers: 1}}]'"
        )
    shared = {key(one): one for one in others}
    written: list[list[str]] = []
    for number, point in enumerate(points, 1):
        names = [key(str(name)) for name in point]
        for name in names:
            if name in shared:
                raise UserError(f"{POINTS}: {shared[name]} sets {name}, too: leave out one of them")
            if name in ("sweep", "resume", POINTS) or name.startswith("hydra"):
                raise UserError(f"{POINTS}: {name} holds for the whole sweep: type it by itself")
        own = [f"{name}={write_value(value)}" for name, value in point.items()]
        own = quote_texts(own, multirun=True)
        own = [*implied_choice([*others, *own], [], []), *own]
        earlier = [index for index, one in enumerate(written, 1) if sorted(one) == sorted(own)]
        if earlier:
            raise UserError(f"{POINTS}: numbers {earlier[0]} and {number} are equal: drop one")
        written.append(own)
    return written


def _compose_jobs(sweeper: Any, overrides: list[str], points: list[list[str]]) -> list[PlannedJob]:
    """Compose a job for every combination of a point with values of the overrides."""
    grid = combine_values(sweeper.loader, overrides)
    combinations = [[*one, *point] for point in points for one in grid]
    left_out = sweeper.config.hydra.job.config.override_dirname.exclude_keys
    jobs = []
    with progress("composing the jobs", len(combinations)) as moved:
        for own, name in zip(combinations, name_jobs(combinations, left_out), strict=True):
            values = job_values(sweeper.loader, sweeper.config, own)
            jobs.append(PlannedJob(own, name, values))
            moved(len(jobs))
    return jobs


def name_jobs(combinations: Sequence[Sequence[str]], left_out: Sequence[str]) -> list[str]:
    """Name jobs by the overrides that differ between them.

    If all jobs are equal, they are named by all overrides without the keys in `left_out`.

    Args:
        combinations: overrides of each job.
        left_out: keys that a name contains only if no other keys differ.
    """
    jobs = [{one.partition("=")[0]: one for one in each} for each in combinations]
    heads = list(dict.fromkeys(head for job in jobs for head in job))
    short = [head for head in heads if key(head) not in left_out]
    differ = [
        [head for head in some if len({job.get(head) for job in jobs}) > 1]
        for some in (short, heads)
    ]
    naming = differ[0] or differ[1] or short
    return [",".join(job[head] for head in naming if head in job) for job in jobs]


def plan(directory: Path, planned: Sequence[PlannedJob]) -> list[Job]:
    """Number all jobs of a sweep; a job that has begun keeps its number and name.

    Args:
        directory: directory of the sweep.
        planned: all jobs.

    Returns:
        The jobs in the order of their numbers.

    Raises:
        UserError: a job would train for fewer epochs than before.
    """
    there = jobs_in(directory)
    values = [_parse_values(one) if there else one.values for one in planned]
    options = {number: summary.unfilled for number, (_, summary) in there.items()}
    known = _match(values, options)
    following = 1 + max(there, default=-1)
    jobs = []
    for index, one in enumerate(planned):
        if index in known:
            number = known[index]
            run, summary = there[number]
            kept = replace_auto(values[index], complete(options[number]))
            same = sorted_settings(options[number]) == sorted_settings(kept)
            done = summary.status in DONE and same
            _check_epochs(run, summary, values[index])
            jobs.append(Job(number, one.overrides, run.name, begun=True, done=done))
        else:
            jobs.append(Job(following, one.overrides, job_directory(following, one.name)))
            following += 1
    return sorted(jobs, key=lambda job: job.number)


def _parse_values(planned: PlannedJob) -> dict[str, Any]:
    """Return a job's configuration as in summary.json, or unchanged if an option is wrong."""
    # takes seconds, and is needed for resumed sweeps only
    from lyricgen.training.older_model import take_architecture  # noqa: PLC0415
    from lyricgen.training.options import normalise  # noqa: PLC0415

    try:
        return take_architecture(normalise(planned.values), planned.overrides)[0]
    except UserError:
        return planned.values


def _match(
    configurations: Sequence[dict[str, Any]], there: dict[int, dict[str, Any]]
) -> dict[int, int]:
    """Match configurations with the jobs that have begun.

    Equal configurations are matched first. Then come configurations that differ only in `CHOSEN`
    settings, and last those that differ only in settings that a resumed run may
    change, such as the number of epochs. `there` has those of the begun jobs by their numbers.

    Returns:
        The number of the matched job, by the index of the configuration.
    """
    found: dict[int, int] = {}
    for free in ((), CHOSEN, FREE):
        left: dict[str, list[int]] = {}
        for number, options in there.items():
            if number not in found.values():
                left.setdefault(sorted_settings(options, free), []).append(number)
        for index, values in enumerate(configurations):
            if index not in found and (same := left.get(sorted_settings(values, free))):
                found[index] = same.pop(0)
    return found


def _check_epochs(directory: Path, summary: RunSummary, values: dict[str, Any]) -> None:
    """Refuse fewer epochs than before, unless the job starts anew or counts n-grams.

    A job starts anew if it is unfinished and has saved nothing. `values` is its new configuration.
    """
    options = flatten(summary.options or {})
    done = summary.status in DONE
    saved = has_checkpoint(directory, (LAST, PREVIOUS))
    new_epochs = known_to_model(flatten(values)).get(EPOCHS)
    if not (done or saved) or not isinstance(new_epochs, int):
        return
    lengths = {"has trained for": summary.epochs, "was begun for": options.get(EPOCHS)}
    for words, epochs in lengths.items():
        advice = f"choose {options.get(EPOCHS, epochs)} or more"
        refuse_fewer_epochs(new_epochs, epochs, f"job {directory.name} {words}", advice)
