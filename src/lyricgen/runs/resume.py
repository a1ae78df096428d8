"""Resuming a run: where it stands, whether it is the same run, and its files cut back."""

import logging
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lyricgen.errors import UserError
from lyricgen.runs.listing import BEST, LAST, directory_taken
from lyricgen.runs.state import RunState
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import PLUMBING, Settings, belongs_to, complete, flatten, typed_value

# What may change from one resumption to the next: how long training goes on, too, and where its
# text lies, whose digest is compared. All other keys must be as they were.
FREE = (*PLUMBING, "trainer.max_epochs", "data.path", "data.max_bytes")


log = logging.getLogger(__name__)
EVENTS = "events.out.tfevents.*"
STEPS = "steps.csv"
GROWING = ("samples.jsonl", STEPS, EVENTS)  # metrics.csv is written anew from the checkpoint


@dataclass(frozen=True)
class ResumePoint:
    """State of the run being resumed; empty for a new run."""

    checkpoint: Path | None = None  # to go on from
    steps: int = 0  # that it has made
    state: RunState = field(default_factory=RunState)  # at the checkpoint
    summary: RunSummary | None = None
    finished: str | None = None  # why it is, or what would make it longer; None if it goes on


def find_resume_point(
    directory: Path, options: dict[str, Any], checkpoint: tuple[Path, dict[str, Any]] | None
) -> ResumePoint:
    """Find where a run stands.

    Args:
        directory: of the run.
        options: plain values, the configuration now.
        checkpoint: to go on from, and what is in it; None for none.

    Raises:
        UserError: the configuration is not the run's, or nothing was asked to be resumed here.
    """
    summary = RunSummary.read_earlier(directory)
    if options["resume"] is None:
        if summary is not None:
            raise directory_taken(directory, "run")
        return ResumePoint()
    if Path(options["resume"]) != directory.resolve():
        raise UserError(
            f"resume={options['resume']}: it belongs on the command line, not in a file"
        )
    summary = summary or RunSummary(status="unknown")
    recorded = checkpoint[1]["lyricgen"]["options"] if checkpoint else summary.options
    _refuse_changes(directory, recorded, options)
    if summary.status == "pruned":
        return ResumePoint(summary=summary, finished=summary.reason or "its search has pruned it")
    if checkpoint is None or options["model"]["kind"] == "ngram":  # counting has no half-way
        why = "it has kept no checkpoint" if checkpoint is None else "its n-grams are counted"
        finished = why if summary.status == "finished" else None
        return ResumePoint(summary=summary, finished=finished)
    path, content = checkpoint
    state = RunState()
    state.restore(content)
    epoch, max_epochs = content["epoch"], options["trainer"]["max_epochs"]
    if max_epochs <= epoch:
        raise UserError(
            f"trainer.max_epochs={max_epochs}: the run is in epoch {epoch + 1} already: "
            f"give a larger number, or {start_anew(directory)}"
        )
    finished = None
    if summary.status == "finished":
        finished = _finished(directory, content, state, options)
    return ResumePoint(path, content["global_step"], state, summary, finished)


def fixed_settings(options: dict[str, Any]) -> list[str]:
    """Settings that identify a run: those that must not change."""
    return [
        line for line in sorted_settings(options) if not belongs_to(line.partition("=")[0], FREE)
    ]


def sorted_settings(options: dict[str, Any]) -> list[str]:
    """A configuration as sorted lines, key=value, without what says which run to go on with."""
    flat = flatten(complete(options))
    return [f"{key}={_shown(flat, key)}" for key in sorted(flat) if key != "resume"]


def changed(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Forbidden changes, as "key=recorded value (now: other value)", sorted by key."""
    before, after = flatten(complete(recorded)), flatten(complete(now))
    return [
        f"{key}={_shown(before, key)} (now: {_shown(after, key)})"
        for key in sorted(before.keys() | after.keys())
        if _shown(before, key) != _shown(after, key) and not belongs_to(key, FREE)
    ]


def start_anew(directory: Path) -> str:
    """Advice instead of a refused resume: a new run, with the weights of the old one if it can."""
    if not any((directory / "checkpoints" / name).is_file() for name in (BEST, LAST)):
        return "start a new run"
    return f"start a new run with its weights: init_from={shlex.quote(str(directory))}"


def _refuse_changes(
    directory: Path, recorded: dict[str, Any] | None, options: dict[str, Any]
) -> None:
    differences = changed(recorded, options) if recorded else []
    if differences:
        raise UserError(
            f"resume: a run goes on as it began, but {'; '.join(differences)}: leave these out, "
            f"or {start_anew(directory)}"
        )


def _finished(
    directory: Path, content: dict[str, Any], state: RunState, options: dict[str, Any]
) -> str | None:
    """Say what would make a finished run longer; None if the options already ask for it."""
    stopping = options["callbacks"]["early_stopping"]
    if stopping["enabled"] and state.patience_used >= stopping["patience"]:
        return "a larger callbacks.early_stopping.patience makes it longer"
    if content["global_step"] == options["trainer"]["max_steps"]:
        return f"its trainer.max_steps are made; for more, {start_anew(directory)}"
    if content["epoch"] + 1 >= options["trainer"]["max_epochs"]:
        return "a larger trainer.max_epochs makes it longer"
    return None


def _shown(values: Settings, key: str) -> str:
    return typed_value(values.get(key, "absent"))


def sizes(directory: Path) -> dict[str, int]:
    """Bytes in each growing file, once they are on the disk.

    Raises:
        OSError: the disk is full.
    """
    found = {}
    for path in _growing(directory):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            found[path.name] = os.fstat(stream.fileno()).st_size
    return found


def rewind(directory: Path, wanted: dict[str, int]) -> None:
    """Forget what was written after a checkpoint, for it will be written again.

    Args:
        directory: of the run.
        wanted: as `sizes` gave them at the checkpoint; empty to begin anew.
    """
    for path in _growing(directory):
        size = wanted.get(path.name, 0)
        if size == 0 or not path.is_file():  # but a pipe, say, which nobody can append to
            path.unlink()
        elif path.stat().st_size > size:
            os.truncate(path, size)
    for name, size in wanted.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size < size:
            log.warning("%s is shorter than at the checkpoint: a part of it is lost", path)
    (directory / "hparams.yaml").unlink(missing_ok=True)  # may be torn; it is written once


def _growing(directory: Path) -> list[Path]:
    return sorted(path for pattern in GROWING for path in directory.glob(pattern))
