"""Find the newest run, and the checkpoint that a path stands for."""

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from lyricgen.console import tell
from lyricgen.errors import UserError, escape_line
from lyricgen.files import write_atomically
from lyricgen.runs.directories import (
    BEST,
    CHECKPOINTS,
    HYDRA_FOLDER,
    LAST,
    OF_RUN,
    PREVIOUS,
    SUMMARY,
    TRASH,
    list_matching,
    outputs_directory,
)
from lyricgen.runs.record_files import RecordError, read_record, read_yaml
from lyricgen.runs.summary import RunSummary, SweepSummary, read_summary
from lyricgen.settings import name_files

log = logging.getLogger(__name__)

LATEST = "latest.txt"
_LONGEST_PATH = 10_000  # bytes of a latest.txt
_LONGEST_REASON = 200  # characters of the reason why a run has failed
DATE, TIME = r"\d{4}-\d\d-\d\d", r"\d\d-\d\d-\d\d\.\d{6}"  # in names of directories
_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def newest_run() -> Path:
    """Find the directory of the newest run or sweep.

    Raises:
        UserError: the outputs directory has none.
    """
    newest = next(newest_runs(), None)
    if newest is None:
        raise UserError(
            f"no run found in {str(outputs_directory())!r}: train a run "
            "(python -m lyricgen.train), name a run, or set LYRICGEN_OUTPUTS"
        )
    return newest


def newest_runs() -> Iterator[Path]:
    """List the runs and sweeps at most three levels below the outputs directory, newest first.

    The run or sweep that latest.txt names comes first, at any level, since a resumed run may have
    begun before others. The jobs of sweeps are left out.
    """
    outputs = outputs_directory()
    named = _find_named_run(outputs)
    if named is not None:
        yield named
    levels = [outputs.glob(f"{level}/{SUMMARY}") for level in ("*", "*/*", "*/*/*")]
    found = {summary.parent for level in levels for summary in level}
    found = {run for run in found if TRASH not in run.relative_to(outputs).parts}
    runs = [run for run in found if run.parent not in found]  # the others are jobs of sweeps
    yield from sorted((run for run in runs if run != named), key=find_start, reverse=True)


def record_newest(directory: Path, *, resumed: bool) -> None:
    """Write the path of a run or sweep into latest.txt of the outputs directory.

    A resumed run may lie in another outputs directory. If that directory has a latest.txt, this
    file gets the path instead. The path of a run outside of the outputs directory is not written.
    The log tells of this, and of a latest.txt that cannot be written.
    """
    directory, outputs = directory.resolve(), outputs_directory().resolve()
    if resumed:
        dated = (p for p in directory.parents if re.fullmatch(DATE, p.name))
        holders = (p.parents[1] for p in dated if p.parent.name in ("runs", "sweeps"))
        outputs = next((p for p in holders if os.path.lexists(p / LATEST)), outputs)
    for kind in ("runs", "sweeps"):  # each may be a link to another disk
        linked = outputs.joinpath(kind, *directory.parts[-2:])
        if linked.is_dir() and linked.samefile(directory):
            directory = linked
    if outputs not in directory.parents:
        advice = "%s lies outside of %s: name it to commands that take the newest run"
        log.info(advice, directory, outputs)
        return
    try:
        write_atomically(outputs / LATEST, f"{directory.relative_to(outputs).as_posix()}\n")
    except OSError as error:  # a directory of that name, say; the run itself can be written
        advice = "%s cannot be written (%s): name %s to commands that take the newest run"
        log.warning(advice, outputs / LATEST, error.strerror, directory)


def is_newest(directory: Path) -> bool:
    """Whether latest.txt names a directory."""
    named = _find_named_run(outputs_directory())
    return named is not None and named.resolve() == directory.resolve()


def record_newest_left() -> None:
    """Write the newest run that is left into latest.txt; remove the file if there is none.

    Raises:
        OSError: the file cannot be written.
    """
    latest = outputs_directory() / LATEST
    latest.unlink(missing_ok=True)
    for newest in newest_runs():
        record_newest(newest, resumed=False)
        return


def _find_named_run(outputs: Path) -> Path | None:
    """Find the directory that latest.txt names; None if the file is missing, or names no run."""
    latest = outputs / LATEST
    if not os.path.lexists(latest):
        return None
    try:
        if latest.is_symlink():
            raise ValueError
        text = read_record(latest, _LONGEST_PATH).removesuffix("\n")
        named = Path(text)
        if named.is_absolute():  # as earlier versions wrote it
            named = named.relative_to(outputs.resolve())
        if ".." in named.parts or named == Path() or any(c < " " for c in text):
            raise ValueError
        directory = outputs / named
        if not directory.is_dir():
            return None
        if not list_matching(directory, OF_RUN):
            raise ValueError
        return directory
    except (OSError, ValueError):  # OSError: the name is too long for a file
        log.warning("%s names no run below %s: it is ignored", latest, outputs)
        return None


def find_start(directory: Path) -> float:
    """Start of a run or sweep in seconds, by its path, else by the last change of its summary."""
    name = f"{directory.parent.name} {directory.name}"
    began = re.match(f"{DATE} {TIME}", name)
    if began is not None:
        with suppress(ValueError, OverflowError):  # no such day or hour
            return datetime.strptime(began[0], "%Y-%m-%d %H-%M-%S.%f").timestamp()
    return _find_change_time(directory / SUMMARY)


def _find_change_time(path: Path) -> float:
    """Time of a file's last change in seconds; 0 if it is gone by now."""
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it
        return 0.0


def checkpoint_in(path: Path) -> Path:
    """Find the checkpoint that a path stands for.

    A file stands for itself. The directory of a run, or its checkpoints/, stands for best.ckpt,
    else last.ckpt, else previous.ckpt. The directory of a sweep stands for the newest best.ckpt of
    its jobs.

    Raises:
        UserError: there is no checkpoint, or the path is a pipe or a device.
    """
    if path.is_file():
        return path
    for name in (BEST, LAST, PREVIOUS):
        for candidate in (path / CHECKPOINTS / name, path / name):
            if candidate.is_file():
                return candidate
    jobs = path.glob(f"*/{CHECKPOINTS}/{BEST}")
    newest = max(jobs, key=_find_change_time, default=None)
    if newest is not None:
        return newest
    found = f"has no {CHECKPOINTS}/{BEST}" if path.is_dir() else "is not there"
    if path.exists() and not path.is_dir():
        found = "is no ordinary file"  # a pipe or a device may never end
    raise UserError(f"{str(path)!r} {found}: name a checkpoint or a run's directory")


def starting_directories(checkpoint: Path) -> list[Path]:
    """List directories that relative paths in a run's settings may start from, likeliest first.

    The first is the directory in which the run was started, if it is recorded. All parents of the
    checkpoint follow, the nearest first.
    """
    around = list(checkpoint.absolute().parents)
    for run in around[:3]:
        with suppress(RecordError, TypeError, KeyError):  # the record lacks it
            started = read_yaml(run / HYDRA_FOLDER / "hydra.yaml")["hydra"]["runtime"]["cwd"]
            return [Path(started), *around]
    return around


def newest_checkpoint() -> Path:
    """Find the checkpoint of the newest run or sweep that has one; see `checkpoint_in`.

    A line on standard error names the checkpoint. Another line tells of newer runs that have none.

    Raises:
        UserError: there is no run yet, or no run has a checkpoint.
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
    newest_run()  # its error says that there is no run
    raise UserError(f"{_without_checkpoint(without)}: train another run, or name a checkpoint")


def tell_taken(path: Path) -> None:
    """Print the path of a run or checkpoint on standard error, with a short description.

    For example "from …/best.ckpt: lstm 1x256 on dino, 3 minutes old".
    """
    directory = path if path.is_dir() else path.parent.parent
    dated = path / SUMMARY if path.is_dir() else path
    known = [_describe(_summary(directory)), _age(dated)]
    tell(escape_line(f"from {path}: {', '.join(one for one in known if one)}"))


def _without_checkpoint(runs: list[Path]) -> str:
    more = f", nor have {len(runs) - 1} older runs" if len(runs) > 1 else ""
    return escape_line(f"{runs[0]} has no checkpoint ({_explain_missing(_summary(runs[0]))}){more}")


def _explain_missing(summary: RunSummary | SweepSummary) -> str:
    """Explain why a run has no checkpoint."""
    if summary.status == "failed":
        return f"it failed: {summary.reason}"[:_LONGEST_REASON]
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
    """Describe the model and the text of a run; "" if they are not recorded."""
    if isinstance(summary, SweepSummary):
        return f"a sweep of {len(summary.jobs)} jobs"
    network, text = describe_options(summary.options)
    if not network or not text:
        return ""
    filling = ", fills gaps" if (summary.options or {}).get("objective") == "fill" else ""
    return f"{network} on {text}{filling}"


def describe_options(options: dict[str, Any] | None) -> tuple[str, str]:
    """Describe the network or n-gram model, and the text, of recorded options; "" if unknown."""
    found: Any = options
    try:
        if found["model"]["kind"] == "ngram":
            network = f"{found['model']['order']}-gram {found['model']['smoothing']}"
        else:
            network = f"{found['cell']['kind']} {found['layers']}x{found['hidden_size']}"
    except (KeyError, TypeError):  # a record may be damaged
        network = ""
    try:
        data = found["data"]
        text = name_files(data["path"]) if data["kind"] == "text" else str(data["kind"])
    except (KeyError, TypeError, ValueError):
        text = ""
    return network, text


def _age(path: Path) -> str:
    try:
        return f"{format_age(path.stat().st_mtime)} old"
    except OSError:  # it was deleted meanwhile
        return ""


def format_age(start: float) -> str:
    """Write the time since a moment in its largest unit, as in 3 days."""
    seconds = max(0, int(time.time() - start))
    unit, size = next((one for one in _UNITS if seconds >= one[1]), _UNITS[-1])
    number = seconds // size
    return f"{number} {unit}{'' if number == 1 else 's'}"
