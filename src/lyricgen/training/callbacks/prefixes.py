"""What the texts that are drawn in training begin with, or the gaps that are filled in them."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lyricgen.errors import UserError
from lyricgen.generation.filling import encode_gaps
from lyricgen.models.trained_model import TrainedModel

NOTEBOOKS = ("分开", "不分开")  # prefixes
LONGEST_LINE = 30  # characters of the text's first line that a model fills the gaps of


def choose_prefixes(wanted: list[str] | None, model: TrainedModel, opening: str) -> list[str]:
    """The prefixes to sample with: the user's, or ones that the model can spell.

    Without any of the user's: none for a model of lines; else 分开 and 不分开 where the
    vocabulary has them, else the opening of the text. A model that fills gaps gets the user's
    texts with gaps, or the first line of the text with every third character missing.

    Args:
        wanted: the user's own, or None.
        model: whose characters they must be.
        opening: how the corpus begins.

    Raises:
        UserError: one of the user's has an unknown character.
    """
    if model.fills_gaps:
        return _with_gaps(wanted, model, opening)
    if wanted:
        for prefix in wanted:
            _check(model.encode_prefix, prefix)
        return [model.normalised(prefix) for prefix in wanted]
    if model.layout == "lines":
        return [""]
    known = set(model.vocabulary.characters)
    spelled = [prefix for prefix in NOTEBOOKS if set(prefix) <= known]
    return spelled or [opening.lstrip()[:2]]


def _with_gaps(wanted: list[str] | None, model: TrainedModel, opening: str) -> list[str]:
    if wanted:
        for text in wanted:
            _check(partial(encode_gaps, model), text)
        return [model.normalised(text) for text in wanted]
    line = opening.partition("\n")[0][:LONGEST_LINE]
    missing = [model.gap if i % 3 == 2 else character for i, character in enumerate(line)]
    return ["".join(missing) if model.gap in missing else model.gap + line[1:]]


def _check(encode: Callable[[str], Any], text: str) -> None:
    try:
        encode(text)
    except UserError as error:
        raise UserError(f"callbacks.samples.prefixes: {error}") from error
