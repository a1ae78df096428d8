"""Reading a trained network from a file, a checkpoint or a model file; the file is not trusted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lyricgen.errors import UserError, printable
from lyricgen.models.files.archive import BEGINNING, read_archive
from lyricgen.models.files.card import rebuild
from lyricgen.models.files.model_file import read_model_file
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.newest import checkpoint_in

MAX_BYTES = 2**34  # of a file: a network of a thousand million parameters with its optimizer
_PREFIX = "model."  # where the LightningModule keeps the network
_LONGEST = 500  # characters of a message, most of which a file may have chosen


def load(path: str | Path, device: str | torch.device = "cpu") -> TrainedModel:
    """Read a network from a checkpoint or a model file; no other file is needed.

    No code in the file is run, and no memory is taken for what it only declares to hold.

    Args:
        path: a checkpoint, a model file that `lyricgen.export` has written, or the directory of a
            run.
        device: where to put the network.

    Raises:
        UserError: none of these, a damaged one, or one that does not hold what it says.
    """
    path = checkpoint_in(Path(path))
    shown = repr(str(path))
    try:
        size = path.stat().st_size
        values, tensors = _read(path, size)
    except UserError as error:
        raise UserError(
            f"{shown} is not a checkpoint of lyricgen: {_short(error)}; name a run's, or a file "
            "of lyricgen.export"
        ) from error
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}") from error
    except Exception as error:  # a hostile file may raise anything; torch's words advise to run it
        raise UserError(
            f"{shown} is not a readable checkpoint ({type(error).__name__}): it may be damaged or "
            "cut short; name one that lyricgen wrote"
        ) from error
    try:
        return replace(rebuild(values, tensors, size, device), file=path)
    except UserError as error:
        raise UserError(f"{shown} does not hold what it says: {_short(error)}") from error


def _read(path: Path, size: int) -> tuple[Any, dict[str, Tensor]]:
    """Read the unchecked card of a file, and its tensors, not yet loaded."""
    if size > MAX_BYTES:
        raise UserError(f"it has {size} bytes, more than {MAX_BYTES}")
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[8:9] == b"{":  # after the length of a header in JSON
        return read_model_file(path)
    if not start.startswith(BEGINNING):
        raise UserError("it is none at all")
    content = read_archive(path)
    if not isinstance(content, dict) or "lyricgen" not in content:
        raise UserError("it is of another program")
    state = content.get("state_dict")
    if not isinstance(state, dict):
        raise UserError("it has no weights, state_dict")
    tensors = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in state.items()
        if isinstance(name, str) and name.startswith(_PREFIX) and isinstance(tensor, Tensor)
    }
    values, run = content["lyricgen"], content.get("run")
    if isinstance(values, dict) and isinstance(run, dict):
        values = {**values, "text": run.get("text")}
    return values, tensors


def _short(error: UserError) -> str:
    text = printable(str(error))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
