"""Files that grow with a run, cut back to what they were when its checkpoint was saved."""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

EVENTS = "events.out.tfevents.*"
STEPS = "steps.csv"
GROWING = ("samples.jsonl", STEPS, EVENTS)  # metrics.csv is written anew from the checkpoint


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
