"""How characters are chosen, as a user names it."""

from pydantic import Field

from lyricgen.decoding.rules import Rule, temperature
from lyricgen.options import Options


class Strategy(Options):
    """How the next character is chosen from the logits.

    Attributes:
        temperature: of the softmax; 0 takes the most probable character each time.
    """

    temperature: float = Field(0.8, ge=0, allow_inf_nan=False)

    @property
    def greedy(self) -> bool:
        """Whether no random numbers are used."""
        return self.temperature == 0

    def rules(self) -> list[Rule]:
        """What is done to the logits, in this order."""
        return [] if self.greedy else [temperature(self.temperature)]
