"""Writer of texts under constraints and by a strategy, and of new names.

Shapes: A prefixes, B texts.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from lyricgen.errors import UserError
from lyricgen.generation.beam import beam_search
from lyricgen.generation.continuing import continue_texts, draw_uniforms
from lyricgen.generation.options import LENGTH_PENALTY, Control, Generator, Strategy
from lyricgen.generation.planning import Constraints, constrain_names, constrain_text, request_texts
from lyricgen.generation.rules import Rule, strategy_rules, unless_empty
from lyricgen.generation.verse import constrain_lines
from lyricgen.models.model import NextModel
from lyricgen.models.trained_model import TrainedModel

MOST_LOGITS = 2**24  # most logits of one batch
MOST_CHARACTERS = 10**8  # most characters of all texts together, which are held in memory
TRIES = 20  # most draws for each new name

Watch = Callable[[str], None]


@dataclass(frozen=True)
class Continuation:
    """Continuation of one prefix; `texts.GeneratedText` explains all fields but `scored`."""

    prefix: str
    text: str
    scored: list[int]  # ids of the new characters, with the stop if it ended the text
    ended: bool | None
    score: float | None = None


@dataclass(frozen=True)
class Writer:
    """Writer of texts with a model; `texts.continue_prefixes` explains the fields."""

    model: TrainedModel
    network: NextModel  # the network of the model
    strategy: Strategy
    control: Control
    length: int | None
    generator: Generator
    watch: Watch | None = None
    stop: str | None = None  # text before which each text ends

    def draw(self, prefixes: Sequence[str], seeds: Sequence[int]) -> list[Continuation]:
        """Continue each prefix with random numbers from its own seed.

        Raises:
            UserError: the texts are too many to hold in memory; or as for `constraints`,
                `TrainedModel.encode_prefix` and `continue_texts`.
        """
        at_once = max(1, MOST_LOGITS // len(self.model.vocabulary))
        batches = [prefixes[start : start + at_once] for start in range(0, len(prefixes), at_once)]
        # all batches are planned first: impossible texts are refused before any is written
        plans = [self.constraints(batch) for batch in batches]
        characters = sum(max(one.lengths) * len(one.lengths) for one in plans)
        if characters > MOST_CHARACTERS:
            raise UserError(
                f"{len(prefixes):,} texts of up to {max(plans[0].lengths):,} characters are more "
                f"than {MOST_CHARACTERS:,} in all: ask for fewer, or shorter ones, at a time"
            )
        remaining = iter(seeds)
        return [
            written
            for batch, plan in zip(batches, plans, strict=True)
            for written in self._draw_batch(batch, list(islice(remaining, len(batch))), plan)
        ]

    def search(self, prefixes: Sequence[str], best: int) -> list[Continuation]:
        """Continue prefixes by beam search; keep at most `best` texts of each, the best first.

        The texts stand in the order of their prefixes. `constraints`,
        `TrainedModel.encode_prefix` and `beam_search` explain the errors.
        """
        lengths = self.constraints(prefixes).lengths
        found: dict[int, list[Continuation]] = {}
        for length in dict.fromkeys(lengths):  # a search ends all its texts at one length
            rows = [row for row, one in enumerate(lengths) if one == length]
            searched = self._search_group([prefixes[row] for row in rows], length)
            found.update(zip(rows, searched, strict=True))
        return [one for row in range(len(prefixes)) for one in found[row][:best]]

    def constraints(self, prefixes: Sequence[str]) -> Constraints:
        """Plan the constraints on continuations of some prefixes.

        Raises:
            UserError: no text can obey the constraints, they do not suit the model, they contradict
                the prefixes, the length or each other, or --rhyme lacks its package.
        """
        request = request_texts(self.model, self.control, prefixes, self.length)
        if self.control.number_of_lines is not None or self.control.line_length is not None:
            return constrain_lines(request)
        return constrain_text(request) if self.model.end is None else constrain_names(request)

    def _rules(self, constraints: Constraints) -> list[Rule]:
        """Join the rules of constraints and of the strategy, constraints first."""
        chosen = strategy_rules(self.strategy)
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
            ending=None if self.stop is None else self.model.vocabulary.encode(self.stop).long(),
            # shows the first text only
            watch=None if watch is None else lambda _, ids: watch(characters[int(ids[0])]),
        )
        return [
            self._continuation(prefix, constraints, row, ids, length)
            for row, (prefix, ids) in enumerate(zip(prefixes, rows, strict=True))
        ]

    def _search_group(self, prefixes: Sequence[str], length: int) -> list[list[Continuation]]:
        constraints, penalty = self.constraints(prefixes), self.strategy.length_penalty
        found = beam_search(
            self.network,
            [self.model.encode_prefix(prefix) for prefix in prefixes],
            beams=self.strategy.beams or 1,
            length=length,
            rules=self._rules(constraints),
            stop=constraints.stop,
            stops=constraints.stops,
            length_penalty=LENGTH_PENALTY if penalty is None else penalty,
        )
        return [
            [
                self._continuation(prefix, constraints, row, one.ids, length, one.score)
                for one in hypotheses
            ]
            for row, (prefix, hypotheses) in enumerate(zip(prefixes, found, strict=True))
        ]

    def _continuation(
        self,
        prefix: str,
        constraints: Constraints,
        row: int,
        ids: list[int],
        length: int,
        score: float | None = None,
    ) -> Continuation:
        new = ids[: constraints.lengths[row]]
        written = self.model.vocabulary.decode(torch.tensor(new, dtype=torch.int64))
        text = prefix + written
        if self.stop is not None and self.stop in written:
            before = written.index(self.stop)
            scored = new[: before + len(self.stop)]
            return Continuation(prefix, prefix + written[:before], scored, ended=True)
        if constraints.stop is None:
            return Continuation(prefix, text, new, constraints.complete or None, score)
        # only the stop ends a text before its length
        ended = len(ids) < length
        return Continuation(prefix, text, new + [constraints.stop] * ended, ended, score)


def text_seed(seed: int, prefix: str, index: int) -> int:
    """Derive the seed of text number `index` of a prefix; it does not depend on other texts."""
    # 32 bits, since torch's generator uses no more
    return zlib.crc32(f"{seed} {index} {prefix}".encode(errors="surrogatepass"))


def draw_new_names(
    writer: Writer, prefixes: Sequence[str], count: int, seed: int
) -> list[Continuation]:
    """Draw new names for each prefix: all different, and none of them in the training split.

    A known name, or a name that was cut off, is thrown away; the next name is drawn with the next
    seed. A prefix gets at most `TRIES` draws for each of `count` names.

    Returns:
        The names prefix by prefix, `count` of each.

    Raises:
        UserError: too few new names were found, the strategy does not draw, `training_names` cannot
            read the names, or `Writer.draw` refuses the texts.
    """
    if not writer.strategy.random:
        raise UserError(
            f"--novel draws names until they are new, and {writer.strategy.name} draws "
            "nothing: give a --temperature above 0, without --beams"
        )
    from lyricgen.generation.training_text import training_names  # noqa: PLC0415  heavy

    writer.constraints(prefixes)  # refuses impossible names before a corpus is read
    seen = set(training_names(writer.model))
    found: list[list[Continuation]] = [[] for _ in prefixes]
    drawn, cut, most = [0] * len(prefixes), [0] * len(prefixes), count * TRIES
    while True:
        asked = []
        for number, known in enumerate(found):
            missing = count - len(known)
            draws = max(16, 2 * missing) if drawn[number] and missing else missing
            upto = min(drawn[number] + draws, most)
            asked += [(number, index) for index in range(drawn[number], upto)]
            drawn[number] = upto
        if not asked:
            break
        seeds = [text_seed(seed, prefixes[number], index) for number, index in asked]
        texts = writer.draw([prefixes[number] for number, _ in asked], seeds)
        for (number, _), one in zip(asked, texts, strict=True):
            cut[number] += not one.ended
            if one.ended and one.text not in seen and len(found[number]) < count:
                seen.add(one.text)
                found[number].append(one)
    for prefix, known, number_cut in zip(prefixes, found, cut, strict=True):
        if len(known) < count:
            raise _few_names_error(prefix, len(known), count, number_cut)
    return [text for known in found for text in known]


def _few_names_error(prefix: str, found: int, count: int, number_cut: int) -> UserError:
    """Make the error for a prefix with too few new names; `number_cut` draws were cut off."""
    after = f" that begin with {prefix!r}" if prefix else ""
    mend = "raise --temperature, or loosen the constraints"
    if 2 * number_cut > count * TRIES:
        mend = f"raise --length, which has cut {number_cut} of the draws, or say --max-length"
    return UserError(
        f"--novel found {found} of {count} new names{after} in {count * TRIES} draws: ask for "
        f"fewer (--count), {mend}"
    )
