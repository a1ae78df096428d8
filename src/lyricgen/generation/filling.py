"""Filling the gaps of texts, as a user asks for it.

N characters of a text, G gaps in it.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.console import progress
from lyricgen.errors import UserError
from lyricgen.generation.draws import draw_characters, draw_uniforms
from lyricgen.generation.rules import scaled
from lyricgen.generation.strategy import Strategy
from lyricgen.generation.writer import text_seed
from lyricgen.models.model import evaluating
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
    """Draw all gaps of each text jointly, by Gibbs sampling.

    The gaps begin with draws from the output layer's biases alone. Then, sweep after sweep, each
    gap of a text is drawn anew from what the model says of it given all other characters, those in
    the other gaps included (Geman and Geman 1984); so a gap that was filled early is revised in
    the light of those after it. Temperature 0 takes the most probable character each time and
    stops when a sweep changes nothing.

    Args:
        model: the network; it is put into evaluation mode and back.
        texts: B tensors (1 + N,) of int64 ids, the first the start of the text, V for the start
            of a line; anything where there is a gap.
        gaps: B tensors (G,) of int64, where the gaps stand, in order.
        seeds: B seeds; a text depends on its own alone.
        temperature: of the softmax.
        sweeps: S.
        forbidden: ids that no gap is filled with.

    Returns:
        B tensors (1 + N,), filled, on the CPU.
    """
    filled = pad_sequence(texts, batch_first=True).to(model.device)  # (B, 1 + N)
    lengths = torch.tensor([len(text) - 1 for text in texts], device=model.device)
    places = pad_sequence(gaps, batch_first=True).to(model.device)  # (B, G), 0 for none
    uniforms = _uniforms(seeds, gaps, sweeps).to(model.device)
    number = places.shape[1]
    with evaluating(model), progress("filling the gaps", sweeps * number) as moved:
        for sweep in range(sweeps + 1):
            before = filled.clone()
            for gap in range(number):
                moved(max(0, sweep - 1) * number + gap)
                logits = _logits(model, filled, lengths, places[:, gap], first=sweep == 0)
                logits[:, forbidden] = -torch.inf
                chosen = _drawn(logits, temperature, uniforms[:, sweep, gap])
                _put(filled, places[:, gap], chosen)
            if temperature == 0 and sweep and torch.equal(filled, before):
                break
    return [row[: len(text)] for row, text in zip(filled.cpu(), texts, strict=True)]


def _uniforms(seeds: list[int], gaps: list[Tensor], sweeps: int) -> Tensor:
    """(B, S + 1, G): each text's numbers are its own, whatever the others of the batch need."""
    uniforms = torch.zeros(len(gaps), sweeps + 1, max(len(places) for places in gaps))
    for row, (seed, places) in enumerate(zip(seeds, gaps, strict=True)):
        drawn = draw_uniforms("torch", [seed], (sweeps + 1) * len(places))
        uniforms[row, :, : len(places)] = drawn.view(sweeps + 1, -1)
    return uniforms


def _logits(
    model: FillModel, filled: Tensor, lengths: Tensor, places: Tensor, *, first: bool
) -> Tensor:
    """Log-probabilities at one place of each text, (B, V)."""
    if first:
        return model.output.bias.expand(len(filled), -1).clone()
    predicted, _ = model(filled, lengths, filled.shape[1] - 1)  # (B, N, V)
    rows = torch.arange(len(filled), device=filled.device)
    chosen: Tensor = predicted[rows, (places - 1).clamp(min=0)]
    return chosen


def _drawn(logits: Tensor, temperature: float, uniforms: Tensor) -> Tensor:
    """(B, V), (B,) -> (B,)."""
    if temperature == 0:
        return draw_characters(logits, None)
    return draw_characters(scaled(logits, temperature), uniforms)


def _put(filled: Tensor, places: Tensor, characters: Tensor) -> None:
    """Write characters (B,) to their places, but for texts that have no such gap."""
    there = places > 0
    filled[there.nonzero()[:, 0], places[there]] = characters[there]


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
        model: it fills gaps.
        texts: with gaps.
        count: ways to fill each, side by side in the result.
        temperature: of the softmax; 0 takes the most probable character each time.
        seed: filling number i of a text depends on (seed, text, i) only.
        sweeps: how often each gap is drawn anew.
        gap: the character that marks one; None for the model's own `gap`.

    Returns:
        len(texts) · count texts, normalised as the corpus was.

    Raises:
        UserError: the model fills no gaps, a text has none or a character that the model does
            not know, or a number is none or out of range.
    """
    check_texts("texts", texts)
    check_whole("seed", seed)
    check_number("count", count)
    check_number("sweeps", sweeps)
    validate(Strategy, {"temperature": temperature})
    network = model.fill_model
    each = [model.normalised(text) for text in texts for _ in range(count)]
    if not each:
        return []
    ids, gaps = zip(*(encode_gaps(model, text, gap) for text in each), strict=True)
    filled = fill_gaps(
        network,
        list(ids),
        list(gaps),
        seeds=[text_seed(seed, text, row % count) for row, text in enumerate(each)],
        temperature=temperature,
        sweeps=sweeps,
        forbidden=[i for i, one in enumerate(model.vocabulary.characters) if one == "\n"],
    )
    decode = model.vocabulary.decode
    return [decode(row[1 : len(text) + 1]) for row, text in zip(filled, each, strict=True)]


def encode_gaps(model: TrainedModel, text: str, gap: str | None = None) -> tuple[Tensor, Tensor]:
    """Ids that the network reads of a text with gaps, (1 + N,), and places of gaps, (G,).

    Before the text stands what `TrainedModel.encode_prefix` gives for none; after it, in a model
    of lines, the end of the line.

    Raises:
        UserError: it has no gap, or a character that the model does not know.
    """
    text, gap = model.normalised(text), model.gap if gap is None else gap
    if len(gap) != 1 or gap in model.vocabulary.characters:
        raise UserError(
            f"gap={gap!r}: a gap is marked by one character that the model's texts do not have"
        )
    if gap not in text:
        raise UserError(f"{text!r} has no gap to fill: mark each missing character by {gap!r}")
    places = torch.tensor([i for i, character in enumerate(text, start=1) if character == gap])
    start = model.encode_prefix("")
    if model.layout == "lines" and "\n" in text:
        raise UserError("this model writes single lines: leave the newline out")
    known = text.replace(gap, model.vocabulary.characters[0])
    known += "\n" if model.layout == "lines" else ""
    return torch.cat([start, model.vocabulary.encode(known).long()]), places
