"""Files of trained models: checkpoints of torch, and model files of safetensors.

A checkpoint is a zip file of tensors with a pickle that names them. A model file is for sharing:
its header in JSON contains the card of the model.

No file is trusted. `torch.load(weights_only=True)` runs no code from a file, but it takes all the
memory that the file asks for. So an archive is loaded only if its sizes, its members and the names
in its pickle pass the checks below.
"""

import json
import pickletools
import struct
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from lyricgen.errors import UserError, escape_line
from lyricgen.models.card import rebuild
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.newest import checkpoint_in

MAX_BYTES = 2**34  # bytes of a file; enough for a thousand million parameters and their optimizer
MAX_DIRECTORY = 2**22  # bytes of an archive's directory; enough for some 40,000 members
MAX_PICKLE = 2**24  # bytes of a pickle
MAX_OPERATIONS = 10**6  # operations of a pickle; enough for some 20,000 rows of metrics.csv
MAX_HEADER = 2**23  # bytes of a model file's header; all of Unicode as a vocabulary takes 2**22
MAX_MARKS = 10**6  # opening brackets, commas and quotation marks in a header, to limit its values
MAX_MESSAGE = 500  # characters of a message; a file may have chosen most of them
CARD = "lyricgen"  # name of the card in either kind of file
PREFIX = "model."  # begins the names of the network's tensors in a LightningModule

# The last bytes of torch's archives: the 64-bit record that ends the directory, the record of its
# place, and the ordinary record that ends the directory.
_END = struct.Struct("<4sQ2H2L4Q4sLQL4s4H2LH")
_TYPES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {name}Storage" for name in _TYPES),
}


def load(path: str | Path, device: str | torch.device = "cpu") -> TrainedModel:
    """Load a trained model from a file.

    No code in the file is run. The sizes that it declares are checked before memory is taken.

    Args:
        path: a checkpoint, a model file, or the directory of a run or a sweep, in which
            `checkpoint_in` finds the checkpoint.
        device: where to put the network; an n-gram model stays on the CPU.

    Raises:
        UserError: the file is missing, unreadable, of another kind, damaged, or contradicts itself.
        OSError: the path is too long, or leads through a directory that may not be entered.
        RuntimeError or AssertionError: torch cannot use the device.
    """
    path = checkpoint_in(Path(path))
    shown = repr(str(path))
    try:
        size = path.stat().st_size
        values, tensors = _read(path, size)
    except UserError as error:
        raise UserError(
            f"{shown} is not a checkpoint of lyricgen: {_shorten(error)}; name a run's, or a file "
            "of lyricgen.export"
        ) from error
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}") from error
    # a damaged file may raise anything; torch's own message advises to run the code in the file
    except Exception as error:
        raise UserError(
            f"{shown} is not a readable checkpoint ({type(error).__name__}): it may be damaged or "
            "cut short; name one that lyricgen wrote"
        ) from error
    try:
        return replace(rebuild(values, tensors, size, device), file=path)
    except UserError as error:
        raise UserError(f"{shown} does not hold what it says: {_shorten(error)}") from error


def to_bytes(card: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Make the content of a model file; equal arguments give equal bytes."""
    described = json.dumps(card, ensure_ascii=False, allow_nan=False, sort_keys=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain, metadata={CARD: described})


def _shorten(error: UserError) -> str:
    text = escape_line(str(error))
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]} …"


def _read(path: Path, size: int) -> tuple[Any, dict[str, Tensor]]:
    """Read the card and the tensors of a file, unchecked; the tensors are mapped, not copied."""
    if size > MAX_BYTES:
        raise UserError(f"it has {size} bytes, more than {MAX_BYTES}")
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[8:9] == b"{":  # after the length of a header in JSON
        return _read_model_file(path)
    if not start.startswith(b"PK\x03\x04"):
        raise UserError("it has another format")
    content = _read_archive(path, size)
    if not isinstance(content, dict) or CARD not in content:
        raise UserError("it is of another program")
    state = content.get("state_dict")
    if not isinstance(state, dict):
        raise UserError("it has no weights, state_dict")
    tensors = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in state.items()
        if isinstance(name, str) and name.startswith(PREFIX) and isinstance(tensor, Tensor)
    }
    values, run = content[CARD], content.get("run")
    if isinstance(values, dict) and isinstance(run, dict):
        values = {**values, "text": run.get("corpus_digest", run.get("text"))}
    return values, tensors


def _read_model_file(path: Path) -> tuple[Any, dict[str, Tensor]]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER:
            raise UserError(f"its header has {length} bytes, more than {MAX_HEADER}")
        header = stream.read(length)
    if sum(header.count(mark) for mark in b'{[,"') > MAX_MARKS:
        raise UserError(f"its header has more than {MAX_MARKS} values")
    metadata = _parse(header.decode()).get("__metadata__")
    if not isinstance(metadata, dict) or CARD not in metadata:
        raise UserError("it has no card of lyricgen among its metadata")
    card = _parse(metadata[CARD])
    with safetensors.safe_open(path, "pt") as tensors:
        return card, {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118


def _parse(text: str) -> Any:
    """Parse JSON; refuse repeated keys, NaN and infinity, on which readers of JSON differ."""

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise UserError("its header has the same key twice")
        return dict(pairs)

    def refuse_constant(name: str) -> None:
        raise UserError(f"its header has {name}, which is no number")

    return json.loads(text, object_pairs_hook=read_object, parse_constant=refuse_constant)


def _read_archive(path: Path, size: int) -> Any:
    with path.open("rb") as stream:
        _check_end(stream, size)
        with zipfile.ZipFile(stream) as archive:
            _check_pickle(archive.read(_check_members(archive, size)))
    # weights_only is the default, but an environment variable can undo the default
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_end(stream: BinaryIO, size: int) -> None:
    """Check the place and the length of an archive's directory before it is read.

    Readers of zip files may find different directories in one file. If the directory lies where
    torch puts it, all readers find the same one.
    """
    stream.seek(max(0, size - _END.size))
    tail = stream.read(_END.size)
    if len(tail) < _END.size:
        raise UserError("it is cut short")
    end = _END.unpack(tail)
    signatures, length, offset = (end[0], end[10], end[14]), end[8], end[9]
    in_place = end[12] == offset + length == size - _END.size
    if signatures != (b"PK\x06\x06", b"PK\x06\x07", b"PK\x05\x06") or not in_place:
        raise UserError("it is cut short, or not of torch")
    if length > MAX_DIRECTORY:
        raise UserError(f"its directory has {length} bytes, more than {MAX_DIRECTORY}")


def _check_members(archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """Check that an archive's members are stored as torch stores them, and fit into the file.

    Returns:
        The member that is the pickle.
    """
    members = {member.orig_filename: member for member in archive.infolist()}
    folder = next(iter(members), "").partition("/")[0]
    if len(members) < len(archive.infolist()) or any(
        member.flag_bits & 1  # encrypted
        or member.compress_type != zipfile.ZIP_STORED
        or member.compress_size != member.file_size
        or member.filename != name
        or not name.startswith(f"{folder}/")
        for name, member in members.items()
    ):
        raise UserError("its members are not stored as torch stores them")
    if sum(member.file_size for member in members.values()) > size:
        raise UserError("its members are larger than the file")
    order = members.get(f"{folder}/byteorder")
    if order is not None and archive.read(order) != sys.byteorder.encode():
        raise UserError("its numbers are of a machine with another byte order")
    pickled = members.get(f"{folder}/data.pkl")
    if pickled is None or f"{folder}/constants.pkl" in members:
        raise UserError("it is not what torch.save writes")
    if pickled.file_size > MAX_PICKLE:
        raise UserError(f"its pickle has {pickled.file_size} bytes, more than {MAX_PICKLE}")
    return pickled


def _check_pickle(pickled: bytes) -> None:
    """Check the operations of a pickle without running them."""
    for number, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        if number >= MAX_OPERATIONS:
            raise UserError(f"its pickle has more than {MAX_OPERATIONS} operations")
        if operation.name in ("GLOBAL", "INST") and argument not in _NAMES:
            raise UserError(f"it names {argument}, which no checkpoint of lyricgen does")
        if operation.proto > 2 or (operation.name == "PROTO" and argument != 2):
            raise UserError("its pickle is not of protocol 2, as torch's are")
