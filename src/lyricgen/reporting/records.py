"""Records of runs, read from summary.json files and selected by conditions."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from lyricgen.console import progress
from lyricgen.errors import UserError, did_you_mean
from lyricgen.runs.directories import (
    CHECKPOINTS,
    HYDRA_FOLDER,
    MULTIRUN,
    NOTES,
    SUMMARY,
    outputs_directory,
    read_number,
)
from lyricgen.runs.notes import EMPTY, Notes, read_notes
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

ABSENT = "–"
_SHORT = 24  # largest number of characters of a text that is not shortened
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
        notes: note and tags of the run; a job also has the tags of its sweep.
    """

    directory: Path
    summary: RunSummary
    options: dict[str, Value]
    overrides: dict[str, Value]
    sweep: Path | None = None
    number: int | None = None
    notes: Notes = EMPTY

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
        """Look up a setting, the status or the tags; return a dash if the run has no such value."""
        if key == "tag":
            return ", ".join(self.notes.tags) or ABSENT
        return self.summary.status if key == "status" else self.settings.get(key, ABSENT)

    def values(self, keys: Iterable[str]) -> tuple[Value, ...]:
        """Look up several settings, as `value` does."""
        return tuple(map(self.value, keys))


@dataclass(frozen=True)
class RunRecords:
    """Runs and sweeps below some directories.

    Attributes:
        records: records of the runs, in the order of their directories.
        sweeps: summaries of the sweeps by their directories.
        notes: notes of runs and sweeps that have some, by their directories.
        damaged: reason why a summary cannot be read, by its directory.
    """

    records: list[Record] = field(default_factory=list)
    sweeps: dict[Path, SweepSummary] = field(default_factory=dict)
    notes: dict[Path, Notes] = field(default_factory=dict)
    damaged: dict[Path, str] = field(default_factory=dict)

    @property
    def plans(self) -> dict[Path, dict[int, list[str]]]:
        """Overrides of all planned jobs, by the sweep's directory and the job's number."""
        return {
            path: {int(number): typed for number, typed in sweep.jobs.items()}
            for path, sweep in self.sweeps.items()
        }

    @property
    def ensembles(self) -> dict[Path, EnsembleSummary]:
        """All jobs of a sweep as one model, by the sweep's directory."""
        found = {path: sweep.ensemble for path, sweep in self.sweeps.items()}
        return {path: one for path, one in found.items() if one is not None}


def read(directories: Sequence[Path]) -> RunRecords:
    """Read all runs in and below directories, or in the outputs if `directories` is empty.

    Unreadable summaries are left out, and a warning names them.

    Raises:
        UserError: a directory does not exist, or no directory holds a run or sweep.
    """
    found = read_all(directories)
    for path, why in found.damaged.items():
        log.warning("%s is left out: %s", path / SUMMARY, why)
    if not found.records and not found.sweeps:
        named = " and ".join(repr(str(one)) for one in directories or [outputs_directory()])
        raise UserError(
            f"no run found in {named}: train a run (python -m lyricgen.train), or name a "
            "directory with runs"
        )
    return found


def read_all(directories: Sequence[Path]) -> RunRecords:
    """Read like `read`, but without a warning of unreadable summaries, and also if none is there.

    Raises:
        UserError: a directory does not exist.
    """
    asked = list(directories) or [outputs_directory()]
    for directory in asked:
        if not directory.is_dir():
            mended = "train a run (python -m lyricgen.train) or set LYRICGEN_OUTPUTS"
            raise UserError(
                f"{str(directory)!r} is not there: "
                f"{'name a directory that holds runs' if directories else mended}"
            )
    paths = {path.resolve(): noted for one in asked for path, noted in _with_summary(one)}
    found = RunRecords()
    with progress("reading runs", len(paths)) as moved:
        for number, (path, noted) in enumerate(paths.items(), 1):
            if noted:
                found.notes[path] = read_notes(path)
            try:
                _add(found, path, read_summary(path))
            except UserError as error:
                found.damaged[path] = str(error.__cause__)
            moved(number)
    return found


def _with_summary(directory: Path) -> Iterator[tuple[Path, bool]]:
    """Yield directories with a summary.json, jobs by their numbers, and whether they have notes."""
    for folder, folders, files in walk(directory):
        if SUMMARY in files:
            yield folder, NOTES in files
        folders[:] = sorted(set(folders) - {CHECKPOINTS, HYDRA_FOLDER}, key=_by_number)


def _by_number(name: str) -> tuple[float, str]:
    number = read_number(Path(name))
    return (math.inf if number is None else number), name


def _add(found: RunRecords, directory: Path, summary: RunSummary | SweepSummary) -> None:
    if isinstance(summary, SweepSummary):
        found.sweeps[directory] = summary
        return
    notes = found.notes.get(directory, EMPTY)
    record = make_record(directory, summary, notes)
    if record.sweep in found.notes:
        tags = (*notes.tags, *found.notes[record.sweep].tags)
        record = replace(record, notes=replace(notes, tags=tags))
    found.records.append(record)


def make_record(directory: Path, summary: RunSummary, notes: Notes = EMPTY) -> Record:
    """Make the record of a run from its directory, its summary and its notes."""
    number = summary.job
    if number is None and (directory.parent / MULTIRUN).exists():  # a job of Hydra's own sweeper
        number = read_number(directory)
    options = flatten(complete(summary.options or {}))
    overrides = parse_overrides(summary.overrides)
    sweep = None if number is None else directory.parent
    return Record(directory, summary, options, overrides, sweep, number, notes)


def parse_conditions(typed: Iterable[str], option: str = "--where") -> Conditions:
    """Parse conditions such as `cell=lstm,gru` or `cell=lstm,layers=2`; messages name the option.

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
                raise UserError(f"{option} {one}: say of which setting, as in {option} cell=lstm")
            conditions.setdefault(key, []).append((value if equals else piece).strip())
    return conditions


def select(
    records: Sequence[Record], conditions: Conditions, option: str = "--where"
) -> list[Record]:
    """Select the records that fulfil all conditions; messages name the option.

    Raises:
        UserError: no run has the setting, or no run fulfils the conditions.
    """
    check_known(conditions, records, option)
    chosen = list(records)
    for key, texts in conditions.items():
        allowed = {text: parse_value(text) for text in texts}
        left = [
            record
            for record in chosen
            for values in [record.notes.tags if key == "tag" else record.values([key])]
            if any(str(value) in allowed or value in allowed.values() for value in values)
        ]
        if not left:
            there = ", ".join(sorted({format_value(record.value(key)) for record in chosen}))
            raise UserError(f"no run has {option} {key}={','.join(texts)}: there is {there}")
        chosen = left
    return chosen


def check_known(keys: Iterable[str], records: Sequence[Record], option: str) -> None:
    """Check that some run has each setting; `option`, such as --where, begins the message.

    Raises:
        UserError: no run has a setting in `keys`; the message names similar settings.
    """
    known = {"status", "tag"}.union(*(record.settings for record in records))
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
