"""A text of the user, prepared as training prepares a corpus and scored like a held-out split.

Shapes: N characters of the text, C known characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from lyricgen.data.faults import FORBIDDEN, ControlCharacterFilter
from lyricgen.data.options import ENDS, ControlCharacters, Newline, Unit
from lyricgen.data.preparation import divide_parts, prepare_pieces
from lyricgen.data.splits import Split, line_split
from lyricgen.data.units import Division
from lyricgen.data.vocabulary import code_points, decode_codes, find_characters
from lyricgen.errors import UserError
from lyricgen.evaluation.intervals import Booleans, Floats, Integers, Row, Series, SplitText, row
from lyricgen.evaluation.scores import Checkpoint
from lyricgen.models.memory_model import crosses_lines, is_memory
from lyricgen.models.model import Model
from lyricgen.models.scoring import split_nats
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.summary import describe_reach

LONGEST_LINE = 10_000  # characters; a model of lines reads a line as a whole
Unknown = Literal["refuse", "skip"]


@dataclass(frozen=True)
class TextArgument:
    """The argument of --text."""

    text: str  # lines may end in \n, \r\n or \r
    file: Path | None  # source of the text; None for a typed text

    @property
    def name(self) -> str:
        """Name of the text in messages."""
        return repr(str(self.file)) if self.file is not None else "the text given"


@dataclass(frozen=True)
class OwnText:
    """A text as a model reads it."""

    name: str  # name in messages
    text: str  # N characters, normalised as the corpus was
    known: Booleans  # (N,) whether the model reads the character
    left_out: str  # the characters that the model does not know, in their order
    split: Split  # the known characters, laid out as the model's own text was
    characters: SplitText  # the known characters without start symbols, (C,)

    def spread(self, values: npt.NDArray[Any], fill: float = np.nan) -> npt.NDArray[Any]:
        """Spread values of the known characters, (C, …), over all characters, (N, …).

        The other characters get `fill`.
        """
        every = np.full((len(self.text), *values.shape[1:]), fill, values.dtype)
        every[self.known] = values
        return every

    def describe_reach(self, model: Model) -> str | None:
        """Say in words how far a model looks back in this text; None without a memory."""
        if not is_memory(model):
            return None
        scope = model.architecture.recall.scope
        return describe_reach("text" if scope == "split" else scope, {"": model.reach(self.split)})

    def nats(self, model: TrainedModel, label: str) -> Floats:
        """Score the known characters in nats, (C,); nan where the model predicts nothing.

        The progress bar shows `label`, the model's name. `scores.split_nats` explains the errors.
        """
        return split_nats(model, self.split, f"scoring {self.name} with {label}")


def own_text(
    text: str,
    name: str,
    model: TrainedModel,
    unknown: Unknown = "refuse",
    *,
    prepared: bool = False,
) -> OwnText:
    """Prepare a text as training prepared the corpus: characters, case, line ends and layout.

    Args:
        text: the text.
        name: its name in messages.
        model: its reader.
        unknown: whether characters that the model does not know are refused or left out.
        prepared: whether the text comes from the corpus, so that its documents end with U+0003.

    Raises:
        UserError: unknown characters are refused, fewer than two are left, or a line is too long.
    """
    lines = model.layout == "lines" or _find_training_option(model, "unit") == "line"
    unit: Unit = "line" if lines else "document" if model.layout == "documents" else "text"
    text, refused = (text, None) if prepared else replace_controls(text, name, model)
    if refused is not None and unknown == "refuse" and unit == "document":
        raise refused  # the model knows U+0003, which no text has
    text = _prepare(text, model, unit, prepared=prepared)
    known = model.vocabulary.knows(text)
    codes = code_points(text)
    left_out = decode_codes(codes[~known])
    if unknown == "refuse" and left_out:
        if refused is not None and all(map(FORBIDDEN.match, find_characters(left_out))):
            raise refused
        raise UserError(
            f"{name} has {len(left_out):,} characters that the model does not know: "
            f"{model.vocabulary.list_unknown(left_out)}; leave them out, or say --unknown skip"
        )
    if unit != "text":
        known &= ~_ends_of_empty_lines(codes, known, ENDS[unit])
    kept = codes[known]
    if len(kept) < 2:
        raise UserError(f"{name} has only {len(kept)} characters to read; at least 2 are needed")
    lengths = np.diff(np.flatnonzero(kept == ord("\n")), prepend=-1) - 1  # of the lines
    if model.layout == "lines" and lengths.max() > LONGEST_LINE:
        raise UserError(
            f"{name} has a line of {lengths.max():,} characters: this model reads lines of up to "
            f"{LONGEST_LINE:,}, break it"
        )
    split = line_split(model.vocabulary.encode(decode_codes(kept)), model.vocabulary, model.layout)
    characters = SplitText.of(split, model.vocabulary, unit)
    return OwnText(name, text, known, left_out, split, characters)


def text_for_gates(argument: TextArgument, model: TrainedModel) -> str:
    """Prepare the text of --gates: replace control characters, drop the last newline of a file."""
    text = argument.text
    if argument.file is not None:
        text = text.removesuffix("\n")  # a model of lines reads no text after a newline
    # control characters that training refuses are refused later, as unknown characters
    return replace_controls(text, argument.name, model)[0]


def prepare_characters(text: str, name: str, model: TrainedModel) -> str:
    """Prepare the characters of a text as in training: controls, line ends, case and NFC.

    `name` is the text's name in messages.
    """
    text, _ = replace_controls(text, name, model)
    return _compose(text, model, _find_newline(model))


def replace_controls(text: str, name: str, model: TrainedModel) -> tuple[str, UserError | None]:
    """Replace the control characters of a text as in the model's training.

    `name` names the text in the error.

    Returns:
        The text; and the error of training for its control characters, or None. The error is
        returned, not raised.
    """
    if not FORBIDDEN.search(text):  # faster than a filter where texts are many and short
        return text, None
    trained = _find_training_option(model, "control_characters")
    choice: ControlCharacters = next(
        (one for one in get_args(ControlCharacters) if one == trained), "refuse"
    )
    controls = ControlCharacterFilter(name, choice, "take them out, or say --unknown skip")
    return controls.feed(text), controls.error


def _prepare(text: str, model: TrainedModel, unit: Unit, *, prepared: bool) -> str:
    """Compose a text, and divide it into lines or documents; `own_text` explains `prepared`."""
    if unit == "text":
        return _compose(text, model, _find_newline(model))
    end, separator = ENDS[unit], _find_training_option(model, "separator")
    if prepared:
        divided = _compose(text, model, "keep").split(end)
    else:
        verse = _find_training_option(model, "verse") is True
        division = Division(separator if isinstance(separator, str) else None, verse)
        whole = text.replace(end, "") if end != "\n" else text
        divided = divide_parts([whole], unit, division, lowercase=model.lowercase)
    stripped = [one for each in divided if (one := each.strip())]
    if _find_newline(model) == "space":
        stripped = [one.replace("\n", " ") for one in stripped]
    return "".join(one + end for one in stripped)


def _compose(text: str, model: TrainedModel, newline: Newline) -> str:
    pieces = prepare_pieces([text], newline=newline, lowercase=model.lowercase, max_chars=None)
    return "".join(pieces)


def _find_newline(model: TrainedModel) -> Newline:
    return "space" if _find_training_option(model, "newline") == "space" else "keep"


def _ends_of_empty_lines(codes: Integers, known: Booleans, end: str) -> Booleans:
    """Mark the ends, (N,), of lines or documents without known characters."""
    read = np.flatnonzero(known)
    ends = codes[read] == ord(end)
    empty = np.zeros_like(known)
    empty[read[ends & np.append(True, ends[:-1])]] = True
    return empty


def _find_training_option(model: TrainedModel, option: str) -> object:
    """Return a `data` option of the model's training; None if it is not recorded."""
    data = model.options.get("data")
    return data.get(option) if isinstance(data, dict) else None


class TextFigures(NamedTuple):
    """Figures of one checkpoint on a text."""

    checkpoint: Checkpoint
    text: OwnText
    row: Row


def score_text(
    checkpoints: Sequence[Checkpoint],
    argument: TextArgument,
    unknown: Unknown,
    *,
    resamples: int,
    seed: int,
) -> list[TextFigures]:
    """Score the user's text with each checkpoint.

    `own_text` explains `unknown`; `intervals.row` explains `resamples` and `seed`.

    Raises:
        UserError: `own_text` refuses the text, or a model gives a character the probability 0 or
            nan.
    """
    found = []
    for each in checkpoints:
        text = own_text(argument.text, argument.name, each.model, unknown)
        series = Series(each.label, "checkpoint", text.nats(each.model, each.label))
        crosses = crosses_lines(each.model.network)
        units = text.characters.in_blocks() if crosses else text.characters
        figures = row(series, series, units, resamples=resamples, seed=seed)
        found.append(TextFigures(each, text, figures))
    return found
