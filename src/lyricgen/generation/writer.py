"""Continuing prefixes with a trained model: its constraints, its strategy, its stop together.

B texts, V vocabulary.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from lyricgen.errors import UserError
from lyricgen.generation.beam import beam_search
from lyricgen.generation.constraints import Constraints, unless_empty
from lyricgen.generation.continuing import continue_texts
from lyricgen.generation.control import Control
from lyricgen.generation.draws import draw_uniforms
from lyricgen.generation.options import Generator
from lyricgen.generation.planning import constrain
from lyricgen.generation.rules import Rule
from lyricgen.generation.strategy import LENGTH_PENALTY, Strategy
from lyricgen.models.model import NextModel
from lyricgen.models.trained_model import TrainedModel

LARGEST = 2**24  # logits of one batch
MOST_CHARACTERS = 10**8  # of all texts together, which are held in memory

Watch = Callable[[str], None]


@dataclass(frozen=True)
class Continuation:
    """Continuation of one prefix.

    Attributes:
        prefix: as the model reads it.
        shown: ids of the new characters.
        scored: the same with the stop that ended the text, if any.
        ended: whether the text has come to the end of its line, or of its last line, or was cut
            off; None for running text, which has no end.
        score: by which a beam search ordered it.
    """

    prefix: str
    shown: list[int]
    scored: list[int]
    ended: bool | None
    score: float | None = None


@dataclass(frozen=True)
class Writer:
    """Writes texts with a model as `texts.continue_prefixes` was asked to.

    Attributes:
        network: the model's own, which predicts the next character.
    """

    model: TrainedModel
    network: NextModel
    strategy: Strategy
    control: Control
    length: int | None
    generator: Generator
    watch: Watch | None = None

    def draw(self, prefixes: Sequence[str], seeds: Sequence[int]) -> list[Continuation]:
        """Continue B prefixes, each by random numbers from a seed of its own."""
        at_once = max(1, LARGEST // len(self.model.vocabulary))
        batches = [prefixes[start : start + at_once] for start in range(0, len(prefixes), at_once)]
        # of all batches first: impossible texts are refused before any is written
        planned = [self.constraints(batch) for batch in batches]
        characters = sum(max(one.lengths) * len(one.lengths) for one in planned)
        if characters > MOST_CHARACTERS:
            raise UserError(
                f"{len(prefixes):,} texts of up to {max(planned[0].lengths):,} characters are more "
                f"than {MOST_CHARACTERS:,} in all: ask for fewer, or shorter ones, at a time"
            )
        remaining = iter(seeds)
        return [
            written
            for batch, constraints in zip(batches, planned, strict=True)
            for written in self._draw_batch(batch, list(islice(remaining, len(batch))), constraints)
        ]

    def search(self, prefixes: Sequence[str], best: int) -> list[Continuation]:
        """The best continuations of each of A prefixes that a beam search finds, side by side."""
        lengths = self.constraints(prefixes).lengths
        found: dict[int, list[Continuation]] = {}
        for length in dict.fromkeys(lengths):  # a search ends all its texts at one length
            rows = [row for row, one in enumerate(lengths) if one == length]
            searched = self._search_group([prefixes[row] for row in rows], length)
            found.update(zip(rows, searched, strict=True))
        return [one for row in range(len(prefixes)) for one in found[row][:best]]

    def decode(self, ids: list[int]) -> str:
        """The characters of new ids."""
        return self.model.vocabulary.decode(torch.tensor(ids, dtype=torch.int64))

    def constraints(self, prefixes: Sequence[str]) -> Constraints:
        """Constraints for continuations of these prefixes; see `planning.constrain`."""
        return constrain(self.model, self.control, prefixes, self.length)

    def _rules(self, constraints: Constraints) -> list[Rule]:
        """Constraints first, so that a strategy chooses among what they allow."""
        chosen = self.strategy.rules()
        if constraints.rules and self.strategy.no_repeat_ngram is not None:
            return [unless_empty(constraints.rules, chosen)]
        return [*constraints.rules, *chosen]

    def _draw_batch(
        self, prefixes: Sequence[str], seeds: list[int], constraints: Constraints
    ) -> list[Continuation]:
        length, watch = max(constraints.lengths), self.watch
        random, characters = self.strategy.random, self.model.vocabulary.characters
        rows = continue_texts(
            self.network,
            [self.model.encode_prefix(prefix) for prefix in prefixes],
            rules=self._rules(constraints),
            uniforms=draw_uniforms(self.generator, seeds, length) if random else None,
            length=length,
            stop=constraints.stop,
            stops=constraints.stops,
            # the first text alone
            watch=None if watch is None else lambda _, ids: watch(characters[int(ids[0])]),
        )
        return [
            _continuation(prefix, constraints, row, ids, length)
            for row, (prefix, ids) in enumerate(zip(prefixes, rows, strict=True))
        ]

    def _search_group(self, prefixes: Sequence[str], length: int) -> list[list[Continuation]]:
        constraints = self.constraints(prefixes)
        strategy = self.strategy
        penalty = LENGTH_PENALTY if strategy.length_penalty is None else strategy.length_penalty
        found = beam_search(
            self.network,
            [self.model.encode_prefix(prefix) for prefix in prefixes],
            beams=strategy.beams or 1,
            length=length,
            rules=self._rules(constraints),
            stop=constraints.stop,
            stops=constraints.stops,
            length_penalty=penalty,
        )
        return [
            [
                replace(_continuation(prefix, constraints, row, one.ids, length), score=one.score)
                for one in hypotheses
            ]
            for row, (prefix, hypotheses) in enumerate(zip(prefixes, found, strict=True))
        ]


def text_seed(seed: int, prefix: str, index: int) -> int:
    """The seed of text number `index` of a prefix, whatever the others are."""
    # 32 bits, of which torch's generator uses no more
    return zlib.crc32(f"{seed} {index} {prefix}".encode(errors="surrogatepass"))


def _continuation(
    prefix: str, constraints: Constraints, row: int, ids: list[int], length: int
) -> Continuation:
    shown = ids[: constraints.lengths[row]]
    if constraints.stop is None:
        return Continuation(prefix, shown, shown, constraints.complete or None)
    if len(ids) == length:
        return Continuation(prefix, shown, shown, ended=False)
    # fewer than were asked for only where the stop ended them
    return Continuation(prefix, shown, [*shown, constraints.stop], ended=True)
