"""Filling the gaps of texts by Gibbs sampling.

Shapes: B texts, N characters of a text, G gaps in it, S sweeps, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.console import progress
from lyricgen.data.options import ENDS
from lyricgen.data.vocabulary import RARE_SYMBOL
from lyricgen.errors import UserError
from lyricgen.generation.continuing import (
    below_one,
    divergence_error,
    draw_characters,
    draw_uniforms,
)
from lyricgen.generation.options import Strategy
from lyricgen.generation.rules import scale_logits
from lyricgen.generation.writer import text_seed
from lyricgen.models.model import eval_mode
from lyricgen.models.network import FillModel
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import check_number, check_texts, check_whole, validate


@torch.inference_mode()
def fill_gaps(
    model: FillModel,
    texts: list[Tensor],
    gaps: list[Tensor],
    *,
    seeds: list[int],
    temperature: float,
    sweeps: int,
    forbidden: list[int],
) -> list[Tensor]:
    """Fill all gaps of each text jointly, by Gibbs sampling (Geman and Geman 1984).

    The first characters are drawn from the softmax of the output layer's biases. Then each sweep
    draws every gap again, given all other characters. At temperature 0 the most probable character
    is taken, and a sweep that changes nothing is the last. The filled texts are on the CPU.

    Args:
        model: the network; it is put into evaluation mode and back.
        texts: B tensors (1 + N,) of int64 ids: a start, V for a line, and the characters; any id
            stands in a gap.
        gaps: B tensors (G,) of int64, the positions of the gaps, rising from 1; G is at least 1.
        seeds: B; each text depends on its own seed only.
        temperature: temperature of the softmax.
        sweeps: S.
        forbidden: ids that fill no gap.

    Raises:
        UserError: the model's training has diverged.
    """
    filled = pad_sequence(texts, batch_first=True).to(model.device)  # (B, 1 + N)
    lengths = torch.tensor([len(text) - 1 for text in texts], device=model.device)
    positions = pad_sequence(gaps, batch_first=True).to(model.device)  # (B, G), 0 for none
    number, first = positions.shape[1], model.output.bias.expand(len(texts), -1)
    uniforms = _gap_uniforms(seeds, gaps, sweeps, model.output.bias)
    with eval_mode(model), progress("filling the gaps", sweeps * number) as moved:
        for sweep in range(sweeps + 1):
            before = filled.clone()
            for gap, position in enumerate(positions.unbind(dim=1)):  # (B,)
                moved(max(0, sweep - 1) * number + gap)
                logits = _gap_logits(model, filled, lengths, position) if sweep else first.clone()
                logits[:, forbidden] = -torch.inf
                numbers = uniforms[:, gap, sweep, None] if temperature else None
                chosen = draw_characters(scale_logits(logits, temperature or 1.0), numbers)[:, 0]
                chosen.clamp_(max=logits.shape[1] - 1)  # V: the logits are NaN, refused below
                filled[position > 0, position[position > 0]] = chosen[position > 0]
            if temperature == 0 and sweep and torch.equal(filled, before):
                break
    if logits.isnan().any():
        raise divergence_error()
    return [row[: len(text)] for row, text in zip(filled.cpu(), texts, strict=True)]


def _gap_logits(model: FillModel, filled: Tensor, lengths: Tensor, position: Tensor) -> Tensor:
    """Compute the logits, (B, V), of the character at `position`, (B,), of each text."""
    predicted, _ = model(filled, lengths, filled.shape[1] - 1)  # (B, N, V)
    rows = torch.arange(len(filled), device=filled.device)
    logits: Tensor = predicted[rows, (position - 1).clamp(min=0)]
    return logits


def _gap_uniforms(seeds: list[int], gaps: list[Tensor], sweeps: int, like: Tensor) -> Tensor:
    """Draw random numbers, (B, G, S + 1), with the type and device of `like`.

    A text's numbers do not depend on the other texts.
    """
    each = [
        draw_uniforms("torch", [seed], (sweeps + 1) * len(own)).view(sweeps + 1, -1).T
        for seed, own in zip(seeds, gaps, strict=True)
    ]
    return below_one(pad_sequence(each, batch_first=True), like.dtype).to(like.device)


def fill_texts(
    model: TrainedModel,
    texts: list[str],
    *,
    count: int = 1,
    temperature: float = 0.8,
    seed: int = 1,
    sweeps: int = 20,
    gap: str | None = None,
) -> list[str]:
    """Fill the gaps of texts, all gaps of a text jointly; see `fill_gaps`.

    Args:
        model: a model that fills gaps.
        texts: texts with gaps.
        count: number of fillings of each text, which follow each other in the result.
        temperature: temperature of the softmax; 0 takes the most probable character each time.
        seed: filling number i of a text depends only on (seed, text, i).
        sweeps: number of times that each gap is drawn again; at temperature 0, filling stops after
            a sweep that changes nothing.
        gap: the character that marks a gap; None for the model's own `gap`.

    Returns:
        len(texts) · count texts, normalised as the corpus was.

    Raises:
        UserError: the model fills no gaps, or its training has diverged; a number is of the wrong
            type or out of range; or `encode_gaps` refuses a text or the mark.
    """
    texts = check_texts("texts", texts)
    check_whole("seed", seed)
    check_number("count", count)
    check_number("sweeps", sweeps)
    validate(Strategy, {"temperature": temperature})
    network, vocabulary = model.fill_model, model.vocabulary
    unwritten = {*ENDS.values(), RARE_SYMBOL if vocabulary.rare else ""}
    each = [model.normalise(text) for text in texts for _ in range(count)]
    if not each:
        return []
    ids, gaps = zip(*(encode_gaps(model, text, gap) for text in each), strict=True)
    filled = fill_gaps(
        *(network, list(ids), list(gaps)),
        seeds=[text_seed(seed, text, row % count) for row, text in enumerate(each)],
        temperature=temperature,
        sweeps=sweeps,
        forbidden=[i for i, one in enumerate(vocabulary.characters) if one in unwritten],
    )
    return [
        vocabulary.decode(row[1 : len(text) + 1]) for row, text in zip(filled, each, strict=True)
    ]


def encode_gaps(model: TrainedModel, text: str, gap: str | None = None) -> tuple[Tensor, Tensor]:
    """Encode a text with gaps as ids for the network, (1 + N,), and positions of gaps, (G,).

    The first id is that of an empty prefix, see `TrainedModel.encode_prefix`. In a model of lines
    or documents, their end follows the text. `gap` marks a gap; None takes the model's own mark.

    Raises:
        UserError: the text has no gap, an unknown character, or the end of a line or document; or
            the mark is not one character, or is in the vocabulary.
    """
    text, gap = model.normalise(text), model.gap if gap is None else gap
    if len(gap) != 1 or gap in model.vocabulary.characters:
        raise UserError(
            f"gap={gap!r}: a gap is marked by one character that the model's texts do not have"
        )
    if gap not in text:
        raise UserError(f"{text!r} has no gap to fill: mark each missing character by {gap!r}")
    positions = torch.tensor([i for i, character in enumerate(text, start=1) if character == gap])
    start = model.encode_prefix("")
    model.refuse_end(text)
    known = text.replace(gap, model.vocabulary.characters[0]) + (model.end or "")
    return torch.cat([start, model.vocabulary.encode(known).long()]), positions
