"""Small models saved as checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lyricgen.api.models import WritingModel, load
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.card import card
from lyricgen.models.network import LanguageModel
from tests.helpers.networks import architecture

VOCABULARY = Vocabulary("\nabcdeé分开")


OPTIONS = {"seed": 1, "cell": {"kind": "lstm"}, "optimizer": {"betas": (0.9, 0.99)}, "name": None}


def model_of(
    cell: str | dict[str, Any] = "lstm",
    *,
    layout: Any = "stream",
    vocabulary: Vocabulary = VOCABULARY,
    lowercase: bool = False,
    **options: Any,
) -> WritingModel:
    torch.manual_seed(0)
    described = architecture(
        cell,
        vocabulary_size=len(vocabulary),
        start_symbol=layout != "stream",
        hidden_size=12,
        **options,
    )
    network = LanguageModel(described)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=1.0 if parameter.dim() > 1 else 0.1)
    return WritingModel(network.eval(), vocabulary, layout, lowercase, OPTIONS)


def content_of(model: WritingModel) -> dict[str, Any]:
    """Content of a checkpoint as Lightning saves it."""
    weights = {f"model.{name}": value for name, value in model.network.state_dict().items()}
    return {"epoch": 3, "state_dict": weights, "lyricgen": card(model)}


def save_checkpoint(directory: Path, content: Any, name: str = "some.ckpt") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def refusal(path: Path, *needed: str) -> str:
    """Message of a refused file: one printable line with its path and all of `needed`."""
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    for part in (str(path), *needed):
        assert part in message
    return message


class Touch:
    """Object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)
