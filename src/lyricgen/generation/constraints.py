"""Constraints: rules that forbid all but some characters at a place of a text.

B sequences, R requested texts, N characters so far, T new characters, V vocabulary,
M sets of characters, E line ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lyricgen.errors import UserError
from lyricgen.generation.control import Control
from lyricgen.generation.rules import PartialTexts, Rule
from lyricgen.models.trained_model import TrainedModel


@dataclass(frozen=True)
class Request:
    """Texts that a user asks of a model.

    Attributes:
        model: writes them.
        control: what they must be like.
        prefixes: R, as the model reads them; they need not obey `ban` and `only`.
        length: new characters at most; None for the model's default, or for what `control` needs.
        allowed: (V,) booleans, the characters that `ban` and `only` leave, on the device of the
            logits.
    """

    model: TrainedModel
    control: Control
    prefixes: Sequence[str]
    length: int | None
    allowed: Tensor

    def check_any(self, characters: Tensor, purpose: str) -> None:
        """See that some characters, (V,) booleans, are left for a purpose.

        Raises:
            UserError: none is.
        """
        if not characters.any():
            raise UserError(f"{self.control.sets} leaves no character {purpose}: allow some")


@dataclass(frozen=True)
class Constraints:
    """Constraints at each place of R texts, and where the texts end.

    Attributes:
        rules: forbid all other characters, in this order.
        lengths: R, new characters of each text at most, a stop included.
        stop: a character that ends a text; None for none.
        stops: R, at which of its stops in the new characters, from 1, each text ends.
        complete: whether a text that has its length ends there, not cut off.
    """

    rules: list[Rule]
    lengths: list[int]
    stop: int | None
    stops: list[int]
    complete: bool = False


def mask(allowed: Tensor) -> Tensor:
    """Turn (…, V) booleans into summands of logits: 0 where true, -inf elsewhere."""
    return torch.zeros_like(allowed, dtype=torch.float32).masked_fill_(~allowed, -torch.inf)


def only(allowed: Tensor) -> Rule:
    """Allow these characters, (V,) booleans, everywhere."""
    added = mask(allowed)
    return lambda logits, _: logits + added


def planned(allowed: Tensor, plan: Tensor) -> Rule:
    """Allow at every place what a plan says.

    Args:
        allowed: (M, V) booleans, sets of characters.
        plan: (R, T) int64, which of the sets holds for the T-th new character of a text.
    """
    masks = mask(allowed)

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        return logits + masks[plan[written.rows, written.step]]

    return rule


def rhyming(classes: Tensor, ends: Tensor) -> Rule:
    """Let the last characters of lines rhyme with that of the first line, and none come twice.

    Args:
        classes: (V,) int64, the rhyme of each character.
        ends: (R, E) int64, the last characters of a text's lines, counted in new characters from
            0, rising; negative where the prefix has them. The first is left as it is.
    """
    steps = frozenset(ends.flatten().tolist())

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        text, step = written.text, written.step
        if step not in steps:
            return logits
        places = ends[written.rows]  # (B, E)
        earlier = places < step
        due = (places == step).any(dim=1) & earlier[:, 0]  # (B,)
        first_new = text.shape[1] - step
        last = text.gather(1, (first_new + places).clamp(0, text.shape[1] - 1))  # (B, E)
        last = last.where(earlier, last[:, :1])
        known = last.clamp(min=0)  # a row that is not due may have nothing there
        forbidden = classes != classes[known[:, :1]]  # (B, V)
        forbidden.scatter_(1, known, True)
        return logits.masked_fill(forbidden & due[:, None], -torch.inf)

    return rule


def free_lines(
    allowed: Tensor,
    heads: Sequence[int],
    *,
    line_break: int,
    begun: Tensor,
    at_start: Tensor,
    finish_by: int,
) -> Rule:
    """Lines of any length: each begins as it should, and none is empty.

    Args:
        allowed: (M, V) booleans: the line break, what may stand within a line, then what lines may
            begin with.
        heads: for each line the number of its beginning's set.
        line_break: its id.
        begun: (R,) int64, line breaks in the prefix.
        at_start: (R,) booleans, whether a line is to begin at once.
        finish_by: T, by which every line shall have begun.
    """
    masks = mask(allowed)
    sets = torch.tensor([*heads, 0], device=allowed.device)

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        new = written.text[:, written.text.shape[1] - written.step :] == line_break
        line = begun[written.rows] + new.sum(dim=1)  # (B,), from 0
        fresh = new[:, -1] if written.step else at_start[written.rows]
        chosen = sets[line.clamp(max=len(heads))].where(fresh, 1)
        needed = 2 * (len(heads) - 1 - line)  # a break and a character for each line to come
        chosen = chosen.where(fresh | (needed < finish_by - written.step), 0)
        return logits + masks[chosen]

    return rule


def unless_empty(constraints: Sequence[Rule], others: Sequence[Rule]) -> Rule:
    """Constraints, then other rules, each where it leaves something: a constraint wins over it."""

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        for one in constraints:
            logits = one(logits, written)
        for one in others:
            changed = one(logits, written)
            empty = changed.amax(dim=-1, keepdim=True) == -torch.inf
            logits = logits.where(empty, changed)
        return logits

    return rule
