"""The file to share: a model's tensors in safetensors, its card as JSON among the metadata.

A safetensors file is the length of its header (8 bytes, little-endian), the header, a JSON object
of names with types, shapes and places, and the numbers. No pickle, and nothing to run.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from lyricgen.errors import UserError

MAX_HEADER = 2**23  # bytes; all of Unicode as a vocabulary takes 2**22
MAX_MARKS = 10**6  # brackets, commas and quotation marks, so values, in the header
_CARD = "lyricgen"  # its name among the metadata


def to_bytes(card: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """The file of a card, plain values, and a network's tensors: the same for the same model."""
    described = json.dumps(card, ensure_ascii=False, allow_nan=False, sort_keys=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain, metadata={_CARD: described})


def read_model_file(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """The card as the file has it, and its tensors, mapped to the file and not yet read.

    Raises:
        UserError: it is no such file.
        Exception: of any kind, where it is damaged.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER:
            raise UserError(f"its header has {length} bytes, more than {MAX_HEADER}")
        header = stream.read(length)
    if sum(header.count(mark) for mark in b'{[,"') > MAX_MARKS:
        raise UserError(f"its header has more than {MAX_MARKS} values")
    metadata = _parsed(header.decode()).get("__metadata__")
    if not isinstance(metadata, dict) or _CARD not in metadata:
        raise UserError("it has no card of lyricgen among its metadata")
    card = _parsed(metadata[_CARD])
    with safetensors.safe_open(path, "pt") as tensors:
        names = tensors.keys()
        return card, {name: tensors.get_tensor(name) for name in names}


def _parsed(text: Any) -> Any:
    """JSON without what readers take differently: equal keys, and numbers that are none."""
    return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_number)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise UserError("its header has the same key twice")
    return dict(pairs)


def _no_number(name: str) -> None:
    raise UserError(f"its header has {name}, which is no number")
