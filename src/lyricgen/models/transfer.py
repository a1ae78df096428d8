"""Starting a network from the weights of another one, character by character.

V characters of the new vocabulary, U of the old one.
"""

from typing import NamedTuple

import torch

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.model import Model
from lyricgen.models.network import CharacterNetwork
from lyricgen.models.options import RecurrentArchitecture
from lyricgen.models.trained_model import TrainedModel


class CopiedWeights(NamedTuple):
    """How many characters a network shares with the one whose weights it starts from."""

    kept: int
    new: int
    lost: int

    def __str__(self) -> str:
        return f"characters: {self.kept:,} kept, {self.new:,} new, {self.lost:,} lost"


def copy_weights(source: TrainedModel, network: Model, vocabulary: Vocabulary) -> CopiedWeights:
    """Copy all weights; rows of characters that the source does not know stay as they are.

    Args:
        source: the trained network and its characters.
        network: of the same architecture, its vocabulary aside; changed in place.
        vocabulary: of `network`.

    Returns:
        How many characters are known to both, to the new network alone, and to the old one alone.

    Raises:
        UserError: the architectures differ, or one is an n-gram model.
    """
    if not isinstance(network, CharacterNetwork):
        raise UserError("init_from: model=ngram has no weights to start with: leave init_from out")
    if not isinstance(source.network, CharacterNetwork):
        raise UserError(
            f"init_from: that is a {source.network.description} model, which has no weights: name "
            "the checkpoint of a network"
        )
    old, new = source.network.state_dict(), network.state_dict()
    here, there = _described(network.architecture), _described(source.network.architecture)
    if here != there:
        differing = [key for key in here | there if here.get(key) != there.get(key)]
        listed = ", ".join(
            f"{key}={there.get(key)} there and {here.get(key)} here" for key in differing
        )
        raise UserError(f"init_from: the networks differ, {listed}: choose the same")
    places = {character: place for place, character in enumerate(source.vocabulary.characters)}
    pairs = [
        (place, places[character])
        for place, character in enumerate(vocabulary.characters)
        if character in places
    ]
    kept = len(pairs)
    if network.architecture.start_symbol and source.network.architecture.start_symbol:
        pairs.append((len(vocabulary), len(source.vocabulary)))
    to, origin = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    dimensions = network.character_dimensions()
    for name, tensor in new.items():
        if name not in dimensions:
            tensor.copy_(old[name])
            continue
        dimension = dimensions[name]
        # only an embedding has a row for the start of a line
        held = (to < tensor.shape[dimension]) & (origin < old[name].shape[dimension])
        rows = old[name].index_select(dimension, origin[held])
        tensor.index_copy_(dimension, to[held], rows)
    return CopiedWeights(kept, len(vocabulary) - kept, len(source.vocabulary) - kept)


def _described(architecture: RecurrentArchitecture) -> dict[str, object]:
    """Settings that must agree, by the names that a user types."""
    model, depth = architecture.model, architecture.depth
    embedded = model.input == "embedding"
    # of a cell's options, all but those that only its first weights depend on
    cell = architecture.cell.model_dump(exclude={"kind", "forget_bias"})
    return {
        "objective": architecture.objective,
        "cell": architecture.cell.kind,
        **{f"cell.{name}": value for name, value in cell.items()},
        "layers": architecture.layers,
        "hidden_size": architecture.hidden_size,
        "depth.residual": depth.residual,
        "model.input": model.input,
        "model.embedding_size": (model.embedding_size or architecture.hidden_size) * embedded,
        "model.tie_weights": model.tie_weights and embedded,
    }
