"""A text of the user's own, read as training reads its text and scored as a held-out part is.

N characters of the text, K of them known to the model.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lyricgen.data.code_points import code_points, distinct
from lyricgen.data.control_characters import FORBIDDEN, ControlCharacterFilter
from lyricgen.data.corpus import prepared_pieces
from lyricgen.data.options import ControlCharacters, Newline, Unit
from lyricgen.data.parts import Part, line_part
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.evaluation.bootstrap import Booleans, Floats
from lyricgen.evaluation.scores import Integers, PartText, part_nats
from lyricgen.evaluation.text_argument import in_own_words
from lyricgen.models.trained_model import TrainedModel

Unknown = Literal["refuse", "skip"]

LONGEST_LINE = 10_000  # characters; a model of lines reads each as a whole


@dataclass(frozen=True)
class OwnText:
    """A text as a model reads it.

    Attributes:
        name: what to call it.
        text: N characters, normalised as the corpus was.
        known: (N,) which of them the model reads; what it does not know is left out.
        left_out: the characters that it does not, in their order.
        part: what it reads, laid out as its own text was.
        characters: the same without start symbols, (K,).
    """

    name: str
    text: str
    known: Booleans
    left_out: str
    part: Part
    characters: PartText

    def spread(self, values: Floats) -> Floats:
        """(K,) values of what was read -> (N,) values of all characters, nan for the others."""
        every = np.full(len(self.text), np.nan)
        every[self.known] = values
        return every

    def nats(self, model: TrainedModel, label: str) -> Floats:
        """(K,) of what was read; nan where the model predicts nothing."""
        return part_nats(model, self.part, f"scoring {self.name} with {label}")


def own_text(text: str, name: str, model: TrainedModel, unknown: Unknown = "refuse") -> OwnText:
    """Read a text as training would: composed, in lower case where the corpus was, in its layout.

    Args:
        text: with any of the three line ends.
        name: what to call it.
        model: that reads it.
        unknown: what to do with characters that the model does not know.

    Raises:
        UserError: it has such characters and they are refused, or nothing to predict is left, or
            a line is too long for a model of lines.
    """
    lines = model.layout == "lines" or _trained_with(model, "unit") == "line"
    unit: Unit = "line" if lines else "text"
    newline: Newline = "space" if _trained_with(model, "newline") == "space" else "keep"
    text, refused = replace_controls(text, name, model)
    pieces = prepared_pieces([text], newline=newline, lowercase=model.lowercase, max_chars=None)
    text = "".join(pieces)
    if unit == "line":
        stripped = [one for line in text.split("\n") if (one := line.strip())]
        text = "".join(f"{line}\n" for line in stripped)
    known = model.vocabulary.knows(text)
    codes = code_points(text)
    left_out = _text_of(codes[~known])
    if unknown == "refuse" and left_out:
        if refused is not None and all(map(FORBIDDEN.match, distinct(left_out))):
            raise refused
        raise _refused(name, left_out, model.vocabulary)
    if unit == "line":
        known &= ~_ends_of_empty_lines(codes, known)
    kept = codes[known]
    if len(kept) < 2:
        raise UserError(f"{name} has {len(kept)} characters to read, at least 2 are needed")
    if model.layout == "lines":
        _check_lines(name, kept)
    part = line_part(model.vocabulary.encode(_text_of(kept)), model.vocabulary, model.layout)
    characters = PartText.of(part, model.vocabulary, unit)
    return OwnText(name, text, known, left_out, part, characters)


def replace_controls(text: str, name: str, model: TrainedModel) -> tuple[str, UserError | None]:
    """Replace control characters as in the model's training.

    Returns:
        The text, and what to say where the training refused characters of it.
    """
    wanted = _trained_with(model, "control_characters")
    choice: ControlCharacters = next(
        (one for one in get_args(ControlCharacters) if one == wanted), "refuse"
    )
    controls = ControlCharacterFilter(name, choice, "take them out, or say --unknown skip")
    text = controls.feed(text)
    return text, None if controls.error is None else in_own_words(controls.error)


def _ends_of_empty_lines(codes: Integers, known: Booleans) -> Booleans:
    """(N,) the newlines that have no character before them which is known."""
    read = np.flatnonzero(known)
    ends = codes[read] == ord("\n")
    empty = np.zeros_like(known)
    empty[read[ends & np.append(True, ends[:-1])]] = True
    return empty


def _check_lines(name: str, codes: Integers) -> None:
    longest = int(np.diff(np.flatnonzero(codes == ord("\n")), prepend=-1).max()) - 1
    if longest > LONGEST_LINE:
        raise UserError(
            f"{name} has a line of {longest:,} characters: this model reads lines of up to "
            f"{LONGEST_LINE:,}, break it"
        )


def _trained_with(model: TrainedModel, option: str) -> object:
    """An option of data= in the training, as far as it is known."""
    data = model.options.get("data")
    return data.get(option) if isinstance(data, dict) else None


def _refused(name: str, unknown: str, vocabulary: Vocabulary) -> UserError:
    return UserError(
        f"{name} has {len(unknown):,} characters that the model does not know: "
        f"{vocabulary.list_unknown(unknown)}; leave them out, or say --unknown skip"
    )


def _text_of(codes: Integers) -> str:
    return codes.tobytes().decode("utf-32-le", "surrogatepass")
