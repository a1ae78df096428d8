"""Generation of texts by a trained model, and log-probabilities of texts.

Shapes: B texts, P prefix characters, T time steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.errors import UserError
from lyricgen.generation.options import Control, Generator, Strategy
from lyricgen.generation.writer import Continuation, Watch, Writer, draw_new_names, text_seed
from lyricgen.models.metrics import perplexity
from lyricgen.models.model import NextModel, eval_mode
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import check_number, check_whole, list_texts, validate

MOST_LOGITS = 2**22  # most logits at a time
UNSCORED = -1  # target of a position that is not scored


@dataclass(frozen=True)
class GeneratedText:
    """A generated text, with its settings and its probability.

    The probability is the one that the model itself gives to the new characters after the prefix,
    whatever the strategy. The line break, or `stop`, that ended the text counts, too.
    """

    prefix: str  # normalised as the corpus was
    text: str  # all of it, the prefix included
    strategy: str
    seed: int
    log_probability: float  # nats, ln p
    perplexity: float | None = None  # infinite if it is too large for a float
    memory_perplexity: float | None = None  # in its place, of a model with a memory
    score: float | None = None  # the score by which a beam search orders texts; None: no search
    # whether the text reached its end, or `stop`; False: it was cut off; None: running text has no
    # end
    ended: bool | None = None


def generate(
    model: TrainedModel, prefixes: list[str], *, seed: int = 1, **options: Any
) -> list[GeneratedText]:
    """Continue prefixes, and compute the model's own probability of each text.

    `continue_prefixes` explains the arguments and errors.
    """
    written, writer = continue_prefixes(model, prefixes, seed=seed, **options)
    inputs = [model.encode_prefix(one.prefix) for one in written]
    nats = log_probabilities(writer.network, inputs, [one.scored for one in written]).tolist()
    name = f"{writer.network.metric_prefix}perplexity"
    return [
        GeneratedText(
            prefix=one.prefix,
            text=one.text,
            strategy=writer.strategy.name,
            seed=seed,
            log_probability=log_probability,
            **{name: perplexity(-log_probability / max(1, len(one.scored)))},
            score=one.score,
            ended=one.ended,
        )
        for one, log_probability in zip(written, nats, strict=True)
    ]


def generate_texts(model: TrainedModel, prefixes: list[str], **options: Any) -> list[str]:
    """Continue prefixes as `generate` does; leave out the probabilities, to save time."""
    return [one.text for one in continue_prefixes(model, prefixes, **options)[0]]


def continue_prefixes(
    model: TrainedModel,
    prefixes: list[str],
    *,
    count: int | None = None,
    length: int | None = None,
    seed: int = 1,
    generator: Generator = "torch",
    stop: str | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> tuple[list[Continuation], Writer]:
    """Continue prefixes, many texts side by side.

    Args:
        model: a model that continues texts.
        prefixes: beginnings of the texts, which may be "".
        count: texts for each prefix; None for one, or for `beams` texts in a beam search.
        length: most new characters of a text. None takes the length that the options need, or else
            50 for each line if a number of lines is given, or else `TrainedModel.default_length`.
        seed: text number i of a prefix depends only on (seed, prefix, i).
        generator: see `continuing.draw_uniforms`. With "numpy_reseeded", text number i of all texts
            has the seed `seed` + i.
        stop: each text ends before the first place of these characters among its new ones.
        watch: called with each new character, to show a single text while it is drawn.
        options: fields of `Strategy` and `Control`, such as lines=8; texts are normalised, too.

    Returns:
        The continuations, prefix by prefix, and their writer. A beam search may find fewer texts.

    Raises:
        UserError: the model fills gaps, has diverged, lacks a character of a prefix or, for
            `novel`, its corpus; arguments are wrong or ask too much; or too few texts obey them.
    """
    prefixes = list_texts("prefixes", prefixes)
    check_whole("seed", seed)
    constraints = {name: value for name, value in options.items() if name in Control.model_fields}
    texts = [name for name in ("acrostic", "starts_with") if isinstance(options.get(name), str)]
    constraints |= {name: model.normalise(options[name]) for name in texts}
    chosen = {name: value for name, value in options.items() if name not in constraints}
    strategy: Strategy = validate(Strategy, chosen)
    control: Control = validate(Control, constraints)
    _check_generator(generator, strategy)
    number = check_number("count", (strategy.beams or 1) if count is None else count)
    if length is not None:
        check_number("length", length)
    each = [model.normalise(prefix) for prefix in prefixes]
    ending = None if stop is None else _check_stop(model, stop, strategy, control)
    writer = Writer(model, model.next_model, strategy, control, length, generator, watch, ending)
    return _write(writer, each, number, seed), writer


def _check_stop(model: TrainedModel, stop: str, strategy: Strategy, control: Control) -> str:
    """Normalise the characters that end a text.

    Raises:
        UserError: there are none, the model never writes them, or texts are searched or new names.
    """
    given = f"--stop {stop!r}"
    if not isinstance(stop, str) or not stop:
        raise UserError(f"{given}: give the characters before which a text ends")
    if strategy.beams is not None or control.novel:
        other = "--novel" if control.novel else f"--beams {strategy.beams}"
        raise UserError(f"--stop does not go with {other}: leave one of them out")
    stop = model.normalise(stop)
    try:
        model.refuse_end(stop)
        ids = model.vocabulary.encode(stop).tolist()
    except UserError as error:
        raise UserError(f"{given}: {error}") from error
    if model.vocabulary.rare_id in ids:
        raise UserError(f"{given}: it has a rare character, which the model never writes")
    return stop


def _check_generator(generator: Generator, strategy: Strategy) -> None:
    if generator not in get_args(Generator):
        raise UserError(f"generator={generator!r}: choose {' or '.join(get_args(Generator))}")
    if strategy.beams is not None and generator != "torch":
        raise UserError(f"generator={generator}: beams={strategy.beams} searches without drawing")


def _write(writer: Writer, prefixes: list[str], count: int, seed: int) -> list[Continuation]:
    """Continue each prefix `count` times: by beam search, by drawing, or by drawing new names.

    Raises:
        UserError: `count` is larger than `beams`, or `novel` is given with another generator than
            torch's; or as for `draw_new_names` and the methods of `Writer`.
    """
    beams, generator = writer.strategy.beams, writer.generator
    if not prefixes:
        return []
    if writer.control.novel:
        if generator != "torch":
            raise UserError(f"--novel does not go with --generator {generator}")
        return draw_new_names(writer, prefixes, count, seed)
    if beams is not None:
        if count > beams:
            raise UserError(f"--count {count}: --beams {beams} finds {beams} texts at most")
        return writer.search(prefixes, count)
    repeated = [prefix for prefix in prefixes for _ in range(count)]
    seeds = list(range(seed, seed + len(repeated)))
    if generator == "torch":
        seeds = [text_seed(seed, prefix, row % count) for row, prefix in enumerate(repeated)]
    return writer.draw(repeated, seeds)


@torch.inference_mode()
def log_probabilities(
    model: NextModel, prefixes: Sequence[Tensor], rows: Sequence[Sequence[int]]
) -> Tensor:
    """Compute the log-probability of each continuation given its prefix, without any rule.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: B tensors (P,) of at least one input id each, on the CPU.
        rows: ids of B continuations; a stop at the end counts like any other character.

    Returns:
        (B,) float64, in nats, on the CPU; 0 for an empty continuation.

    Raises:
        ValueError: a prefix is empty.
    """
    if any(len(prefix) == 0 for prefix in prefixes):
        raise ValueError("a prefix needs at least one input symbol")
    totals = torch.zeros(len(rows), dtype=torch.float64)
    if not any(rows):
        return totals
    new = [torch.tensor(row, dtype=torch.int64) for row in rows]
    each = list(zip(prefixes, new, strict=True))
    texts = [torch.cat([prefix.long(), row]) for prefix, row in each]
    scored = [F.pad(row, (len(prefix), 0), value=UNSCORED) for prefix, row in each]
    inputs = pad_sequence(texts, batch_first=True)[:, :-1]  # (B, T)
    targets = pad_sequence(scored, batch_first=True, padding_value=UNSCORED)[:, 1:]  # (B, T)
    positions = max(1, MOST_LOGITS // model.vocabulary_size)
    with eval_mode(model):
        for first in range(0, len(rows), positions):
            some = slice(first, first + positions)
            totals[some] = _sums(model, inputs[some], targets[some], positions)
    return totals


def _sums(model: NextModel, inputs: Tensor, targets: Tensor, positions: int) -> Tensor:
    """Sum ln p of each row's scored targets, (B,); compute about `positions` logit rows at once."""
    state, totals = None, torch.zeros(len(inputs), dtype=torch.float64)
    steps = max(1, positions // len(inputs))
    for start in range(0, inputs.shape[1], steps):
        window = slice(start, start + steps)
        logits, state = model(inputs[:, window].to(model.device), state)
        target = targets[:, window].to(model.device)
        nats = F.cross_entropy(
            logits.flatten(0, 1).double(), target.flatten(), ignore_index=UNSCORED, reduction="none"
        )
        totals -= nats.view_as(target).sum(dim=1).cpu()
    return totals
