"""How characters are chosen, as a user names it."""

from collections.abc import Callable
from typing import Any, Self

from pydantic import Field, model_validator

from lyricgen.generation import rules
from lyricgen.generation.rules import Rule
from lyricgen.options import Options

LENGTH_PENALTY = 0.6  # of a beam search, unless another is wanted: Wu et al. 2016 found 0.6 to 0.7


class Strategy(Options):
    """How the next character is chosen from the logits.

    Attributes:
        temperature: of the softmax; 0 takes the most probable character each time.
        top_k: draw from the k most probable characters; None from all.
        top_p: draw from the most probable characters that add up to this probability.
        min_p: draw from the characters that have this share of the largest probability.
        repetition_penalty: above 1, make what the text has less probable.
        no_repeat_ngram: let no n characters in a row occur twice in a text.
        beams: search for the most probable text with so many at a time; nothing is drawn.
        length_penalty: of a beam search, 0 for none; larger ones favour longer texts.
    """

    temperature: float = Field(0.8, ge=0)
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=1e6)
    no_repeat_ngram: int | None = Field(None, ge=1)
    beams: int | None = Field(None, ge=1, le=1000)
    length_penalty: float | None = Field(None, ge=0, le=100)

    @property
    def greedy(self) -> bool:
        """Whether the most probable character is taken each time."""
        return self.beams is None and self.temperature == 0

    @property
    def random(self) -> bool:
        """Whether characters are drawn, by random numbers."""
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

    def rules(self) -> list[Rule]:
        """Rules applied to the logits, in this order.

        What is forbidden or penalised for the text so far comes first, on the model's own logits;
        truncations come last, on the probabilities that are drawn from.
        """
        chosen: tuple[tuple[Callable[[Any], Rule], float | None], ...] = (
            (rules.repetition_penalty, self.repetition_penalty),
            (rules.no_repeat_ngram, self.no_repeat_ngram),
            (rules.temperature, self.temperature if self.random else None),
            (rules.top_k, self.top_k),
            (rules.top_p, self.top_p),
            (rules.min_p, self.min_p),
        )
        return [rule(value) for rule, value in chosen if value is not None]

    @model_validator(mode="after")
    def _refuse_idle(self) -> Self:
        """Refuse what would change nothing."""
        truncations = [name for name in ("top_k", "top_p", "min_p") if getattr(self, name)]
        if self.beams is None:
            if self.length_penalty is not None:
                raise ValueError(
                    f"length_penalty={self.length_penalty:g} goes with a beam search: "
                    "give beams as well, or leave it out"
                )
            if self.greedy and truncations:
                name = truncations[0]
                raise ValueError(
                    f"{name}={getattr(self, name):g} changes nothing at temperature=0, which takes "
                    "the most probable character: leave one of them out"
                )
            return self
        drawing = ["temperature"] * ("temperature" in self.model_fields_set)
        for name in drawing + truncations:
            raise ValueError(
                f"{name}={getattr(self, name):g} is for drawing, and beams={self.beams} searches "
                "without drawing: leave one of them out"
            )
        return self
