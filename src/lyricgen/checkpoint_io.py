"""Checkpoints on the disk: whole under their name, or not there."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lyricgen.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the final name, waits for the disk, then renames.

    A kill or a full disk leaves the checkpoint of before; Lightning's own way leaves a truncated
    file where the temporary directory lies on another file system.
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
