"""Constraints on a text as a user names them."""

from typing import Self

from pydantic import Field, model_validator

from lyricgen.data.splits import Layout
from lyricgen.errors import UserError, as_option
from lyricgen.options import Options

OF_TEXTS = ("lines", "line_length", "acrostic", "rhyme")  # only for running text
OF_NAMES = ("starts_with", "max_length", "novel")  # only for single lines


class Control(Options):
    """Constraints on texts; each forbids characters where they are chosen.

    Attributes:
        lines: how many lines a text has.
        line_length: characters of every line.
        acrostic: what the lines begin with, one character each.
        rhyme: whether the last characters of the lines rhyme, and differ.
        ban: characters that are not written, as between the brackets of a regular expression.
        only: the characters that are written, likewise.
        starts_with: what a name begins with.
        max_length: characters of a name at most.
        novel: whether a name must differ from all training names and from the others.
    """

    lines: int | None = Field(default=None, ge=1, le=10_000)
    line_length: int | None = Field(default=None, ge=1, le=10_000)
    acrostic: str | None = None
    rhyme: bool = False
    ban: str | None = None
    only: str | None = None
    starts_with: str | None = None
    max_length: int | None = Field(default=None, ge=1, le=100_000)
    novel: bool = False

    @property
    def number_of_lines(self) -> int | None:
        """Number of lines, by `lines` or the acrostic; None for any number."""
        return self.lines if self.acrostic is None else len(self.acrostic)

    @property
    def counted(self) -> str:
        """Typed option that fixes the number of lines."""
        return f"--lines {self.lines}" if self.acrostic is None else f"--acrostic {self.acrostic!r}"

    @property
    def sets(self) -> str:
        """Typed options that restrict the characters."""
        given = {"--only": self.only, "--ban": self.ban}
        return " with ".join(f"{name} {value!r}" for name, value in given.items() if value)

    def check_layout(self, layout: Layout) -> None:
        """Check that a model can obey all constraints.

        Raises:
            UserError: a constraint is for models of the other layout.
        """
        wrong = OF_TEXTS if layout == "lines" else OF_NAMES
        writes, others = ("single lines", "running text")[:: 1 if layout == "lines" else -1]
        for name in wrong:
            if getattr(self, name):
                raise UserError(
                    f"{as_option(name)} is for models of {others}, and this one writes {writes}"
                )

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
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
