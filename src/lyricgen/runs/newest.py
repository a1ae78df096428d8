"""The newest run: a command takes it where none is named, and says so."""

import time
from pathlib import Path
from typing import Any

from lyricgen.console import tell
from lyricgen.errors import UserError, printable
from lyricgen.runs.listing import SUMMARY, checkpoint_in, newest_run, newest_runs
from lyricgen.runs.summary import RunSummary, SweepSummary, read_summary

UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
LONGEST = 200  # characters of the reason why a run has failed


def newest_checkpoint() -> Path:
    """Find the best checkpoint of the newest run that has one; say which, and why no newer one.

    Raises:
        UserError: there is no run yet, or none has a checkpoint.
    """
    without = []
    for run in newest_runs():
        try:
            checkpoint = checkpoint_in(run)
        except UserError:
            without.append(run)
            continue
        if without:
            tell(f"{_without_checkpoint(without)}: an older run is taken")
        tell_taken(checkpoint)
        return checkpoint
    newest_run()  # where there is no run at all, this says so
    raise UserError(f"{_without_checkpoint(without)}: train another run, or name a checkpoint")


def tell_taken(path: Path) -> None:
    """Tell which run is taken, as in "from …/best.ckpt: lstm 1x256 on dino, 3 minutes old".

    Args:
        path: its directory, or a checkpoint of it.
    """
    directory = path if path.is_dir() else path.parent.parent
    dated = path / SUMMARY if path.is_dir() else path
    known = [_describe(_summary(directory)), _age(dated)]
    tell(printable(f"from {path}: {', '.join(one for one in known if one)}"))


def _without_checkpoint(runs: list[Path]) -> str:
    more = f", nor have {len(runs) - 1} older runs" if len(runs) > 1 else ""
    return printable(f"{runs[0]} has no checkpoint ({_why(_summary(runs[0]))}){more}")


def _why(summary: RunSummary | SweepSummary) -> str:
    """Why a run has no checkpoint."""
    if summary.status == "failed":
        return f"it failed: {summary.reason}"[:LONGEST]
    known = {
        "running": "it is running and has not saved one yet",
        "finished": "it saved none, or it was deleted",
        "interrupted": "it was interrupted before it saved one",
        "killed": "it was killed before it saved one",
    }
    return known.get(summary.status, f"{SUMMARY} does not say why")


def _summary(directory: Path) -> RunSummary | SweepSummary:
    try:
        return read_summary(directory)
    except UserError:
        return RunSummary(status="unknown")


def _describe(summary: RunSummary | SweepSummary) -> str:
    """A few words on the model and its text; "" where the record does not say it."""
    if isinstance(summary, SweepSummary):
        return f"a sweep of {len(summary.jobs)} jobs"
    try:
        options: Any = summary.options
        model, data = options["model"], options["data"]
        if model["kind"] == "ngram":
            network = f"{model['order']}-gram {model['smoothing']}"
        else:
            network = f"{options['cell']['kind']} {options['layers']}x{options['hidden_size']}"
        filling = ", fills gaps" if options["objective"] == "fill" else ""
        text = Path(data["path"]).name if data["kind"] == "text" else data["kind"]
    except (KeyError, TypeError):  # a record may be damaged
        return ""
    return f"{network} on {text}{filling}"


def _age(path: Path) -> str:
    try:
        seconds = max(0, int(time.time() - path.stat().st_mtime))
    except OSError:  # it was deleted meanwhile
        return ""
    unit, size = next((one for one in UNITS if seconds >= one[1]), UNITS[-1])
    number = seconds // size
    return f"{number} {unit}{'' if number == 1 else 's'} old"
