"""The jobs that a sweep is to do: their numbers and names, and which are there already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lyricgen.errors import UserError
from lyricgen.runs.directories import LAST, MULTIRUN, PREVIOUS, job_directory, number_of
from lyricgen.runs.record_files import RecordError, read_yaml
from lyricgen.runs.state import fixed_settings, sorted_settings
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import flatten, key

EPOCHS = "trainer.max_epochs"
DONE = ("finished", "pruned")  # statuses of jobs that need no more work


@dataclass(frozen=True)
class PlannedJob:
    """Job before it has a number.

    Attributes:
        overrides: of its own; those that all jobs share among them.
        name: the part of its directory's name that tells what is its own.
        values: its whole configuration, plain and not yet checked, by which it is recognised.
    """

    overrides: list[str]
    name: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A run that a sweep is to do.

    Attributes:
        number: its own for ever, also where the sweep is resumed with other jobs.
        overrides: as of `PlannedJob`.
        name: of its directory.
        begun: it is there already.
        done: and is finished.
    """

    number: int
    overrides: list[str]
    name: str
    begun: bool = False
    done: bool = False


def plan(directory: Path, wanted: Sequence[PlannedJob]) -> list[Job]:
    """Number the jobs; a known job keeps its number and directory.

    Args:
        directory: of the sweep.
        wanted: all jobs that it is to do now.

    Raises:
        UserError: a job that has trained is asked for fewer epochs than it was begun with.
    """
    there = jobs_in(directory)
    values = [_complete_options(one.values) if there else one.values for one in wanted]
    options = {number: summary.options or {} for number, (_, summary) in there.items()}
    found = _pairs(values, options)
    following = 1 + max(there, default=-1)
    jobs = []
    for index, one in enumerate(wanted):
        if index in found:
            number = found[index]
            run, summary = there[number]
            same = sorted_settings(options[number]) == sorted_settings(values[index])
            done = summary.status in DONE and same
            _refuse_fewer_epochs(run, summary, values[index])
            jobs.append(Job(number, one.overrides, run.name, begun=True, done=done))
        else:
            name = job_directory(following, one.name)
            jobs.append(Job(following, one.overrides, name))
            following += 1
    return sorted(jobs, key=lambda job: job.number)


def jobs_in(directory: Path) -> dict[int, tuple[Path, RunSummary]]:
    """The jobs of a sweep that have begun: by number, in order, the directory and the summary."""
    numbered = [(number_of(path), path) for path in directory.iterdir() if path.is_dir()]
    found = {}
    for number, path in sorted((number, path) for number, path in numbered if number is not None):
        summary = RunSummary.read_earlier(path)
        if summary is not None:
            found[number] = path, summary
    return found


def refuse_shorter_search(directory: Path, epochs: int) -> None:
    """Refuse fewer epochs than a search has begun with: new trials and old ones must compare.

    Args:
        directory: of the search, which may not have begun.
        epochs: wanted now.

    Raises:
        UserError: trials were begun for more.
    """
    if not (directory / MULTIRUN).is_file() or not jobs_in(directory):
        return
    try:
        begun = read_yaml(directory / MULTIRUN)["trainer"]["max_epochs"]
    except (RecordError, TypeError, KeyError) as error:
        raise UserError(
            f"{str(directory / MULTIRUN)!r} cannot be read ({error}): start a new sweep"
        ) from error
    if isinstance(begun, int) and epochs < begun:
        raise UserError(
            f"{EPOCHS}={epochs}: the trials so far were begun for {begun} epochs: choose {begun} "
            "or more, or start a new sweep"
        )


def named_by(combinations: Sequence[Sequence[str]], left_out: Sequence[str]) -> list[str]:
    """Name jobs by the overrides that differ; by all overrides if none differs.

    Args:
        combinations: each job's overrides, of the same keys in the same order.
        left_out: keys that are shown only where nothing else differs.
    """
    each_key = list(zip(*combinations, strict=True))
    short = [each for each in each_key if key(each[0]) not in left_out]
    differ = [[each for each in some if len(set(each)) > 1] for some in (short, each_key)]
    shown = differ[0] or differ[1] or short
    return [",".join(each[job] for each in shown) for job in range(len(combinations))]


def _complete_options(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a run's summary.json has it; one that is refused as it was typed."""
    from lyricgen.training.options import parse  # noqa: PLC0415  takes seconds, for a sweep that goes on

    try:
        return parse(values).model_dump(mode="json")
    except UserError:
        return values


def _pairs(wanted: Sequence[dict[str, Any]], there: dict[int, dict[str, Any]]) -> dict[int, int]:
    """Match configurations, by index, with known jobs, by number.

    First those that are the same in all; then those that a run may go on with, so that of jobs
    which differ in nothing but their epochs, say, each finds its own.
    """
    found: dict[int, int] = {}
    for compared in (sorted_settings, fixed_settings):
        left: dict[str, list[int]] = {}
        for number, options in there.items():
            if number not in found.values():
                left.setdefault("\n".join(compared(options)), []).append(number)
        for index, values in enumerate(wanted):
            same = left.get("\n".join(compared(values))) if index not in found else None
            if same:
                found[index] = same.pop(0)
    return found


def _refuse_fewer_epochs(directory: Path, summary: RunSummary, values: dict[str, Any]) -> None:
    """Refuse fewer epochs before any job begins: some jobs would fail, others end too early.

    A job that has never saved anything begins anew, and may be shorter.
    """
    options = flatten(summary.options or {})
    done = summary.status in DONE
    saved = any((directory / "checkpoints" / name).is_file() for name in (LAST, PREVIOUS))
    wanted = flatten(values).get(EPOCHS)
    if not (done or saved) or not isinstance(wanted, int) or options.get("model") == "ngram":
        return
    lengths = {"has trained for": summary.epochs, "was begun for": options.get(EPOCHS)}
    for words, epochs in lengths.items():
        if isinstance(epochs, int) and wanted < epochs:
            raise UserError(
                f"{EPOCHS}={wanted}: job {directory.name} {words} {epochs} epochs: choose "
                f"{options.get(EPOCHS, epochs)} or more"
            )
