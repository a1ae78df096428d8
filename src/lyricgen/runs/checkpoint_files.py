"""Write checkpoints that are whole or absent, and check their checksums."""

import hashlib
import io
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lyricgen.errors import UserError
from lyricgen.files import replace_file, to_disk, write_atomically
from lyricgen.runs.directories import BEST, LAST, PREVIOUS
from lyricgen.runs.record_files import RecordError, open_record, read_record
from lyricgen.runs.state import RunState

log = logging.getLogger(__name__)

LARGEST_CHECKPOINT = 64_000_000_000  # most bytes of a checkpoint
_BLOCK = 1 << 20  # bytes hashed at a time
_NAMED = "epoch_*_step_*.ckpt"  # pattern of the results of `checkpoint_name`


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a kill or a full disk leaves the earlier checkpoint.

    A file `….sha256` beside a checkpoint holds its checksum and the checksums of the two
    checkpoints before it, since torch does not notice flipped bits. Before a new `last.ckpt` takes
    its name, the earlier `last.ckpt` becomes `previous.ckpt`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save a checkpoint; its directory may be missing, but not the run's directory.

        Raises:
            OSError: the file cannot be written, for example since the disk is full or the run's
                directory is gone; an earlier checkpoint stays.
        """
        del storage_options
        target = Path(path)
        target.parent.mkdir(exist_ok=True)
        content = io.BytesIO()  # torch would not raise OSError for a full disk
        torch.save(checkpoint, content)
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        with replace_file(target) as stream:
            stream.write(content.getbuffer())
            to_disk(stream)
            # a kill from here on leaves a sound checkpoint and its sum
            write_atomically(_sums(target), "\n".join([digest, *_read_digests(target)[:2], ""]))
            if target.name == LAST and target.exists():
                target.replace(target.with_name(PREVIOUS))


def checkpoint_name(row: Mapping[str, float]) -> str:
    """Name the checkpoint of a row of metrics.csv by its epoch and step."""
    return f"epoch_{row['epoch']}_step_{row['step']}.ckpt"


def keep_best(checkpoints: Path, name: str) -> None:
    """Give best.ckpt a second name, under which it stays when a new best.ckpt replaces it."""
    best, kept = checkpoints / BEST, checkpoints / name
    if not best.exists():  # somebody has removed it
        return
    write_atomically(_sums(kept), "\n".join([*_read_digests(best), ""]))
    kept.unlink(missing_ok=True)
    try:
        os.link(best, kept)
    except OSError:  # a file system without links
        with replace_file(kept) as stream:
            stream.write(best.read_bytes())


def settle_best(checkpoints: Path, names: Sequence[str]) -> None:
    """Keep the best checkpoints of a run, and remove the other ones that bear an epoch and a step.

    Args:
        checkpoints: the directory of the files.
        names: names of the checkpoints, best first. The first one is best.ckpt; if there is a file
            of its own name, best.ckpt is of a later step, and the file replaces it.
    """
    best, first = checkpoints / BEST, checkpoints / (names[0] if names else BEST)
    if first != best and is_sound(first):
        sums = [*_read_digests(first), *_read_digests(best)]
        write_atomically(_sums(best), "\n".join([*sums[:6], ""]))
        first.replace(best)
    for path in checkpoints.glob(f"{_NAMED}*"):
        if path.name.removesuffix(".sha256") not in names[1:]:
            path.unlink()


def is_sound(checkpoint: Path) -> bool:
    """Whether a checkpoint matches a recorded checksum; false if it is unreadable or too large."""
    try:
        with open_record(checkpoint, LARGEST_CHECKPOINT) as stream:
            digest, left = hashlib.sha256(), os.fstat(stream.fileno()).st_size
            while block := stream.read(min(left, _BLOCK)):
                digest.update(block)
                left -= len(block)
            return digest.hexdigest() in _read_digests(checkpoint)
    except (OSError, RecordError):  # missing or unreadable
        return False


def newest_sound(checkpoints: Path) -> tuple[Path, dict[str, Any]] | None:
    """Read last.ckpt, or previous.ckpt if last.ckpt is damaged or gone.

    Args:
        checkpoints: the directory of the files.

    Returns:
        Path of the checkpoint, and its content with tensors on the CPU; None if neither file is
        there.

    Raises:
        UserError: all existing files are damaged, an early version wrote the checkpoint, or the
            run's best.ckpt is damaged or gone.
    """
    there = [path for name in (LAST, PREVIOUS) if (path := checkpoints / name).exists()]
    for path in there:
        content: dict[str, Any] | None = None
        if is_sound(path):
            with suppress(Exception):  # damaged content may raise anything
                content = torch.load(path, map_location="cpu", weights_only=True)
        if content is None:
            why = "it cannot be read, or its SHA-256 is not in"
            log.warning("%s is damaged: %s %s", path, why, _sums(path).name)
            continue
        if path.name == PREVIOUS:
            log.warning("going on from %s, the checkpoint before", path)
        if not {"run", "lyricgen"} <= content.keys():
            raise UserError(
                f"{str(path)!r} is of a version before runs could be resumed exactly: start a new "
                f"run from init_from={shlex.quote(str(path))}"
            )
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


def _sums(checkpoint: Path) -> Path:
    name = LAST if checkpoint.name == PREVIOUS else checkpoint.name
    return checkpoint.with_name(f"{name}.sha256")


def _read_digests(checkpoint: Path) -> list[str]:
    try:
        return read_record(_sums(checkpoint)).split()
    except RecordError:
        return []
