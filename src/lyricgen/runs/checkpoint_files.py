"""Checkpoints on the disk: whole under their name, or not there, and known to be undamaged."""

import hashlib
import io
import logging
import math
import os
import shlex
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lyricgen.errors import UserError
from lyricgen.files import replacing, to_disk, write_atomically
from lyricgen.runs.listing import BEST, LAST, PREVIOUS
from lyricgen.runs.record_files import RecordError, open_record, read_record
from lyricgen.runs.state import RunState

log = logging.getLogger(__name__)

LARGEST = 64_000_000_000  # bytes of a checkpoint
_BLOCK = 1 << 20  # bytes hashed at a time


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, waits for the disk, then renames.

    A kill or a full disk leaves the checkpoint of before; Lightning's own way leaves a truncated
    file where the temporary directory lies on another file system. Beside a checkpoint lies a
    file `….sha256` with its sum and those of the two before, since torch reads flipped bits
    without a word; and of `last.ckpt` the one before is kept as `previous.ckpt`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint.

        Raises:
            OSError: the disk is full or may not be written; the old checkpoint is still there.
        """
        del storage_options
        target = Path(path)
        target.parent.mkdir(exist_ok=True)  # never the run's directory, should that be gone
        content = io.BytesIO()  # torch tells a full disk by an error of its own
        torch.save(checkpoint, content)
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        with replacing(target) as stream:
            stream.write(content.getbuffer())
            to_disk(stream)
            # killed from here on, a sound checkpoint and its sum are there all the same
            write_atomically(_sums(target), "\n".join([digest, *_known(target)[:2], ""]))
            if target.name == LAST and target.exists():
                target.replace(target.with_name(PREVIOUS))


def is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint is there and has one of the sums that lie beside it."""
    try:
        with open_record(checkpoint, LARGEST) as stream:
            digest, left = hashlib.sha256(), os.fstat(stream.fileno()).st_size
            while block := stream.read(min(left, _BLOCK)):
                digest.update(block)
                left -= len(block)
            return digest.hexdigest() in _known(checkpoint)
    except (OSError, RecordError):  # nor has one that cannot be read
        return False


def newest_sound(checkpoints: Path) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint to go on from: last.ckpt; where it is damaged, the one before.

    Returns:
        Its path and what Lightning has saved in it, on the CPU; None where nothing was saved yet.

    Raises:
        UserError: all there is is damaged, or the best one is, by which the run will be judged.
    """
    there = [path for name in (LAST, PREVIOUS) if (path := checkpoints / name).exists()]
    for path in there:
        content = _read(path) if is_sound(path) else None
        if content is None:
            log.warning("%s is damaged, its sum is not the one beside it", path)
            continue
        if path.name == PREVIOUS:
            log.warning("going on from %s, the checkpoint before", path)
        state, best = RunState(), checkpoints / BEST
        state.restore(content)
        if math.isfinite(state.best_loss) and not is_sound(best):
            raise UserError(
                f"{str(best)!r} is damaged or gone, and the run would be judged by it: bring it "
                f"back, or start a new run from init_from={shlex.quote(str(path))}"
            )
        return path, content
    if there:
        raise UserError(
            f"{str(checkpoints)!r} has no undamaged checkpoint: start a new run, from "
            f"init_from={shlex.quote(str(checkpoints / BEST))} if that one can be read"
        )
    return None


def go_on_from(checkpoint: Path) -> Path:
    """Give the checkpoint that a run goes on from its place, in front of a damaged one.

    Returns:
        Its path from now on.
    """
    return checkpoint.replace(checkpoint.with_name(LAST))


def _sums(checkpoint: Path) -> Path:
    name = LAST if checkpoint.name == PREVIOUS else checkpoint.name
    return checkpoint.with_name(f"{name}.sha256")


def _known(checkpoint: Path) -> list[str]:
    try:
        return read_record(_sums(checkpoint)).split()
    except RecordError:
        return []


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # damaged content may raise anything
        return None
    return content
