"""Texts from a trained model, as a user asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.errors import UserError
from lyricgen.generation.control import Control
from lyricgen.generation.novelty import draw_novel
from lyricgen.generation.options import Generator
from lyricgen.generation.strategy import Strategy
from lyricgen.generation.writer import Continuation, Watch, Writer, text_seed
from lyricgen.models.metrics import perplexity
from lyricgen.models.model import NextModel, evaluating
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import check_number, check_texts, check_whole, validate

LARGEST = 2**22  # logits at a time
NONE = -1  # no character to be scored


@dataclass(frozen=True)
class Generated:
    """One text and how it came about.

    Attributes:
        prefix: what it begins with, as the model reads it.
        text: all of it, the prefix included.
        strategy: by which its characters were chosen.
        seed: of the random numbers, as asked for.
        log_probability: nats, ln p of the new characters given the prefix under the model's own
            distribution, whatever the strategy; with the line break that ended the text, if any.
        perplexity: of the same characters; infinite where it is too large for a float.
        score: by which a beam search ordered it; None without one.
        ended: whether it has come to the end of its line, or of its last line, or was cut off;
            None for running text, which has no end.
    """

    prefix: str
    text: str
    strategy: str
    seed: int
    log_probability: float
    perplexity: float
    score: float | None = None
    ended: bool | None = None


def generate(
    model: TrainedModel, prefixes: list[str], *, seed: int = 1, **options: Any
) -> list[Generated]:
    """Continue prefixes, and say how probable the model itself finds each text.

    Arguments and errors are those of `continue_prefixes`.
    """
    written, writer = continue_prefixes(model, prefixes, seed=seed, **options)
    inputs = [model.encode_prefix(one.prefix) for one in written]
    nats = log_probabilities(writer.network, inputs, [one.scored for one in written]).tolist()
    return [
        Generated(
            prefix=one.prefix,
            text=one.prefix + writer.decode(one.shown),
            strategy=writer.strategy.name,
            seed=seed,
            log_probability=log_probability,
            perplexity=perplexity(-log_probability / max(1, len(one.scored))),
            score=one.score,
            ended=one.ended,
        )
        for one, log_probability in zip(written, nats, strict=True)
    ]


def generate_texts(model: TrainedModel, prefixes: list[str], **options: Any) -> list[str]:
    """The texts of `generate` alone, in less time."""
    written, writer = continue_prefixes(model, prefixes, **options)
    return [one.prefix + writer.decode(one.shown) for one in written]


def continue_prefixes(
    model: TrainedModel,
    prefixes: list[str],
    *,
    count: int | None = None,
    length: int | None = None,
    seed: int = 1,
    generator: Generator = "torch",
    watch: Watch | None = None,
    **options: Any,
) -> tuple[list[Continuation], Writer]:
    """Continue prefixes, all texts side by side in one batch.

    Args:
        model: it continues texts.
        prefixes: what the texts begin with; "" for nothing.
        count: texts for each prefix; None for one, or for all that a beam search keeps.
        length: new characters at most; None for 50, or for what the options need. A model of lines
            stops at the end of the line; None gives it what its longest training line needs.
        seed: text number i of a prefix depends on (seed, prefix, i) only, not on the others.
        generator: where the random numbers come from; with "numpy_reseeded" the i-th of all
            texts has the seed plus i for its own, see `draws.draw_uniforms`.
        watch: called with each character of a single text as it is chosen.
        options: what `strategy.Strategy` and `control.Control` have, as temperature=0.8, lines=8.

    Returns:
        len(prefixes) · count continuations, side by side, and what has written them.

    Raises:
        UserError: a prefix has a character that the model does not know, a number is none or out
            of range, the model fills gaps instead, or no text can be as it should.
    """
    check_texts("prefixes", prefixes)
    check_whole("seed", seed)
    strategy, control = _strategy_and_control(model, options)
    number = check_number("count", (strategy.beams or 1) if count is None else count)
    if length is not None:
        check_number("length", length)
    each = [model.normalised(prefix) for prefix in prefixes]
    writer = Writer(
        model=model,
        network=model.next_model,
        strategy=strategy,
        control=control,
        length=length,
        generator=generator,
        watch=watch,
    )
    return _continued(writer, each, number, seed), writer


def _continued(writer: Writer, prefixes: list[str], count: int, seed: int) -> list[Continuation]:
    """Continue each prefix `count` times: by beam search, by drawing, or by drawing new names."""
    beams, generator = writer.strategy.beams, writer.generator
    if not prefixes:
        return []
    if writer.control.novel:
        if generator != "torch":
            raise UserError(f"--novel does not go with --generator {generator}")
        return draw_novel(writer, prefixes, count, seed)
    if beams is not None:
        if count > beams:
            raise UserError(f"--count {count}: --beams {beams} finds {beams} texts at most")
        return writer.search(prefixes, count)
    repeated = [prefix for prefix in prefixes for _ in range(count)]
    seeds = list(range(seed, seed + len(repeated)))
    if generator == "torch":
        seeds = [text_seed(seed, prefix, row % count) for row, prefix in enumerate(repeated)]
    return writer.draw(repeated, seeds)


def _strategy_and_control(model: TrainedModel, options: dict[str, Any]) -> tuple[Strategy, Control]:
    """Strategy and control from options; the control's texts are normalised as the corpus was."""
    control = {name: value for name, value in options.items() if name in Control.model_fields}
    for name in ("acrostic", "starts_with"):
        if isinstance(control.get(name), str):
            control[name] = model.normalised(control[name])
    others = {name: value for name, value in options.items() if name not in control}
    return validate(Strategy, others), validate(Control, control)


@torch.inference_mode()
def log_probabilities(
    model: NextModel, prefixes: Sequence[Tensor], rows: Sequence[Sequence[int]]
) -> Tensor:
    """The log-probability of each continuation given its prefix, without any rule.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: B tensors (P,) of at least one input id each, on the CPU.
        rows: B continuations; where a text ended by a stop that is to count, with it.

    Returns:
        (B,) float64, in nats, on the CPU; 0 for an empty continuation.

    Raises:
        ValueError: an empty prefix.
    """
    if any(len(prefix) == 0 for prefix in prefixes):
        raise ValueError("a prefix needs at least one input symbol")
    totals = torch.zeros(len(rows), dtype=torch.float64)
    if not any(rows):
        return totals
    new = [torch.tensor(row, dtype=torch.int64) for row in rows]
    each = list(zip(prefixes, new, strict=True))
    texts = [torch.cat([prefix.long(), row]) for prefix, row in each]
    scored = [F.pad(row, (len(prefix), 0), value=NONE) for prefix, row in each]
    inputs = pad_sequence(texts, batch_first=True)[:, :-1]  # (B, T)
    targets = pad_sequence(scored, batch_first=True, padding_value=NONE)[:, 1:]  # (B, T)
    places = max(1, LARGEST // model.vocabulary_size)
    with evaluating(model):
        for first in range(0, len(rows), places):
            some = slice(first, first + places)
            totals[some] = _sums(model, inputs[some], targets[some], places)
    return totals


def _sums(model: NextModel, inputs: Tensor, targets: Tensor, places: int) -> Tensor:
    """Sum of ln p of each row's targets, (B, T) without NONE, a block of places at a time."""
    state, totals = None, torch.zeros(len(inputs), dtype=torch.float64)
    steps = max(1, places // len(inputs))
    for start in range(0, inputs.shape[1], steps):
        window = slice(start, start + steps)
        logits, state = model(inputs[:, window].to(model.device), state)
        wanted = targets[:, window].to(model.device)
        nats = F.cross_entropy(
            logits.flatten(0, 1).double(), wanted.flatten(), ignore_index=NONE, reduction="none"
        )
        totals -= nats.view_as(wanted).sum(dim=1).cpu()
    return totals
