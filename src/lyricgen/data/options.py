"""Options of a text and of the sampler that cuts it into batches."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from lyricgen.data.sources import check_kind
from lyricgen.options import Options

Unit = Literal["text", "line"]
Newline = Literal["keep", "space"]
ControlCharacters = Literal["refuse", "newline", "drop"]
Shuffle = Literal["each_epoch", "once", "none"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class DataOptions(Options):
    """Options of `data=`: which text, and how it is read, split and cut."""

    kind: Annotated[str, AfterValidator(check_kind)]
    path: str | None
    unit: Unit
    max_chars: PositiveInt | None
    lowercase: bool
    distinct: bool
    newline: Newline
    encoding: str
    control_characters: ControlCharacters
    max_bytes: PositiveInt | None
    batch_size: PositiveInt
    num_steps: PositiveInt
    val_fraction: float = Field(ge=0, lt=1)
    test_fraction: float = Field(ge=0, lt=1)
    max_held_out: int | None = Field(ge=2)
    split_seed: NonNegativeInt


class RandomOptions(Options):
    """Options of `sampler=random`."""

    kind: Literal["random"]
    shuffle: Shuffle
    seed: Seed | None
    random_offset: bool
    drop_last: bool


class ConsecutiveOptions(Options):
    """Options of `sampler=consecutive`."""

    kind: Literal["consecutive"]
    drop_last: bool
    carry_state: bool


class LinesOptions(Options):
    """Options of `sampler=lines`."""

    kind: Literal["lines"]
    shuffle: Shuffle
    seed: Seed | None
    carry_state: bool


SamplerOptions = Annotated[
    RandomOptions | ConsecutiveOptions | LinesOptions, Field(discriminator="kind")
]
