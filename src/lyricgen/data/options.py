"""The known corpora, and the options of `data=` and `sampler=`."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from lyricgen.errors import UserError
from lyricgen.options import Options

Unit = Literal["text", "line", "document"]
Auto = Literal["auto"]  # filled when the text is read
Switch = Literal[True, False, "auto"]
# Last character of each sample of a list; the control character U+0003 stands in no text.
ENDS: dict[str, str] = {"line": "\n", "document": "\x03"}
Newline = Literal["keep", "space"]
ControlCharacters = Literal["refuse", "newline", "drop"]
Timestamps = Literal["drop", "keep"]
Shuffle = Literal["each_epoch", "once", "none"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True)
class PublishedText:
    """A published text, to be fetched once into the cache directory."""

    file_name: str
    url: str  # of a fixed revision
    sha256: str  # 64 hexadecimal digits


BUNDLED = {"lyrics": "lyrics.txt", "dino": "dino.txt"}

PUBLISHED = {
    "jaychou": PublishedText(
        file_name="jaychou_lyrics.txt.zip",
        url="https://raw.githubusercontent.com/d2l-ai/d2l-zh/"
        "abb4113be45cb2d23adeeb7b0e5a350938d7a650/data/jaychou_lyrics.txt.zip",
        sha256="3cfedd7d174111cdad5a27eaffaa6a2432a2842cf2590a03dd8a97610ea07043",
    ),
    "coursera_dino": PublishedText(
        file_name="dinos.txt",
        url="https://raw.githubusercontent.com/brunoklein99/deep-learning-notes/"
        "8dcae416c46dc2c24f590399cb5b3137914b24f5/dinos.txt",
        sha256="ad6465621cf56c08f71d4fbb40cf7eab763f9df42c54cc460d6c4d86e9c927fb",
    ),
}

DEFAULT_MAX_BYTES = 256_000_000  # of a text that is held in memory
# end of the path of a file of the cache that holds standard input, with the digest of its bytes
KEPT_INPUT = re.compile(r"stdin[/\\][0-9a-f]{64}[/\\]stdin\.txt$")

KINDS = (*BUNDLED, *PUBLISHED, "text")  # text: a file of the user


def check_kind(kind: str) -> str:
    """Check the name of a corpus and return it.

    Raises:
        UserError: no corpus has this name.
    """
    if kind not in KINDS:
        raise UserError(f"data={kind!r} is unknown; choose one of {', '.join(KINDS)}")
    return kind


def _one_or_several(paths: Any) -> Any:
    listed = paths if isinstance(paths, list) else [paths]
    if not listed or "" in listed:
        raise ValueError("name a file, or leave it out")
    return listed[0] if len(listed) == 1 else paths


class DataOptions(Options):
    """Options of `data=`: which text, and how it is read, split and cut."""

    kind: Annotated[str, AfterValidator(check_kind)]
    # one path, or two and more in a list; records of earlier versions hold one
    path: Annotated[str | list[str] | None, BeforeValidator(_one_or_several)]
    column: str | None
    key: str | None
    timestamps: Timestamps
    unit: Unit | Auto
    separator: str | None
    verse: Switch
    min_count: PositiveInt | None
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

    @property
    def paths(self) -> list[str]:
        """The paths of the user's texts; none for other kinds."""
        return [self.path] if isinstance(self.path, str) else self.path or []

    @property
    def name(self) -> str:
        """The name of the text in messages."""
        paths = ["standard input" if KEPT_INPUT.search(path) else path for path in self.paths]
        first, *more = paths or [self.kind]
        return f"{first} and {len(more)} more" if more else first

    @property
    def most_in_memory(self) -> int:
        """The most bytes of a text that is held in memory."""
        return self.max_bytes or DEFAULT_MAX_BYTES

    @property
    def field(self) -> tuple[str, str, str] | None:
        """The option and name of a chosen column or key, and what has it: a "row" or "record"."""
        for option, name, part in (("column", self.column, "row"), ("key", self.key, "record")):
            if name is not None and name != "auto":
                return option, name, part
        return None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if {None, "auto"}.isdisjoint((self.column, self.key)):
            raise ValueError("data.column is for tables, data.key for JSON: leave one of them out")
        if self.field is not None and self.kind != "text":
            option = f"data.{self.field[0]}"
            raise ValueError(f"{option} goes with a text of your own, not with data={self.kind}")
        return self


Scope = Literal["split", "document", "line"]


class RecallOptions(Options):
    """Options of what a reader recalls of a text, as in `memory=cache`.

    Attributes:
        recent: number of newest characters that are recalled whatever the context; 0 for none.
        orders: lengths of the contexts after which characters are recalled, rising.
        occurrences: number of newest occurrences of a context that are recalled.
        size: how many characters the reader looks back at most.
        scope: part of the text that the reader remembers.
    """

    recent: int = Field(ge=0, le=255)
    orders: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(strict=False, min_length=1)
    occurrences: int = Field(ge=1, le=255)
    size: int = Field(ge=1, le=2**31 - 1)
    scope: Scope

    @property
    def newest(self) -> int:
        """Number of newest characters that are recalled whatever the context."""
        return min(self.recent, self.size)

    @property
    def history(self) -> int:
        """Number of newest characters by which all that is recalled can be found."""
        return max(self.size + self.orders[-1], self.newest)

    @field_validator("orders")
    @classmethod
    def _check_orders(cls, orders: tuple[int, ...]) -> tuple[int, ...]:
        if list(orders) != sorted(set(orders)):
            raise ValueError("give each length once, in rising order")
        return orders


class DefaultOptions(Options):
    """Options of the default sampler, until the unit of the text is known."""

    kind: Auto
    drop_last: Switch
    carry_state: Switch


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
    DefaultOptions | RandomOptions | ConsecutiveOptions | LinesOptions,
    Field(discriminator="kind"),
]
