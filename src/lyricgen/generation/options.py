"""Options of generated texts, under the names of the command line."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lyricgen.errors import as_option
from lyricgen.options import Options

LENGTH_PENALTY = 0.6  # default of a beam search: Wu et al. 2016 found 0.6 to 0.7

Generator = Literal["torch", "numpy_reseeded"]


class Strategy(Options):
    """Options by which the next character is chosen from the logits."""

    # temperature of the softmax; 0 takes the most probable character each time
    temperature: float = Field(0.8, ge=0)
    # draw from the k most probable characters; None from all
    top_k: int | None = Field(None, ge=1)
    # draw from the fewest, most probable characters that add up to this probability or more
    top_p: float | None = Field(None, gt=0, le=1)
    # draw from the characters with at least this share of the largest probability
    min_p: float | None = Field(None, gt=0, le=1)
    # above 1, make characters of the text so far less probable
    repetition_penalty: float | None = Field(None, gt=0, le=1e6)
    # let no n characters in a row occur twice in a text
    no_repeat_ngram: int | None = Field(None, ge=1)
    # search for the most probable text with this number of texts at a time; draw nothing
    beams: int | None = Field(None, ge=1, le=1000)
    # length penalty of a beam search, None for LENGTH_PENALTY; more favours longer texts, 0 none
    length_penalty: float | None = Field(None, ge=0, le=100)

    @property
    def greedy(self) -> bool:
        """Whether the most probable character is taken each time."""
        return self.beams is None and self.temperature == 0

    @property
    def random(self) -> bool:
        """Whether characters are drawn at random."""
        return self.beams is None and self.temperature > 0

    @property
    def name(self) -> str:
        """A short description, as in "temperature 0.8, top_p 0.9"."""
        if self.beams is not None:
            first = f"beam {self.beams}"
        else:
            first = "greedy" if self.greedy else f"temperature {self.temperature:g}"
        rest = ("top_k", "top_p", "min_p", "repetition_penalty", "no_repeat_ngram")
        given = [(name, getattr(self, name)) for name in (*rest, "length_penalty")]
        parts = [f"{name} {value:g}" for name, value in given if value is not None]
        return ", ".join([first, *parts])

    @model_validator(mode="after")
    def _refuse_idle(self) -> Self:
        """Refuse options that would change nothing."""
        idle = [name for name in ("top_k", "top_p", "min_p") if getattr(self, name)]
        problem = (
            "changes nothing at temperature=0, which takes the most probable character: leave one "
            "of them out"
        )
        if self.beams is not None:
            idle = ["temperature"] * ("temperature" in self.model_fields_set) + idle
            problem = (
                f"is for drawing, and beams={self.beams} searches without drawing: leave one of "
                "them out"
            )
        elif self.length_penalty is not None:
            idle = ["length_penalty"]
            problem = "goes with a beam search: give beams as well, or leave it out"
        elif self.random:
            return self
        if idle:
            raise ValueError(f"{idle[0]}={getattr(self, idle[0]):g} {problem}")
        return self


class Control(Options):
    """Constraints on texts, which forbid characters before the next character is chosen.

    `novel` also rejects whole names.
    """

    lines: int | None = Field(default=None, ge=1, le=10_000)  # number of lines of a text
    line_length: int | None = Field(default=None, ge=1, le=10_000)  # characters of every line
    acrostic: str | None = None  # first characters of the lines
    rhyme: bool = False  # the last characters of the lines rhyme, and differ
    ban: str | None = None  # characters never written, as between a regular expression's brackets
    only: str | None = None  # the only characters written, in the same form
    starts_with: str | None = None  # beginning of a name
    max_length: int | None = Field(default=None, ge=1, le=100_000)  # characters of a name at most
    novel: bool = False  # a name differs from all training names and from the other names

    @property
    def number_of_lines(self) -> int | None:
        """Number of lines, from `lines` or `acrostic`; None for any number."""
        return self.lines if self.acrostic is None else len(self.acrostic)

    @property
    def counted(self) -> str:
        """The option that fixes the number of lines, as typed on a command line."""
        return f"--lines {self.lines}" if self.acrostic is None else f"--acrostic {self.acrostic!r}"

    @property
    def sets(self) -> str:
        """The options that restrict the characters, as typed on a command line; "" without them."""
        given = {"--only": self.only, "--ban": self.ban}
        return " with ".join(f"{name} {value!r}" for name, value in given.items() if value)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        for name in ("acrostic", "ban", "only", "starts_with"):
            if getattr(self, name) == "":
                raise ValueError(f"{as_option(name)} is empty: give it characters, or leave it out")
        if self.acrostic is not None and self.lines not in (None, len(self.acrostic)):
            raise ValueError(
                f"--acrostic {self.acrostic!r} makes {len(self.acrostic)} lines, --lines says "
                f"{self.lines}: leave --lines out"
            )
        if self.rhyme and self.line_length is None:
            raise ValueError("--rhyme needs --line-length: only then it is known where lines end")
        if self.rhyme and self.number_of_lines == 1:
            raise ValueError("--rhyme needs two lines or more")
        if self.rhyme and self.acrostic is not None and self.line_length == 1:
            raise ValueError(
                "--rhyme and --acrostic want the same character at --line-length 1: "
                "give a larger one"
            )
        return self
