"""The kinds of model, told apart by `kind`: a recurrent network, or counted n-grams."""

from typing import Annotated

from pydantic import Field

from lyricgen.model.language_model import LanguageModel, RecurrentArchitecture, RecurrentOptions
from lyricgen.model.ngram_network import NgramArchitecture, NgramNetwork, NgramOptions

ModelOptions = Annotated[RecurrentOptions | NgramOptions, Field(discriminator="kind")]
Architecture = Annotated[RecurrentArchitecture | NgramArchitecture, Field(discriminator="kind")]
Network = LanguageModel | NgramNetwork
