"""State that a run needs to continue exactly, and checks before a run is resumed."""

import logging
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lyricgen.errors import UserError
from lyricgen.runs.directories import GROWING, HPARAMS, directory_taken, has_checkpoint
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import (
    PLUMBING,
    belongs_to,
    complete,
    flatten,
    known_to_model,
    override_text,
    replace_auto,
)

log = logging.getLogger(__name__)

# Settings that may change when a run is resumed. The text may have moved: its digest is compared.
FREE = (*PLUMBING, "trainer.max_epochs", "trainer.max_time", "data.path", "data.max_bytes")


@dataclass
class RunState:
    """State that a run needs to continue exactly, in addition to Lightning's own state.

    A checkpoint holds it under the key "run". The LightningModule and each observer update their
    own fields, at the latest in their hooks `on_save_checkpoint`, and may read all fields.
    """

    corpus_digest: str | None = None  # SHA-256 of the corpus
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of the run's growing files
    wall_seconds: float = 0.0
    sent: dict[str, int] = field(default_factory=dict)  # newest step at MLflow and W&B, by logger

    rows: list[dict[str, float]] = field(default_factory=list)  # rows of metrics.csv
    best_loss: float = math.inf  # the lowest monitored loss, that of best.ckpt
    smoothed_loss: float | None = None
    trained_characters: int = 0  # characters in all ended epochs
    trained_seconds: float = 0.0  # seconds of training in all ended epochs
    # the weights by parameter, if the checkpoint's model is their average; else None
    raw_weights: dict[str, Any] | None = None

    patience_loss: float = math.inf  # newest loss that early stopping took for an improvement
    patience_epoch: int = 0  # epoch of that loss, counted from 1
    patience_used: int = 0  # number of checks since that loss
    pruned: str | None = None  # reason why the search pruned the run
    out_of_time: bool = False  # whether trainer.max_time ended the run here

    # the epoch so far
    metrics: dict[str, float] = field(default_factory=dict)
    carried: tuple[Any, ...] | None = None  # recurrent state of all B rows, (L, B, H), on the CPU
    nats: list[float | None] = field(default_factory=list)  # total of the training text, by rank
    characters: int = 0  # number of characters in `nats`
    gradient_norm_total: Any = None  # a tensor, or None before the first step
    gradient_norms: Any = 0  # number of steps in the total
    rate: float | None = None  # learning rate of the epoch's first step; n-grams have none
    epoch_seconds: float = 0.0

    @property
    def characters_per_second(self) -> float:
        """Training characters a second in all ended epochs; 0 before an epoch has ended."""
        return self.trained_characters / self.trained_seconds if self.trained_seconds else 0.0

    def best_rows(self, monitor: str) -> list[dict[str, float]]:
        """Sort the rows with a finite monitored loss by it, the lowest first."""
        judged = [row for row in self.rows if math.isfinite(row.get(monitor, math.nan))]
        return sorted(judged, key=lambda row: row[monitor])

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Load the state from a checkpoint of this version or of an earlier one."""
        run = dict(checkpoint["run"])
        if "text" in run:  # name in earlier versions
            run["corpus_digest"] = run.pop("text")
        vars(self).update(run if "rows" in run else run | _earlier_fields(checkpoint))


def _earlier_fields(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Read the fields from a checkpoint of an earlier version, where callbacks kept them."""
    callbacks, epoch = checkpoint["callbacks"], checkpoint.get("epoch_so_far", {})
    stopping: dict[str, Any] = next(
        (state for name, state in callbacks.items() if name.startswith("EarlyStopping")), {}
    )
    speed, nats = callbacks["Throughput"], epoch.get("nats")
    return {
        "rows": list(callbacks["EpochLog"]["rows"]),
        "best_loss": callbacks["Checkpoints"]["best"],
        "smoothed_loss": checkpoint.get("smoothed_loss"),
        "trained_characters": speed["characters"],
        "trained_seconds": speed["seconds"],
        "patience_loss": float(stopping.get("best_score", math.inf)),
        "patience_epoch": stopping.get("best_epoch", 0),
        "patience_used": stopping.get("wait_count", 0),
        "pruned": callbacks.get("Pruning", {}).get("reason"),
        "metrics": dict(checkpoint["metrics"]),
        "carried": epoch.get("state"),
        # a single number if there was only one process
        "nats": nats if isinstance(nats, list) else [None if nats is None else float(nats)],
        "characters": epoch.get("characters", 0),
        "gradient_norm_total": epoch.get("gradient_norm_total"),
        "gradient_norms": epoch.get("gradient_norms", 0),
        "rate": speed["rate"],
        "epoch_seconds": speed["epoch_seconds"],
    }


@dataclass(frozen=True)
class ResumePoint:
    """State from which a run continues; empty for a new run."""

    checkpoint: Path | None = None
    steps: int = 0  # steps before the checkpoint
    state: RunState = field(default_factory=RunState)  # state at the checkpoint
    summary: RunSummary | None = None
    finished_because: str | None = None  # why a finished run has ended, or how to make it longer
    recorded: dict[str, Any] = field(default_factory=dict)  # options so far


def find_resume_point(
    directory: Path, options: dict[str, Any], checkpoint: tuple[Path, dict[str, Any]] | None
) -> ResumePoint:
    """Find the state from which a run continues.

    Args:
        directory: directory of the run.
        options: current configuration, in plain values; `auto` stands for the recorded value.
        checkpoint: result of `newest_sound`; None for a new run or a run without a checkpoint.

    Raises:
        UserError: the run cannot continue with these options, or a new run's directory is taken.
    """
    summary = RunSummary.read_earlier(directory)
    if options["resume"] is None:
        if summary is not None:
            raise directory_taken(directory, "run")
        return ResumePoint()
    resumed = options["resume"]
    if Path(resumed) != directory.resolve():
        raise UserError(f"resume={resumed}: it belongs on the command line, not in a file")
    summary = summary or RunSummary(status="unknown")
    recorded = checkpoint[1]["lyricgen"]["options"] if checkpoint else summary.options
    options = replace_auto(options, complete(recorded or {}))
    differences = forbidden_changes(recorded, options) if recorded else ()
    if differences:
        raise UserError(
            f"resume: a run goes on as it began, but {'; '.join(differences)}: leave these out, "
            f"or {start_anew(directory)}"
        )
    finished = summary.status == "finished"
    if summary.status == "pruned":
        reason = summary.reason or "its search has pruned it"
        return ResumePoint(summary=summary, finished_because=reason)
    # a model without an optimizer is counted, which has no half-way
    if checkpoint is None or "optimizer" not in known_to_model(flatten(options)):
        why = "it has kept no checkpoint" if checkpoint is None else "its n-grams are counted"
        begun, why_finished = RunState(summary.corpus_digest), why if finished else None
        return ResumePoint(None, 0, begun, summary, why_finished, recorded or {})
    path, content = checkpoint
    state = RunState()
    state.restore(content)
    epoch, max_epochs = content["epoch"], options["trainer"]["max_epochs"]
    if max_epochs <= epoch:
        raise UserError(
            f"trainer.max_epochs={max_epochs}: the run has reached epoch {epoch + 1}: give "
            f"trainer.max_epochs={epoch + 1} or more, or {start_anew(directory)}"
        )
    because = _how_to_make_longer(directory, content, state, options) if finished else None
    return ResumePoint(path, content["global_step"], state, summary, because, recorded or {})


def sorted_settings(options: dict[str, Any], free: Sequence[str] = ()) -> str:
    """Write all settings except `resume` and the `free` ones, in sorted lines key=value."""
    flat = flatten(complete(options))
    listed = sorted(key for key in flat if not belongs_to(key, ["resume", *free]))
    return "\n".join(f"{key}={override_text(flat[key])}" for key in listed)


def forbidden_changes(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List forbidden changes, as "key=recorded value (now: other value)", sorted by key."""
    before, after = flatten(complete(recorded)), flatten(complete(now))
    texts = {
        key: [override_text(settings.get(key, "absent")) for settings in (before, after)]
        for key in sorted(before.keys() | after.keys())
        if not belongs_to(key, FREE)
    }
    return [f"{key}={old} (now: {new})" for key, (old, new) in texts.items() if old != new]


def start_anew(directory: Path) -> str:
    """Write the advice to start a new run, with the old weights if there is a checkpoint."""
    if not has_checkpoint(directory):
        return "start a new run"
    return f"start a new run with its weights: init_from={shlex.quote(str(directory))}"


def _how_to_make_longer(
    directory: Path, content: dict[str, Any], state: RunState, options: dict[str, Any]
) -> str | None:
    """Say how to make a finished run longer; None if the options already make it longer."""
    stopping = options["callbacks"]["early_stopping"]
    if stopping["enabled"] and state.patience_used >= stopping["patience"]:
        return "a larger callbacks.early_stopping.patience makes it longer"
    if content["global_step"] == options["trainer"]["max_steps"]:
        return f"it has made its trainer.max_steps; for more, {start_anew(directory)}"
    limit = options["trainer"]["max_time"]
    if state.out_of_time:
        over = limit is not None and state.wall_seconds >= limit
        return f"more than trainer.max_time={limit:g} seconds make it longer" if over else None
    if content["epoch"] + 1 >= options["trainer"]["max_epochs"]:
        return "a larger trainer.max_epochs makes it longer"
    return None


def sync_growing_files(directory: Path) -> dict[str, int]:
    """Write a run's growing files through to the disk; return their sizes by name, in bytes."""
    found = {}
    for path in _list_growing(directory):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            found[path.name] = os.fstat(stream.fileno()).st_size
    return found


def rewind(directory: Path, checkpointed: dict[str, int]) -> None:
    """Cut a run's growing files back to their sizes at a checkpoint.

    Growing files that were missing or empty at the checkpoint are removed, and so is hparams.yaml.
    A warning names each growing file that is gone, or shorter than at the checkpoint.

    Args:
        directory: directory of the run.
        checkpointed: result of `sync_growing_files` at the checkpoint; empty to begin anew.
    """
    for path in _list_growing(directory):
        size = checkpointed.get(path.name, 0)
        if size == 0 or not path.is_file():  # nobody can append to a pipe
            path.unlink()
        elif path.stat().st_size > size:
            os.truncate(path, size)
    for name, size in checkpointed.items():
        path = directory / name
        if size and (not path.is_file() or path.stat().st_size < size):
            log.warning("%s is shorter than at the checkpoint: a part of it is lost", path)
    (directory / HPARAMS).unlink(missing_ok=True)  # may be torn; it is written once


def _list_growing(directory: Path) -> list[Path]:
    return sorted(path for pattern in GROWING for path in directory.glob(pattern))
