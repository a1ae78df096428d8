"""Checkpoints on the disk: whole under their name, or not there, and known to be undamaged."""

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lyricgen.errors import UserError
from lyricgen.files import replacing, to_disk, write_atomically
from lyricgen.runs import BEST, LAST, PREVIOUS, SUMS

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, waits for the disk, then renames.

    A kill or a full disk leaves the checkpoint of before; Lightning's own way leaves a truncated
    file where the temporary directory lies on another file system. Of `last.ckpt` the one before
    is kept as `previous.ckpt`, and the SHA-256 sums of both stand in `last.ckpt.sha256`: torch
    reads a checkpoint with flipped bits without a word.
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
        target.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch tells a full disk by an error of its own
        torch.save(checkpoint, content)
        with replacing(target) as stream:
            stream.write(content.getbuffer())
            if target.name == LAST:
                _keep_previous(target, stream, hashlib.sha256(content.getbuffer()).hexdigest())


def _keep_previous(last: Path, stream: BinaryIO, digest: str) -> None:
    """Make way for a new last.ckpt; killed anywhere in here, one sound checkpoint has its name."""
    to_disk(stream)
    # the new sum beside the old ones, before any file takes its new name
    write_atomically(last.parent / SUMS, "\n".join([digest, *sums_of(last.parent)[:2], ""]))
    if last.exists():
        last.replace(last.parent / PREVIOUS)


def sums_of(checkpoints: Path) -> list[str]:
    """The SHA-256 sums of the last three checkpoints saved as last.ckpt, newest first."""
    try:
        return (checkpoints / SUMS).read_text("utf-8").split()
    except (OSError, ValueError):
        return []


def is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint has one of the sums that stand beside it."""
    with checkpoint.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return digest in sums_of(checkpoint.parent)


def newest_sound(checkpoints: Path) -> dict[str, Any] | None:
    """The content of last.ckpt; where it is damaged, of the one before, which takes its place.

    Returns:
        What Lightning has saved, on the CPU; None where nothing was saved yet.

    Raises:
        UserError: all there is is damaged.
    """
    there = [path for name in (LAST, PREVIOUS) if (path := checkpoints / name).exists()]
    for path in there:
        content = _read(path) if is_sound(path) else None
        if content is None:
            log.warning("%s is damaged, its sum is not the one in %s", path, SUMS)
            continue
        if path.name == PREVIOUS:
            log.warning("going on from %s, the checkpoint before", path)
            path.replace(checkpoints / LAST)
        return content
    if there:
        raise UserError(
            f"{str(checkpoints)!r} has no undamaged checkpoint: start a new run, from "
            f"init_from={checkpoints / BEST} if that one can be read"
        )
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # damaged content may raise anything
        return None
    return content
