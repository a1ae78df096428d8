"""Beam search: the most probable continuations of prefixes, as far as a few at a time find them.

A prefixes, K beams, B = A·K sequences, V vocabulary, P prefix characters, N new characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lyricgen.decoding.continuing import no_character, until
from lyricgen.decoding.rules import Rule, Written
from lyricgen.decoding.stepping import evaluating, right_aligned, stepper
from lyricgen.model.models import NextModel


@dataclass(frozen=True)
class Hypothesis:
    """One continuation that a beam search has found.

    Attributes:
        ids: new characters, without the stop; fewer than `length` only where the stop ended it.
        score: what the search compares, the sum of what rules made of ln p over the length penalty.
        log_probability: ln p of the new characters, the stop included where it ended the text.
    """

    ids: list[int]
    score: float
    log_probability: float


@torch.inference_mode()
def beam_search(
    model: NextModel,
    prefixes: list[Tensor],
    *,
    beams: int,
    length: int,
    rules: Sequence[Rule] = (),
    stop: int | None = None,
    length_penalty: float = 0.6,
) -> list[list[Hypothesis]]:
    """Search for the most probable continuations of each prefix.

    The K best texts of a prefix are kept at each step. One that ends by the stop is complete and
    keeps its place, so that the others have one place less (as in Bahdanau et al. 2015); at most
    `length` characters later all are complete. They are then ordered by

        score = ln p / ((5 + N) / 6)^length_penalty        (Wu et al. 2016, equation 14)

    where N counts new characters and the stop. ln p is the model's own for what the rules let
    stand: a rule that only forbids leaves the probabilities of the others as they are, one that
    lowers logits, as a repetition penalty does, lowers ln p by as much.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: A tensors (P,) of at least one input id each, on the CPU.
        beams: K; with 1 the text is the greedy one.
        length: new characters at most.
        rules: what is done to the logits, one after the other: none that moves all of them, as a
            temperature does. They are told texts as B = A·K rows; the number of a row is that of
            its prefix.
        stop: a character that ends a text; it is not part of it.
        length_penalty: 0 for none; larger ones favour longer texts.

    Returns:
        For each prefix at most K continuations, the best first.

    Raises:
        ValueError: an empty prefix.
        UserError: the rules leave no text for one of the prefixes.
    """
    with evaluating(model):
        return _Search(model, prefixes, beams, length, list(rules), stop).run(length_penalty)


class _Search:
    """What a search knows: B texts, their sums (A, K) and which of them still run."""

    def __init__(
        self,
        model: NextModel,
        prefixes: list[Tensor],
        beams: int,
        length: int,
        rules: list[Rule],
        stop: int | None,
    ) -> None:
        device, number = model.device, len(prefixes)
        repeated = [prefix for prefix in prefixes for _ in range(beams)]
        self.texts = stepper(model, repeated, length)
        self.rules, self.stop, self.length = rules, stop, length
        self.beams, self.number = beams, number
        prefix = right_aligned(repeated).to(device)  # (B, P)
        self.start = prefix.shape[1]
        self.text = torch.cat([prefix, prefix.new_full((len(prefix), length), -1)], dim=1)
        self.rows = torch.arange(number, device=device).repeat_interleave(beams)  # (B,)
        # all beams of a prefix begin alike, so only the first counts
        self.sums = torch.full((number, beams), -torch.inf, dtype=torch.float64, device=device)
        self.sums[:, 0] = 0
        self.nats = torch.zeros_like(self.sums)  # the model's own -ln p
        self.lengths = torch.zeros(number, beams, dtype=torch.int64, device=device)
        self.running = torch.ones(number, beams, dtype=torch.bool, device=device)

    def run(self, length_penalty: float) -> list[list[Hypothesis]]:
        for step in range(self.length):
            characters, parents = self._best(step)
            if not (self.sums > -torch.inf).any(dim=1).all():
                raise no_character(step)
            if not (self.running & (self.sums > -torch.inf)).any():
                break
            if step + 1 < self.length:
                self.texts.select(parents)
                self.texts.step(characters)
        scores = self.sums / ((5 + self.lengths.double()) / 6) ** length_penalty  # (A, K)
        return [self._ordered(number, scores[number].tolist()) for number in range(self.number)]

    def _best(self, step: int) -> tuple[Tensor, Tensor]:
        """Go on to the K best; gives their last characters and what row each goes on from, (B,)."""
        written = Written(self.text[:, : self.start + step], step, self.rows)
        changed = self.texts.logits
        for rule in self.rules:
            changed = rule(changed, written)
        shape = (self.number, self.beams, -1)
        log_sum = self.texts.logits.double().logsumexp(dim=-1, keepdim=True)
        grown = self.sums[..., None] + (changed - log_sum).view(shape)  # (A, K, V)
        # a complete text has one way to go on: as it is, before all others
        vocabulary = grown.shape[-1]
        complete = ~self.running[..., None]
        grown = grown.masked_fill(complete, -torch.inf)
        order = grown.flatten(1).topk(self.beams, dim=1)  # (A, K)
        # the complete ones keep their places, the best of the others take the rest
        place = self.running.long().cumsum(dim=1) - 1  # (A, K)
        taken = order.indices.gather(1, place.clamp(min=0))
        own = torch.arange(self.beams, device=taken.device).expand_as(taken)
        parents = (taken // vocabulary).where(self.running, own)  # (A, K)
        characters = (taken % vocabulary).where(self.running, 0)
        new_sums = order.values.gather(1, place.clamp(min=0)).where(self.running, self.sums)
        rows = (parents + self.beams * torch.arange(self.number, device=own.device)[:, None]).view(
            -1
        )
        increment = (log_sum - self.texts.logits)[rows].gather(1, characters.view(-1, 1))
        self.nats = self.nats.gather(1, parents) + increment.view_as(self.nats).where(
            self.running, 0
        )
        self.text = self.text[rows]
        self.text[:, self.start + step] = characters.view(-1).where(self.running.view(-1), -1)
        self.lengths += self.running
        self.sums = new_sums
        if self.stop is not None:
            self.running &= (characters != self.stop) | (new_sums == -torch.inf)
        return characters.view(-1), rows

    def _ordered(self, number: int, scores: list[float]) -> list[Hypothesis]:
        found = []
        for beam in sorted(range(self.beams), key=lambda one: -scores[one]):
            if scores[beam] == -torch.inf:
                break
            row = self.text[number * self.beams + beam, self.start :]
            ids = row[: int(self.lengths[number, beam])].tolist()
            ids = ids if self.stop is None else until(ids, self.stop)
            found.append(Hypothesis(ids, scores[beam], -float(self.nats[number, beam])))
        return found
