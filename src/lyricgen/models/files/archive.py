"""Torch's archives, looked through before anything in them is believed.

`torch.load(weights_only=True)` runs no code that a file brings, but takes all the memory that the
file asks for: packed members, objects that its pickle only names, a directory of millions of
members. What passes here holds plain values, and tensors that lie in the file as they are.
"""

import pickletools
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lyricgen.errors import UserError

BEGINNING = b"PK\x03\x04"
MAX_DIRECTORY = 2**22  # bytes: some 40,000 members
MAX_PICKLE = 2**24  # bytes
MAX_OPERATIONS = 10**6  # of the pickle: some 20,000 rows of metrics.csv

# how torch ends a file: the end of the directory in its 64-bit form, where that lies, and the end
_END = struct.Struct("<4sQ2H2L4Q4sLQL4s4H2LH")
_TYPES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {name}Storage" for name in _TYPES),
}


def read_archive(path: Path) -> Any:
    """Read a file that torch has saved; tensors are mapped to the file and not yet read.

    Raises:
        UserError: the file is no such archive, or holds more than plain values and tensors.
        Exception: of any kind, where it is damaged.
    """
    with path.open("rb") as stream:
        _check_end(stream, path.stat().st_size)
        with zipfile.ZipFile(stream) as archive:
            _check_pickle(archive.read(_check_members(archive, path.stat().st_size)))
    # said explicitly, since an environment variable undoes the default
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_end(stream: BinaryIO, size: int) -> None:
    """Check where the directory lies, and how long it is, before it is read.

    Readers of zip files find it in different ways; so that all find the same one, it has to lie
    where torch puts it.
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
    """Check that the members are no larger than the file; gives the one with the pickle."""
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
    """Check what a pickle would do, without doing it."""
    for number, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        if number >= MAX_OPERATIONS:
            raise UserError(f"its pickle has more than {MAX_OPERATIONS} operations")
        if operation.name in ("GLOBAL", "INST") and argument not in _NAMES:
            raise UserError(f"it names {argument}, which no checkpoint of lyricgen does")
        if operation.proto > 2 or (operation.name == "PROTO" and argument != 2):
            raise UserError("its pickle is not of protocol 2, as torch's are")
