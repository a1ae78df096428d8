"""Rules, which change the logits of the next character, one after the other.

A strategy's rules reshape the distribution; a constraint's rules forbid characters. B sequences, R
requested texts, V vocabulary, N characters so far, T new characters, M sets of characters, E ends
of lines.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lyricgen.generation.options import Strategy


@dataclass(frozen=True)
class PartialTexts:
    """The texts so far, before the next character of each is chosen."""

    text: Tensor  # (B, N) int64: -1 before shorter prefixes, the prefix, the chosen characters
    step: int  # number of characters chosen so far, the same for all sequences
    rows: Tensor  # (B,) int64, number of the requested text of each row; its beams share one number


# (B, V) logits -> new (B, V) logits, -inf for forbidden characters
Rule = Callable[[Tensor, PartialTexts], Tensor]


def strategy_rules(strategy: Strategy) -> list[Rule]:
    """Make the rules of a strategy, in the order in which they apply.

    Rules that read the text so far come first and change the model's own logits. Truncations come
    last, after the temperature.
    """
    chosen: tuple[tuple[Callable[[Any], Rule], float | None], ...] = (
        (repetition_penalty, strategy.repetition_penalty),
        (no_repeat_ngram, strategy.no_repeat_ngram),
        (temperature, strategy.temperature if strategy.random else None),
        (top_k, strategy.top_k),
        (top_p, strategy.top_p),
        (min_p, strategy.min_p),
    )
    return [rule(value) for rule, value in chosen if value is not None]


def scale_logits(logits: Tensor, temperature: float) -> Tensor:
    """Divide logits, (B, V), by a temperature above 0; a tiny temperature also shifts each row."""
    if 1 / temperature < torch.finfo(logits.dtype).max ** 0.5:
        return logits / temperature
    # the largest becomes 0, so that a temperature near 0 makes no logit +inf
    return (logits - logits.amax(dim=-1, keepdim=True)) / max(temperature, 1e-30)


def temperature(value: float) -> Rule:
    """Make a rule that divides logits by `value`; above 1 the text varies more, below 1 less."""
    return lambda logits, _: scale_logits(logits, value)


def top_k(k: int) -> Rule:
    """Make a rule that keeps the k most probable characters, and any that tie with the last."""

    def rule(logits: Tensor, _: PartialTexts) -> Tensor:
        if k >= logits.shape[-1]:
            return logits
        last = logits.topk(k, dim=-1).values[:, -1:]  # (B, 1)
        return logits.masked_fill(logits < last, -torch.inf)

    return rule


def top_p(p: float) -> Rule:
    """Make a rule that keeps the fewest characters whose probabilities add up to p or more.

    This is nucleus sampling (Holtzman et al. 2020). Ties with the last kept character are kept,
    too.
    """

    def rule(logits: Tensor, _: PartialTexts) -> Tensor:
        if p >= 1:
            return logits
        ordered = logits.sort(dim=-1, descending=True).values  # (B, V)
        # a character is kept if those before it add up to less than p; so the first always is
        before_last = ordered.softmax(dim=-1).cumsum(dim=-1)[:, :-1]
        kept = (before_last < p).sum(dim=-1, keepdim=True)  # (B, 1), without the first
        return logits.masked_fill(logits < ordered.gather(-1, kept), -torch.inf)

    return rule


def min_p(p: float) -> Rule:
    """Make a rule that keeps characters with at least p times the largest probability.

    Source: Nguyen et al. 2024.
    """

    def rule(logits: Tensor, _: PartialTexts) -> Tensor:
        least = logits.amax(dim=-1, keepdim=True) + math.log(p)
        return logits.masked_fill(logits < least, -torch.inf)

    return rule


def repetition_penalty(value: float) -> Rule:
    """Make a rule that lowers the logits of characters in the text so far, by a value above 1.

    Positive logits are divided by the value, negative logits multiplied by it (Keskar et al. 2019,
    equation 2). The text includes its prefix.
    """

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        penalised = torch.where(logits > 0, logits / value, logits * value)
        return torch.where(_mark_characters(written.text, logits), penalised, logits)

    return rule


def no_repeat_ngram(n: int) -> Rule:
    """Make a rule that lets no n characters in a row occur twice in a text.

    The text includes its prefix. Source, for n = 3: Paulus et al. 2018, section 2.5.
    """

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        text = written.text
        if text.shape[1] < n:
            return logits
        grams = text.unfold(1, n, 1)  # (B, N - n + 1, n)
        context = text[:, text.shape[1] - n + 1 :][:, None]  # (B, 1, n - 1)
        repeated = ((grams[..., :-1] == context) & (context >= 0)).all(dim=-1)
        forbidden = _mark_characters(grams[..., -1].where(repeated, -1), logits)
        return logits.masked_fill(forbidden, -torch.inf)

    return rule


def _mark_characters(characters: Tensor, logits: Tensor) -> Tensor:
    """Mark the characters (B, N) of each row in (B, V) booleans; -1 and the id V mark nothing."""
    rows, vocabulary = logits.shape
    marked = torch.zeros(rows, vocabulary + 2, dtype=torch.bool, device=logits.device)
    return marked.scatter_(1, characters + 1, True)[:, 1:-1]


def _mask(allowed: Tensor) -> Tensor:
    """Convert booleans, (…, V), to numbers to add to logits: 0 for true, -inf for false."""
    return torch.zeros_like(allowed, dtype=torch.float32).masked_fill_(~allowed, -torch.inf)


def allow_only(allowed: Tensor) -> Rule:
    """Make a rule that allows only some characters, (V,) booleans, at every place."""
    added = _mask(allowed)
    return lambda logits, _: logits + added


def allow_planned(allowed: Tensor, plan: Tensor) -> Rule:
    """Make a rule that allows at each place one of several sets of characters.

    Args:
        allowed: (M, V) booleans, the sets.
        plan: (R, T) int64, number of the set for each new character of each text.
    """
    masks = _mask(allowed)
    return lambda logits, written: logits + masks[plan[written.rows, written.step]]


def join_characters(character: int, other: int) -> Rule:
    """Make a rule that gives the probability of a character, by its id, to another one."""

    def rule(logits: Tensor, _: PartialTexts) -> Tensor:
        joined = logits.clone()
        joined[:, other] = logits[:, character].logaddexp(logits[:, other])
        joined[:, character] = -torch.inf
        return joined

    return rule


def require_rhyme(classes: Tensor, ends: Tensor) -> Rule:
    """Make a rule that lets the last characters of all lines rhyme and differ.

    Args:
        classes: (V,) int64, the rhyme class of each character.
        ends: (R, E) int64, rising positions of the last characters of lines. The first new
            character is at position 0; positions in the prefix are negative. The first line is not
            constrained.
    """
    steps = frozenset(ends.flatten().tolist())

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        text, step = written.text, written.step
        if step not in steps:
            return logits
        positions = ends[written.rows]  # (B, E)
        earlier = positions < step
        due = (positions == step).any(dim=1) & earlier[:, 0]  # (B,)
        first_new = text.shape[1] - step
        last = text.gather(1, (first_new + positions).clamp(0, text.shape[1] - 1))  # (B, E)
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
    """Make a rule for non-empty lines of any length; each has its own set of first characters.

    Args:
        allowed: (M, V) booleans: the line break, characters within a line, then sets of first
            characters.
        heads: for each line, the row of `allowed` with the set of its first characters.
        line_break: id of the line break.
        begun: (R,) int64, line breaks in the prefix.
        at_start: (R,) booleans, whether the next character begins a line.
        finish_by: number of new characters within which the last line must have begun.
    """
    masks = _mask(allowed)
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


def unless_empty(constraints: Sequence[Rule], preferences: Sequence[Rule]) -> Rule:
    """Make a rule that applies constraints, and then each preference that leaves a character."""

    def rule(logits: Tensor, written: PartialTexts) -> Tensor:
        for constraint in constraints:
            logits = constraint(logits, written)
        for preference in preferences:
            changed = preference(logits, written)
            empty = changed.amax(dim=-1, keepdim=True) == -torch.inf
            logits = logits.where(empty, changed)
        return logits

    return rule
