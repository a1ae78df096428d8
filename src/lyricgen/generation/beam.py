"""Beam search for the most probable continuations, a few of each prefix at a time.

Shapes: A prefixes, K beams, B = A·K sequences, V vocabulary, P prefix characters, N new characters.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.generation.continuing import PartialBatch
from lyricgen.generation.options import LENGTH_PENALTY
from lyricgen.generation.rules import Rule
from lyricgen.models.model import NextModel, eval_mode


class Hypothesis(NamedTuple):
    """A continuation found by a beam search."""

    ids: list[int]  # new characters, without the stop; fewer than `length` if the stop ended it
    score: float  # the score by which `beam_search` orders texts


@torch.inference_mode()
def beam_search(
    model: NextModel,
    prefixes: list[Tensor],
    *,
    beams: int,
    length: int,
    rules: Sequence[Rule] = (),
    stop: int | None = None,
    stops: Sequence[int] | None = None,
    length_penalty: float = LENGTH_PENALTY,
) -> list[list[Hypothesis]]:
    """Search for the most probable continuations of each prefix.

    The K texts found for a prefix are ordered by

        score = ln p / ((5 + N) / 6)^length_penalty        (Wu et al. 2016, equation 14)

    where N counts the new characters and the stop, and p is the model's own probability. If a rule
    lowers the logit of a character, ln p falls by the same amount.

    `beams` is K; one beam finds the greedy text. With a `length_penalty` of 0 the score is ln p; a
    larger penalty favours longer texts. `rules` read B texts, each with the number of its prefix.
    They may not change all logits, as a temperature does. `continuing.continue_texts` explains the
    other arguments.

    Returns:
        For each prefix at most K continuations, the best first.

    Raises:
        ValueError: a prefix is empty.
        UserError: the rules leave no text for a prefix, or the model's training has diverged.
    """
    with eval_mode(model), progress("searching", length) as moved:
        search = _Search(model, prefixes, beams, length, stop, stops)
        for step in range(length):
            characters, parents = search.grow(rules)
            if not search.running:
                break
            moved(step + 1)
            if step + 1 < length:
                search.model.select(parents)
                search.model.step(characters)
        return search.hypotheses(length_penalty)


class _Search(PartialBatch):
    """State of a beam search: the K best texts of each prefix, some of them complete.

    At each step the best continuations of a prefix replace its texts. A text that a stop has ended
    is complete and keeps its place, so that fewer texts grow, as in Bahdanau et al. 2015.
    """

    def __init__(
        self,
        model: NextModel,
        prefixes: list[Tensor],
        beams: int,
        length: int,
        stop: int | None,
        stops: Sequence[int] | None,
    ) -> None:
        repeated = [prefix for prefix in prefixes for _ in range(beams)]
        super().__init__(model, repeated, length, stop, stops or [1] * len(prefixes))
        device = self.device
        self._numbers = torch.arange(len(prefixes), device=device)  # (A,)
        self._beams = torch.arange(beams, device=device)  # (K,)
        # (A, K), stops still to come
        self._left = torch.tensor(self.stops, device=device)[:, None].repeat(1, beams)
        # all texts of a prefix begin alike, so only the first may go on
        self._scores = torch.full((len(prefixes), beams), -torch.inf, device=device).double()
        self._scores[:, 0] = 0
        self._lengths = torch.zeros_like(self._scores)
        self._open = torch.ones_like(self._scores, dtype=torch.bool)  # not complete

    @property
    def running(self) -> bool:
        """Whether any text still grows."""
        return bool((self._open & (self._scores > -torch.inf)).any())

    def grow(self, rules: Sequence[Rule]) -> tuple[Tensor, Tensor]:
        """Replace the texts of each prefix by their K best continuations.

        Returns:
            The new characters, (B,), 0 for complete texts; and the rows, (B,), of the texts that
            they continue.

        Raises:
            UserError: the rules leave no continuation of a prefix, or the logits are NaN.
        """
        changed = self.logits(rules, self._numbers.repeat_interleave(len(self._beams)))
        total = self.model.logits.double().logsumexp(dim=-1, keepdim=True)
        # (A, K, V) ln p of each text with each next character
        scores = self._scores[..., None] + (changed - total).view(*self._scores.shape, -1)
        scores = scores.masked_fill(~self._open[..., None], -torch.inf)
        vocabulary = scores.shape[-1]
        best = scores.flatten(1).topk(len(self._beams), dim=1)  # (A, K)
        # complete texts stay in their places, the best continuations fill the others
        rank = (self._open.cumsum(dim=1) - 1).clamp(min=0)
        taken = best.indices.gather(1, rank)
        parents = torch.where(self._open, taken // vocabulary, self._beams)
        characters = torch.where(self._open, taken % vocabulary, -1)
        self._scores = torch.where(self._open, best.values.gather(1, rank), self._scores)
        self._lengths += self._open
        rows = (parents + len(self._beams) * self._numbers[:, None]).flatten()
        self.text = self.text[rows]
        self.text[:, self.start + self.step] = characters.flatten()
        if not (self._scores > -torch.inf).any(dim=1).all():
            raise self.no_character(self.step)
        self._left = self._left.gather(1, parents) - (characters == self.stop).long()
        self._open &= (self._left > 0) | (self._scores == -torch.inf)
        self.step += 1
        return characters.flatten().clamp(min=0), rows

    def hypotheses(self, length_penalty: float) -> list[list[Hypothesis]]:
        """List the texts of each prefix, the best score first."""
        scores = self._scores / ((5 + self._lengths) / 6) ** length_penalty  # (A, K)
        best = scores.argsort(dim=1, descending=True, stable=True)
        rows = best + len(self._beams) * self._numbers[:, None]
        texts = self.text[rows, self.start : self.start + self.step].tolist()  # (A, K, N)
        figures = [part.gather(1, best).tolist() for part in (scores, self._lengths)]
        return [
            [
                Hypothesis(self.cut_at_stop(text[: int(length)], number), score)
                for text, score, length in zip(*each, strict=True)
                if score > -torch.inf
            ]
            for number, each in enumerate(zip(texts, *figures, strict=True))
        ]
