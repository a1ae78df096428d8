"""Description of a network in a file, and the network rebuilt from it and its tensors.

Nothing is looked up by a name that a file brings: the architecture is one of a fixed table.
"""

import json
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lyricgen.data.faults import FORBIDDEN
from lyricgen.data.splits import Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.model import Model
from lyricgen.models.network import recurrent
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.options import Architecture, RecurrentArchitecture
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import Options, validate
from lyricgen.settings import complete

FORMAT: Literal[2] = 2
MAX_OPTIONS, MAX_DEPTH = 10**6, 20  # characters and values in a run's configuration
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Refuse what JSON cannot hold, or only at a length that its parts, each named often, hide."""
    level: list[Any] = [options]
    amount = 0
    for _ in range(MAX_DEPTH):
        inside: list[Any] = []
        for value in level:
            amount += len(value) if isinstance(value, str | dict | list | tuple) else 1
            if amount > MAX_OPTIONS:
                raise ValueError(f"the options have more than {MAX_OPTIONS} characters and values")
            if isinstance(value, dict):
                inside += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple):
                inside += value
        level = inside
    if level:
        raise ValueError(f"the options are nested more than {MAX_DEPTH} deep")
    try:
        json.dumps(options, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise ValueError("the options are not the plain values of a configuration") from error
    return options


class Card(Options):
    """Card of a network: its description in plain values."""

    format: Literal[2]
    architecture: Architecture
    vocabulary: str  # the sorted characters
    layout: Layout
    lowercase: bool  # the corpus was lower-cased, so a prefix is too
    options: Annotated[dict[str, Any], AfterValidator(_plain)]  # the run's whole configuration
    text: str | None = None  # digest of the corpus; in a checkpoint it stands beside the card
    longest_line: Annotated[int, Field(ge=0)] | None = None  # characters, of training

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        size = self.architecture.vocabulary_size
        if len(self.vocabulary) != size:
            raise ValueError(
                f"the vocabulary has {len(self.vocabulary)} characters, the network {size}"
            )
        if FORBIDDEN.search(self.vocabulary):
            raise ValueError("the vocabulary has control characters")
        lines = self.layout == "lines"
        if lines and not (self.architecture.start_symbol and "\n" in self.vocabulary):
            raise ValueError("a model of lines needs a start symbol and a newline")
        return self


def card(model: TrainedModel) -> dict[str, Any]:
    """Describe a network for a checkpoint, in plain values."""
    described = Card(
        format=FORMAT,
        architecture=model.network.architecture,
        vocabulary=model.vocabulary.characters,
        layout=model.layout,
        lowercase=model.lowercase,
        options=model.options,
        text=model.text,
        longest_line=model.longest_line,
    )
    return described.model_dump(mode="json")


def rebuild(
    values: Any, tensors: dict[str, Tensor], size: int, device: str | torch.device
) -> TrainedModel:
    """Make a model again, of a card and tensors that may be anything.

    Args:
        values: what `card` has given, if the file is an honest one.
        tensors: by their names in the network, strided, mapped to the file; they are copied once
            it is known that they are those of such a network.
        size: bytes of the file, which the tensors cannot be larger than.
        device: where to put the network.

    Raises:
        UserError: these are no card and tensors of a model.
    """
    number = values.get("format") if isinstance(values, dict) else None
    if isinstance(number, int) and number != FORMAT and 0 <= number < 1000:
        mend = "update lyricgen" if number > FORMAT else "train the model again"
        raise UserError(f"format={number}: this lyricgen reads {FORMAT}, {mend}")
    described: Card = validate(Card, values)
    _check_plain(tensors, size)
    architecture = described.architecture
    network: Model
    if isinstance(architecture, RecurrentArchitecture):
        network = _recurrent(architecture, tensors).to(device)
    else:
        network = NgramLanguageModel.from_tensors(architecture, _copied(tensors))
    network.eval()
    return TrainedModel(
        network,
        Vocabulary(described.vocabulary),
        described.layout,
        described.lowercase,
        complete(described.options),
        described.text,
        described.longest_line,
    )


def _check_plain(tensors: dict[str, Tensor], size: int) -> None:
    """Check that each is numbers of a common type, and lies in the file one after the other."""
    total = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise UserError(f"{name} is {tensor.dtype}, not plain numbers")
        if not tensor.is_contiguous():
            raise UserError(f"{name} has strides {tensor.stride()}, not those of its shape")
        total += tensor.nbytes
    if total > size:
        raise UserError(f"its tensors would have {total} bytes, more than the file")


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in memory, where nothing that happens to the file can reach them."""
    return {name: tensor.detach().resolve_neg().clone() for name, tensor in tensors.items()}


def _recurrent(architecture: RecurrentArchitecture, tensors: dict[str, Tensor]) -> Model:
    # shapes without memory, until they are known to be right
    with torch.device("meta"), _Undrawn():
        network = recurrent(architecture)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            wanted, there = expected.get(name), found.get(name)
            raise UserError(f"{name} should be {_shape(wanted)}, it is {_shape(there)}")
        if not tensors[name].is_floating_point():
            raise UserError(f"{name} is {tensors[name].dtype}, not plain floating-point numbers")
    weights = _copied(tensors)
    for name, weight in weights.items():
        if not bool(torch.stack(weight.aminmax()).isfinite().all()):
            raise UserError(f"{name} has numbers that are not finite: its training has diverged")
    network.load_state_dict(weights, assign=True)
    return network.to(torch.promote_types(network.output.bias.dtype, torch.float32))


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))


class _Undrawn(TorchFunctionMode):
    """Skips the drawing of initial weights.

    Without it, torch spends a second on imports although these tensors have no memory.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if function in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


_DRAWING = {
    *(Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_),
    *(nn.init.uniform_, nn.init.normal_, nn.init.constant_),
}
