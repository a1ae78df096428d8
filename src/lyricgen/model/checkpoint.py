"""A trained network in a file: what a checkpoint says of itself, and reading it back."""

import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator

from lyricgen.data.parts import Layout
from lyricgen.data.reading import FORBIDDEN
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.decoding import continue_texts
from lyricgen.errors import UserError, printable
from lyricgen.model.language_model import Architecture, LanguageModel
from lyricgen.options import Options, validate
from lyricgen.runs import checkpoint_in

FORMAT: Literal[1] = 1
_PREFIX = "model."  # where the LightningModule keeps the network


class Card(Options):
    """What a checkpoint holds, in plain values."""

    format: Literal[1]
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


@dataclass(frozen=True)
class TrainedModel:
    """A network and the characters it speaks."""

    network: LanguageModel
    vocabulary: Vocabulary
    layout: Layout
    lowercase: bool

    def generate(
        self,
        prefix: str = "",
        *,
        length: int = 50,
        temperature: float = 0.8,
        seed: int = 1,
    ) -> str:
        """One text that begins with the prefix; see `generate_many`."""
        return self.generate_many([prefix], length=length, temperature=temperature, seed=seed)[0]

    def generate_many(
        self,
        prefixes: list[str],
        *,
        count: int = 1,
        length: int = 50,
        temperature: float = 0.8,
        seed: int = 1,
    ) -> list[str]:
        """Continue prefixes in one batch.

        Args:
            prefixes: what the texts begin with; "" for nothing.
            count: texts for each prefix, side by side in the result.
            length: new characters at most; a model of lines stops at the end of the line.
            temperature: of the softmax; 0 takes the most probable character each time.
            seed: text number i of a prefix depends on (seed, prefix, i) only, not on the others.

        Returns:
            len(prefixes) · count texts, the prefixes included, normalised as the corpus was.

        Raises:
            UserError: a prefix has a character that the model does not know, or a number is out
                of range.
        """
        for name, value, least in (("count", count, 1), ("length", length, 1)):
            if value < least:
                raise UserError(f"{name}={value}: it must be at least {least}")
        if length > 10**6:
            raise UserError(f"length={length}: it must be at most 1000000")
        if not prefixes:
            return []
        if not 0 <= temperature < float("inf"):
            raise UserError(f"temperature={temperature}: it must be 0 or more")
        prefixes = [self.normalised(prefix) for prefix in prefixes]
        inputs = [self.encode_prefix(prefix) for prefix in prefixes for _ in range(count)]
        stop = int(self.vocabulary.encode("\n")) if self.layout == "lines" else None
        rows = continue_texts(
            self.network,
            inputs,
            length=length,
            temperature=temperature,
            seeds=[_seed(seed, prefix, index) for prefix in prefixes for index in range(count)],
            stop=stop,
        )
        repeated = [prefix for prefix in prefixes for _ in range(count)]
        return [
            prefix + self.vocabulary.decode(torch.tensor(row, dtype=torch.int64))
            for prefix, row in zip(repeated, rows, strict=True)
        ]

    def normalised(self, prefix: str) -> str:
        """A prefix as the corpus would have it: composed, and lower-cased if that was."""
        return unicodedata.normalize("NFC", prefix.lower() if self.lowercase else prefix)

    def encode_prefix(self, prefix: str) -> torch.Tensor:
        """What the network reads first, (P,) ids.

        That is the prefix, after the start symbol in a model of lines; and for a running text
        that is to begin with nothing, a line break.

        Raises:
            UserError: a character that the model does not know, or a newline for a model of lines.
        """
        prefix = self.normalised(prefix)
        if self.layout == "lines":
            if "\n" in prefix:
                raise UserError("this model writes single lines: a prefix cannot hold a newline")
            start = torch.tensor([len(self.vocabulary)])
            return torch.cat([start, self.vocabulary.encode(prefix).long()])
        if prefix:
            return self.vocabulary.encode(prefix).long()
        known = [mark for mark in "\n " if mark in self.vocabulary.characters]
        return self.vocabulary.encode(known[0] if known else self.vocabulary.characters[0]).long()


def _seed(seed: int, prefix: str, index: int) -> int:
    # 32 bits, of which torch's generator uses no more
    return zlib.crc32(f"{seed} {index} {prefix}".encode())


def card(model: TrainedModel, options: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of the network in it, as plain values.

    Args:
        model: the network and its characters.
        options: plain values, the configuration it is trained with.
    """
    described = Card(
        format=FORMAT,
        architecture=model.network.architecture,
        vocabulary=model.vocabulary.characters,
        layout=model.layout,
        lowercase=model.lowercase,
        options=options,
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
    with torch.device("meta"):  # shapes without memory, until they are known to be right
        network = LanguageModel(card.architecture)
    if not isinstance(state, dict):
        raise UserError("it has no weights, state_dict")
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    weights = {
        str(name).removeprefix(_PREFIX): tensor
        for name, tensor in state.items()
        if str(name).startswith(_PREFIX) and isinstance(tensor, torch.Tensor)
    }
    found = {name: tensor.shape for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            wanted, there = expected.get(name), found.get(name)
            raise UserError(f"{printable(name)} should be {_shape(wanted)}, it is {_shape(there)}")
        if not weights[name].is_floating_point() or weights[name].layout != torch.strided:
            raise UserError(f"{name} is {weights[name].dtype}, not plain floating-point numbers")
        if weights[name].is_meta:
            raise UserError(f"{name} has no values")
    network.load_state_dict(weights, assign=True)
    precise = torch.promote_types(network.output.bias.dtype, torch.float32)
    network.to(device, precise).eval()
    return TrainedModel(network, Vocabulary(card.vocabulary), card.layout, card.lowercase)


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))
