"""Beam search: the most probable continuations of prefixes, as far as a few at a time find them.

A prefixes, K beams, B = A·K sequences, V vocabulary, P prefix characters, N new characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.generation.continuing import PartialBatch, no_character, until
from lyricgen.generation.rules import Rule
from lyricgen.generation.strategy import LENGTH_PENALTY
from lyricgen.models.model import NextModel, evaluating


@dataclass(frozen=True)
class Hypothesis:
    """One continuation that a beam search has found.

    Attributes:
        ids: new characters, without the stop; fewer than `length` only where the stop ended it.
        score: by which the search orders texts: the sum of ln p, as rules have changed it, over the
            length penalty.
    """

    ids: list[int]
    score: float


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

    At last the K best texts of each are ordered by

        score = ln p / ((5 + N) / 6)^length_penalty        (Wu et al. 2016, equation 14)

    where N counts new characters and the stop, and ln p is the model's own, less what rules have
    lowered: one that only forbids changes nothing for the other characters.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: A tensors (P,) of at least one input id each, on the CPU.
        beams: K; with 1 the text is the greedy one.
        length: new characters at most.
        rules: applied to the logits, one after the other: none that moves all of them, as a
            temperature does. They get the texts as B = A·K rows; the number of a row is that of
            its prefix.
        stop: a character that ends a text; it is not part of it.
        stops: A, at which of its stops, counted from 1, each text ends; None for the first.
        length_penalty: 0 for none; larger ones favour longer texts.

    Returns:
        For each prefix at most K continuations, the best first.

    Raises:
        ValueError: an empty prefix.
        UserError: the rules leave no text for one of the prefixes.
    """
    with evaluating(model), progress("searching", length) as moved:
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
    """The K best texts of each of A prefixes, some of them complete.

    At each step the K best of a prefix go on. One that ends by the stop is complete and keeps its
    place, so that one less goes on (as in the decoder of Bahdanau et al. 2015).
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
        super().__init__(model, repeated, length)
        device = self.model.logits.device
        self._numbers = torch.arange(len(prefixes), device=device)  # (A,)
        self._places = torch.arange(beams, device=device)  # (K,)
        self._stop = -1 if stop is None else stop
        self._stops = list(stops or [1] * len(prefixes))  # (A,)
        wanted = torch.tensor(self._stops, device=device)[:, None]
        self._left = wanted.repeat(1, beams)  # (A, K), stops that are still to come
        # all texts of a prefix begin alike, so only the first may go on
        self._scores = torch.full((len(prefixes), beams), -torch.inf, device=device).double()
        self._scores[:, 0] = 0
        self._lengths = torch.zeros_like(self._scores)
        self._open = torch.ones_like(self._scores, dtype=torch.bool)  # not complete

    @property
    def running(self) -> bool:
        """Whether any text goes on."""
        return bool((self._open & (self._scores > -torch.inf)).any())

    def grow(self, rules: Sequence[Rule]) -> tuple[Tensor, Tensor]:
        """Choose the K best from all that could come next.

        Returns:
            The last characters (B,), and which of the rows before they go on from, (B,).

        Raises:
            UserError: the rules leave nothing of a prefix.
        """
        scores = self._grown(rules)  # (A, K, V)
        vocabulary = scores.shape[-1]
        best = scores.flatten(1).topk(len(self._places), dim=1)  # (A, K)
        # the complete texts stay where they are, the best of the others fill the other places
        rank = (self._open.cumsum(dim=1) - 1).clamp(min=0)
        taken = best.indices.gather(1, rank)
        parents = torch.where(self._open, taken // vocabulary, self._places)
        characters = torch.where(self._open, taken % vocabulary, -1)
        self._scores = torch.where(self._open, best.values.gather(1, rank), self._scores)
        self._lengths += self._open
        rows = (parents + len(self._places) * self._numbers[:, None]).flatten()
        self.text = self.text[rows]
        self.text[:, self.start + self.step] = characters.flatten()
        if not (self._scores > -torch.inf).any(dim=1).all():
            raise no_character(self.step, self.model.logits)
        self._left = self._left.gather(1, parents) - (characters == self._stop).long()
        self._open &= (self._left > 0) | (self._scores == -torch.inf)
        self.step += 1
        return characters.flatten().clamp(min=0), rows

    def _grown(self, rules: Sequence[Rule]) -> Tensor:
        """Sum of each text continued by each character, (A, K, V)."""
        changed = self.logits(rules, self._numbers.repeat_interleave(len(self._places)))
        total = self.model.logits.double().logsumexp(dim=-1, keepdim=True)
        grown = self._scores[..., None] + (changed - total).view(*self._scores.shape, -1)
        return grown.masked_fill(~self._open[..., None], -torch.inf)

    def hypotheses(self, length_penalty: float) -> list[list[Hypothesis]]:
        """The texts of each prefix, the best first."""
        scores = self._scores / ((5 + self._lengths) / 6) ** length_penalty  # (A, K)
        best = scores.argsort(dim=1, descending=True, stable=True)
        rows = best + len(self._places) * self._numbers[:, None]
        texts = self.text[rows, self.start : self.start + self.step].tolist()  # (A, K, N)
        figures = [part.gather(1, best).tolist() for part in (scores, self._lengths)]
        return [
            [
                Hypothesis(until(text[: int(length)], self._stop, number), score)
                for text, score, length in zip(*each, strict=True)
                if score > -torch.inf
            ]
            for number, *each in zip(self._stops, texts, *figures, strict=True)
        ]
