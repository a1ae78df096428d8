"""Filling the gaps of texts with a model that sees both sides of each.

B texts, N characters in the longest, G gaps in the text that has most, S sweeps, V vocabulary.
"""

import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.decoding import draw_characters, evaluating
from lyricgen.model.fill_model import FillModel


@torch.inference_mode()
def fill_gaps(
    model: FillModel,
    characters: Tensor,
    lengths: Tensor,
    gaps: Tensor,
    *,
    temperature: float,
    uniforms: Tensor,
    forbidden: list[int],
) -> Tensor:
    """Draw all gaps of each text jointly, by Gibbs sampling.

    The gaps begin with draws from the output layer's biases alone. Then, sweep after sweep, each
    gap of a text is drawn anew from what the model says of it given all other characters, those in
    the other gaps included (Geman and Geman 1984); so a gap that was filled early is revised in
    the light of those after it. Temperature 0 takes the most probable character each time and
    stops when a sweep changes nothing.

    Args:
        model: the network; it is put into evaluation mode and back.
        characters: (B, 1 + N) int64 ids, the first the start of the text, V for the start of a
            line; anything where there is a gap or padding.
        lengths: (B,) int64, where the last character of each text stands.
        gaps: (B, G) int64, where the gaps stand, in order; 0 in a text that has fewer.
        temperature: of the softmax.
        uniforms: (B, S + 1, G) numbers from [0, 1).
        forbidden: ids that no gap is filled with.

    Returns:
        (B, 1 + N), filled.
    """
    texts = characters.to(model.device, copy=True)
    lengths, gaps = lengths.to(model.device), gaps.to(model.device)
    uniforms = uniforms.to(model.device)
    rows = torch.arange(len(texts), device=model.device)
    sweeps, number = uniforms.shape[1] - 1, gaps.shape[1]
    with evaluating(model), progress("filling the gaps", sweeps * number) as moved:
        for sweep in range(sweeps + 1):
            before = texts.clone()
            for gap in range(number):
                places = gaps[:, gap]  # (B,)
                if sweep == 0:
                    logits = model.output.bias.expand(len(texts), -1).clone()  # (B, V)
                else:
                    moved((sweep - 1) * number + gap)
                    predicted, _ = model(texts, lengths, texts.shape[1] - 1)  # (B, N, V)
                    logits = predicted[rows, (places - 1).clamp(min=0)]
                logits[:, forbidden] = -torch.inf
                chosen = draw_characters(logits, temperature, uniforms[:, sweep, gap])
                texts[rows, places] = torch.where(places > 0, chosen, texts[rows, places])
            if temperature == 0 and sweep and torch.equal(texts, before):
                break
    return texts.cpu()
