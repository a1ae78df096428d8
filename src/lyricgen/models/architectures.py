"""Architectures: descriptions from which models of all kinds can be built again."""

from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, model_validator

from lyricgen.data.options import RecallOptions
from lyricgen.models.options import HybridArchitecture, NgramArchitecture, RecurrentArchitecture
from lyricgen.options import Options
from lyricgen.settings import complete

MOST_MEMBERS = 32  # of an ensemble
Averaging: TypeAlias = Literal["arithmetic", "geometric"]


def _complete(architecture: Any) -> Any:
    """Add the settings that an architecture lacks because its file is older than they are."""
    if not isinstance(architecture, dict):
        return architecture
    network = architecture.get("network")
    if isinstance(network, dict):  # of a hybrid model
        return {"short_list": None} | architecture | {"network": complete(network)}
    return complete(architecture)


T = TypeVar("T")
OneOf = Annotated[T, Field(discriminator="kind"), BeforeValidator(_complete)]
# a union of its own, since messages name the kinds of nested unions twice
Single: TypeAlias = RecurrentArchitecture | HybridArchitecture | NgramArchitecture
SingleArchitecture = OneOf[Single]


class EnsembleArchitecture(Options):
    """Options from which an ensemble can be built again."""

    kind: Literal["ensemble"]
    vocabulary_size: int = Field(ge=1, le=0x110000)
    members: tuple[SingleArchitecture, ...] = Field(
        strict=False, min_length=2, max_length=MOST_MEMBERS
    )
    weights: tuple[NonNegativeFloat, ...] = Field(strict=False)
    combination: Averaging
    # for each member, its ids of the characters; None if it has the characters of the ensemble
    ids: tuple[Annotated[tuple[NonNegativeInt, ...], Field(strict=False)] | None, ...] = Field(
        strict=False
    )

    @property
    def start_symbol(self) -> bool:
        """Whether lines begin with one more input symbol."""
        return self.members[0].start_symbol

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        size, count = self.vocabulary_size, len(self.members)
        if (len(self.weights), len(self.ids)) != (count, count):
            raise ValueError(f"an ensemble of {count} needs as many weights and lists of ids")
        if abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"the weights sum to {sum(self.weights):g}, not to 1")
        for member, ids in zip(self.members, self.ids, strict=True):
            if isinstance(member, RecurrentArchitecture) and member.objective != "next":
                raise ValueError("a member of an ensemble predicts the next character")
            if member.start_symbol != self.start_symbol:
                raise ValueError("the members have different layouts")
            if ids is None and member.vocabulary_size != size:
                raise ValueError("a member has other characters than the ensemble")
            listed = range(size) if ids is None else ids
            if not len(set(listed)) == len(listed) == size:
                raise ValueError(f"the ids of a member are not {size} distinct ones")
            if max(listed) >= member.vocabulary_size:
                raise ValueError("the ids of a member are not all in its vocabulary")
        return self


class MemoryArchitecture(Options):
    """Options from which a model with a memory can be built again."""

    kind: Literal["memory"]
    inner: OneOf[Single | EnsembleArchitecture]
    recall: RecallOptions
    reads_hidden: bool  # whether the last hidden states of a hybrid model count, too
    newline: int = Field(ge=-1)  # id of the newline; -1: the vocabulary has none

    @property
    def vocabulary_size(self) -> int:
        """Number of characters."""
        return self.inner.vocabulary_size

    @property
    def start_symbol(self) -> bool:
        """Whether lines begin with one more input symbol."""
        return self.inner.start_symbol

    @model_validator(mode="after")
    def _check_inner(self) -> Self:
        if isinstance(self.inner, RecurrentArchitecture) and self.inner.objective != "next":
            raise ValueError("a model with a memory continues texts")
        if self.reads_hidden and not isinstance(self.inner, HybridArchitecture):
            raise ValueError("only a hybrid model has hidden states for a memory")
        if self.newline >= self.vocabulary_size:
            raise ValueError("the newline is outside the vocabulary")
        return self


Architecture = OneOf[Single | EnsembleArchitecture | MemoryArchitecture]
