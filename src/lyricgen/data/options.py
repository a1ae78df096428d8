"""Options of a text: where it is, how it is read, split and cut."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from lyricgen.data.control_characters import ControlCharacters
from lyricgen.data.corpus import Newline, Unit
from lyricgen.options import Options


class DataOptions(Options):
    """Options of `data=`: which text, and how it is read, split and cut."""

    kind: Literal["lyrics", "dino", "jaychou", "coursera_dino", "text"]
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
