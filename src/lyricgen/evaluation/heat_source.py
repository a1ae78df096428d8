"""Text of a surprisal page: the user's own, or a held-out part of the model's."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lyricgen.errors import UserError
from lyricgen.evaluation.own_text import OwnText, TextArgument, Unknown, own_text
from lyricgen.models.files.checkpoint import load
from lyricgen.models.trained_model import TrainedModel

if TYPE_CHECKING:  # it reads the corpus, which a text of the user's own does without
    from lyricgen.evaluation.checkpoints import Evaluated


class Source(NamedTuple):
    """A text for a model, and where it comes from in words."""

    model: TrainedModel
    text: OwnText
    told: str


def from_argument(path: Path, argument: TextArgument, unknown: Unknown, most: int) -> Source:
    """Beginning of the user's text, at most `most` characters."""
    model = load(path)
    beginning = _beginning(argument.text, most, model)
    text = own_text(beginning, argument.name, model, unknown)
    return Source(model, text, _told(argument.name, len(beginning), len(argument.text)))


def from_part(evaluated: "Evaluated", part: str | None, most: int) -> Source:
    """The beginning of a part of the text that a model was trained on.

    Args:
        evaluated: the checkpoint and its text.
        part: its name; None for the test part, or the validation part where there is no other.
        most: characters.

    Raises:
        UserError: there is no such part.
    """
    parts, model = evaluated.parts, evaluated.model
    name = part or next((one for one in ("test", "val") if one in parts), None)
    if name is None:
        raise UserError(
            "the model's text has no held-out part to show: give one, --text FILE, or --part train"
        )
    evaluated.check_part(name)
    # as many symbols more as there may be starts of lines among them
    head = replace(parts[name], ids=parts[name].ids[: 2 * most])
    every = int(parts[name].character_counts(len(model.vocabulary)).sum())
    beginning = _beginning(head.text(model.vocabulary), most, model)
    text = own_text(beginning, f"the {name} part", model)
    return Source(
        model, text, _told(f"the {name} part of {evaluated.corpus.name}", len(beginning), every)
    )


def _beginning(text: str, most: int, model: TrainedModel) -> str:
    """Keep the whole lines that fit; at least one."""
    if len(text) <= most:
        return text
    end = text.rfind("\n", 0, most) + 1 if model.layout == "lines" else most
    return text[: end or most]


def _told(name: str, shown: int, every: int) -> str:
    if shown >= every:
        return f"{name}, {every:,} characters"
    return f"{name}, the first {shown:,} of {every:,} characters"
