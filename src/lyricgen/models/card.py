"""Cards, which describe models in plain values, and models rebuilt from their cards.

A card names no code; it chooses the architecture from a fixed table.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lyricgen.data.faults import FORBIDDEN
from lyricgen.data.splits import LAYOUT_ENDS, Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.architectures import Architecture, EnsembleArchitecture, MemoryArchitecture
from lyricgen.models.ensemble import EnsembleModel
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.memory_model import MemoryModel
from lyricgen.models.model import Model, NextModel
from lyricgen.models.network import recurrent
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.saving import NGRAM
from lyricgen.models.options import (
    HybridArchitecture,
    NgramArchitecture,
    RecurrentArchitecture,
)
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import Options, validate
from lyricgen.settings import complete

FORMAT: Literal[2] = 2
MAX_OPTIONS, MAX_DEPTH = 10**6, 20  # bytes and nesting of a run's options in JSON
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
# functions that draw initial weights
_INITIALISERS = {
    *(Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_),
    *(nn.init.uniform_, nn.init.normal_, nn.init.constant_),
}


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Check that a run's options fit into JSON of limited length and depth; return them.

    Raises:
        UserError: in JSON the options are too long or nested too deep.
        ValueError: the options are not plain values, or hold NaN or infinity.
    """
    length = depth = 0
    encoder = json.JSONEncoder(check_circular=False, ensure_ascii=False, allow_nan=False)
    try:
        for token in encoder.iterencode(options):
            length += len(token.encode())
            depth += token.startswith(("[", "{")) - token.endswith(("]", "}"))
            if length > MAX_OPTIONS or depth > MAX_DEPTH:
                raise UserError(
                    f"the options have more than {MAX_OPTIONS} bytes or are nested more than "
                    f"{MAX_DEPTH} deep"
                )
    except (ValueError, TypeError) as error:
        raise ValueError("the options are not the plain values of a configuration") from error
    return options


class Card(Options):
    """Description of a model in plain values."""

    format: Literal[2]
    architecture: Architecture
    vocabulary: str  # the sorted characters
    rare: str = ""  # the sorted rare characters
    layout: Layout
    lowercase: bool  # whether the corpus was lower-cased
    options: Annotated[dict[str, Any], AfterValidator(_plain)]  # all options of the run
    # named text in files; a checkpoint holds it beside the card
    corpus_digest: str | None = Field(None, alias="text")
    # characters of the longest line or document of the training split
    longest_line: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        size = self.architecture.vocabulary_size
        if len(self.vocabulary) != size:
            raise ValueError(
                f"the vocabulary has {len(self.vocabulary)} characters, the network {size}"
            )
        end = LAYOUT_ENDS.get(self.layout)
        if FORBIDDEN.search(self.vocabulary.replace(end or "", "")):
            raise ValueError("the vocabulary has control characters")
        if end is not None and not (self.architecture.start_symbol and end in self.vocabulary):
            name = {"\n": "a newline"}.get(end, f"the character {end!r}")
            raise ValueError(f"a model of {self.layout} needs a start symbol and {name}")
        return self


def card(model: TrainedModel) -> dict[str, Any]:
    """Make the card of a model, in values of JSON.

    Raises:
        UserError: the model's `options` are too long or nested too deep in JSON.
        pydantic.ValidationError: `options` are not plain values, or parts of the model contradict
            each other.
    """
    described = Card(
        format=FORMAT,
        architecture=model.network.architecture,
        vocabulary=model.vocabulary.characters,
        rare=model.vocabulary.rare,
        layout=model.layout,
        lowercase=model.lowercase,
        options=model.options,
        text=model.corpus_digest,
        longest_line=model.longest_line,
    )
    return described.model_dump(mode="json", by_alias=True)


def rebuild(
    values: Any, tensors: dict[str, Tensor], size: int, device: str | torch.device
) -> TrainedModel:
    """Check a card and tensors from a file, and rebuild their model.

    Args:
        values: the card; in an undamaged file, plain values from `card`.
        tensors: the weights by their names in the network. They are copied after their sizes have
            been checked.
        size: bytes of the file, which the tensors must not exceed.
        device: where to put the network; an n-gram model stays on the CPU.

    Returns:
        The model, in evaluation mode; weights in half precision become float32.

    Raises:
        UserError: the card or the tensors are wrong, or they do not belong together.
        RuntimeError or AssertionError: torch cannot use the device.
    """
    number = values.get("format") if isinstance(values, dict) else None
    if isinstance(number, int) and number != FORMAT and 0 <= number < 1000:
        mend = "update lyricgen" if number > FORMAT else "train the model again"
        raise UserError(f"format={number}: this lyricgen reads {FORMAT}, {mend}")
    described: Card = validate(Card, values)
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise UserError(f"{name} is {tensor.dtype}, not plain numbers")
        if not tensor.is_contiguous():
            raise UserError(f"{name} has strides {tensor.stride()}, not those of its shape")
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > size:
        raise UserError(f"its tensors would have {total} bytes, more than the file")
    return TrainedModel(
        _rebuild_model(described.architecture, tensors, device).eval(),
        Vocabulary(described.vocabulary, described.rare),
        described.layout,
        described.lowercase,
        complete(described.options),
        described.corpus_digest,
        described.longest_line,
    )


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # a change of the file does not reach tensors in memory
    return {name: tensor.detach().resolve_neg().clone() for name, tensor in tensors.items()}


def _rebuild_model(
    architecture: Architecture, tensors: dict[str, Tensor], device: str | torch.device
) -> Model:
    """Rebuild the model of an architecture; a composite is rebuilt from its parts."""
    if isinstance(architecture, EnsembleArchitecture):
        numbered = {f"members.{number}.": one for number, one in enumerate(architecture.members)}
        members, left = _rebuild_parts(numbered, tensors, device)
        _check_weights({}, left)
        return EnsembleModel(architecture, members)
    if isinstance(architecture, MemoryArchitecture):
        [inner], left = _rebuild_parts({"inner.": architecture.inner}, tensors, device)
        model = MemoryModel(architecture, inner)
        wanted = {f"memory.{name}": one for name, one in model.memory.named_parameters()}
        for name, weight in _check_weights(wanted, left).items():
            wanted[name].data = weight.to(torch.promote_types(weight.dtype, torch.float32))
        return model.to(inner.device)
    if isinstance(architecture, NgramArchitecture):
        return NgramLanguageModel.from_tensors(architecture, _copy(tensors))
    return _rebuild_network(architecture, tensors).to(device)


def _rebuild_parts(
    parts: Mapping[str, Architecture], tensors: dict[str, Tensor], device: str | torch.device
) -> tuple[list[NextModel], dict[str, Tensor]]:
    """Rebuild the parts of a composite; also return the tensors of no part.

    `parts` are the architectures by the prefixes that begin the names of their tensors.
    """
    models, left = [], dict(tensors)
    for prefix, architecture in parts.items():
        names = [name for name in left if name.startswith(prefix)]
        own = {name.removeprefix(prefix): left.pop(name) for name in names}
        try:
            models.append(_rebuild_model(architecture, own, device))
        except UserError as error:
            raise UserError(f"{prefix}{error}") from error
    return cast(list[NextModel], models), left


def _check_weights(wanted: Mapping[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy weights; raise a UserError unless they fit `wanted` and their numbers are finite."""
    expected, present = (
        {name: "x".join(map(str, tensor.shape)) for name, tensor in named.items()}
        for named in (wanted, found)
    )
    for name in sorted(expected.keys() | present.keys()):
        shapes = expected.get(name, "absent"), present.get(name, "absent")
        if shapes[0] != shapes[1]:
            raise UserError(f"{name} should be {shapes[0]}, it is {shapes[1]}")
        if not found[name].is_floating_point():
            raise UserError(f"{name} is {found[name].dtype}, not plain floating-point numbers")
    copies = _copy(found)
    for name, weight in copies.items():
        if not bool(torch.stack(weight.aminmax()).isfinite().all()):
            raise UserError(f"{name} has numbers that are not finite: its training has diverged")
    return copies


def _rebuild_network(
    architecture: RecurrentArchitecture | HybridArchitecture, tensors: dict[str, Tensor]
) -> Model:
    network: Model
    weights, ngrams = dict(tensors), dict[str, Tensor]()
    with torch.device("meta"), _SkipDrawing():  # shapes without memory, for the check
        if isinstance(architecture, HybridArchitecture):
            network = HybridModel(architecture)
            # models of earlier versions lack it
            weights.setdefault("shift", torch.zeros((), device="cpu"))
            ngrams = {name: weights.pop(name) for name in tensors if name.startswith(NGRAM)}
        else:
            network = recurrent(architecture)
    own = network.state_dict().items()
    wanted = {name: tensor for name, tensor in own if not name.startswith(NGRAM)}
    copies = _check_weights(wanted, weights)
    network.load_state_dict(copies | _copy(ngrams), assign=True)
    return network.to(torch.promote_types(next(network.parameters()).dtype, torch.float32))


class _SkipDrawing(TorchFunctionMode):
    """Mode that draws no initial weights, since drawing would take a second to import modules."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if function in _INITIALISERS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
