"""A trained network in a file: what a checkpoint says of itself, and reading it back."""

from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator

from lyricgen.data.parts import Layout
from lyricgen.data.reading import FORBIDDEN
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError, printable
from lyricgen.model.character_network import RecurrentArchitecture
from lyricgen.model.fill_model import FillModel
from lyricgen.model.language_model import LanguageModel
from lyricgen.model.models import Architecture, Model, recurrent
from lyricgen.model.ngram_language_model import NgramLanguageModel
from lyricgen.model.trained_model import TrainedModel
from lyricgen.options import Options, validate
from lyricgen.runs import checkpoint_in

FORMAT: Literal[2] = 2
_PREFIX = "model."  # where the LightningModule keeps the network


class Card(Options):
    """What a checkpoint holds, in plain values."""

    format: Literal[2]
    architecture: Architecture
    vocabulary: str  # the sorted characters
    layout: Layout
    lowercase: bool  # the corpus was lower-cased, so a prefix is too
    options: dict[str, Any]  # the training run's whole configuration

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
    """What a checkpoint says of the network in it, as plain values."""
    described = Card(
        format=FORMAT,
        architecture=model.network.architecture,
        vocabulary=model.vocabulary.characters,
        layout=model.layout,
        lowercase=model.lowercase,
        options=model.options,
    )
    return described.model_dump(mode="json")


def load(path: str | Path, device: str | torch.device = "cpu") -> TrainedModel:
    """Read a network from a checkpoint; no other file is needed, and no code in it is run.

    Args:
        path: a checkpoint, or the directory of a run.
        device: where to put the network.

    Raises:
        UserError: no checkpoint there, or not one of lyricgen's.
    """
    path = checkpoint_in(Path(path))
    try:
        # pickled code is never run: said explicitly, since an environment variable undoes a default
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file may raise anything; torch's words advise to run it
        kind = type(error).__name__
        raise UserError(
            f"{str(path)!r} is not a readable checkpoint ({kind}): name one that lyricgen wrote"
        ) from error
    if not isinstance(content, dict) or "lyricgen" not in content:
        raise UserError(f"{str(path)!r} is not a checkpoint of lyricgen: name one of a run's")
    try:
        return _rebuild(validate(Card, content["lyricgen"]), content.get("state_dict"), device)
    except UserError as error:
        raise UserError(f"{str(path)!r} does not hold what it says: {error}") from error


def _rebuild(card: Card, state: Any, device: str | torch.device) -> TrainedModel:
    if not isinstance(state, dict):
        raise UserError("it has no weights, state_dict")
    tensors = {
        str(name).removeprefix(_PREFIX): tensor
        for name, tensor in state.items()
        if str(name).startswith(_PREFIX) and isinstance(tensor, torch.Tensor)
    }
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise UserError(f"{printable(name)} has no values")
        if tensor.layout != torch.strided:
            raise UserError(f"{printable(name)} is {tensor.layout}, not plain numbers")
    network: Model
    if isinstance(card.architecture, RecurrentArchitecture):
        network = _recurrent(card.architecture, tensors).to(device)
    else:
        network = NgramLanguageModel.from_tensors(card.architecture, tensors)
    network.eval()
    return TrainedModel(
        network, Vocabulary(card.vocabulary), card.layout, card.lowercase, card.options
    )


def _recurrent(
    architecture: RecurrentArchitecture, weights: dict[str, torch.Tensor]
) -> LanguageModel | FillModel:
    with torch.device("meta"):  # shapes without memory, until they are known to be right
        network = recurrent(architecture)
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            wanted, there = expected.get(name), found.get(name)
            raise UserError(f"{printable(name)} should be {_shape(wanted)}, it is {_shape(there)}")
        if not weights[name].is_floating_point():
            raise UserError(f"{name} is {weights[name].dtype}, not plain floating-point numbers")
    network.load_state_dict(weights, assign=True)
    return network.to(torch.promote_types(network.output.bias.dtype, torch.float32))


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))
