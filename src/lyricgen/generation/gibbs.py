"""Filling gaps with a model that sees both sides of each, by Gibbs sampling.

B texts, N characters of a text, G gaps in it, S sweeps, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.console import progress
from lyricgen.generation.drawing import draw_characters, draw_uniforms
from lyricgen.generation.rules import scaled
from lyricgen.models.fill_model import FillModel
from lyricgen.models.kinds import evaluating


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
