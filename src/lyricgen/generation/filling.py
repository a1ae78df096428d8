"""Filling the gaps of texts, as a user asks for it.

N characters of a text, G gaps in it.
"""

import torch
from torch import Tensor

from lyricgen.errors import UserError
from lyricgen.generation.gibbs import fill_gaps
from lyricgen.generation.strategy import Strategy
from lyricgen.generation.writer import text_seed
from lyricgen.models.fill_model import FillModel
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import check_number, check_texts, check_whole, validate


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
    """Fill the gaps of texts, all gaps of a text jointly; see `gibbs.fill_gaps`.

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
    network = _filling(model)
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


def _filling(model: TrainedModel) -> FillModel:
    if not isinstance(model.network, FillModel):
        raise UserError(
            "this model continues texts and fills no gaps: train one with objective=fill"
        )
    return model.network


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
