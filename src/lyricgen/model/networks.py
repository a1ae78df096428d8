"""The kinds of model, told apart by `kind`: a recurrent network, or counted n-grams."""

from typing import Annotated

from pydantic import Field

from lyricgen.model.character_network import RecurrentArchitecture, RecurrentOptions
from lyricgen.model.fill_model import FillModel
from lyricgen.model.language_model import LanguageModel
from lyricgen.model.ngram_network import NgramArchitecture, NgramNetwork, NgramOptions

ModelOptions = Annotated[RecurrentOptions | NgramOptions, Field(discriminator="kind")]
Architecture = Annotated[RecurrentArchitecture | NgramArchitecture, Field(discriminator="kind")]
Network = LanguageModel | FillModel | NgramNetwork


def recurrent(architecture: RecurrentArchitecture) -> LanguageModel | FillModel:
    """The recurrent network for an objective, with its initial weights."""
    kinds: dict[str, type[LanguageModel] | type[FillModel]]
    kinds = {"next": LanguageModel, "fill": FillModel}
    return kinds[architecture.objective](architecture)
