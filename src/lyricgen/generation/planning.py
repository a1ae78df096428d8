"""Plans for texts: which characters are allowed at each place, and where the texts end.

Shapes: R texts, T new characters, V vocabulary, S characters of --starts-with.
"""

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lyricgen.data.splits import LAYOUT_ENDS
from lyricgen.errors import UserError, as_option
from lyricgen.generation.options import Control
from lyricgen.generation.rules import Rule, allow_only, allow_planned
from lyricgen.models.trained_model import TrainedModel

FOR_TEXTS = ("lines", "line_length", "acrostic", "rhyme")  # for running text and documents
FOR_NAMES = ("starts_with", "max_length", "novel")  # for single lines and documents


@dataclass(frozen=True)
class Request:
    """A request for texts from a model."""

    model: TrainedModel
    control: Control
    prefixes: Sequence[str]  # R, normalised as the corpus was; they need not obey `ban` and `only`
    length: int | None  # most new characters; None: `control` or the model's default decides
    allowed: Tensor  # (V,) booleans, the characters that `ban` and `only` leave

    def check_any(self, characters: Tensor, purpose: str) -> None:
        """Raise a UserError that names a purpose if no element of `characters`, (V,), is true."""
        if not characters.any():
            raise UserError(f"{self.control.sets} leaves no character {purpose}: allow some")

    def encode_allowed(self, option: str, given: str, allowed: Tensor) -> Tensor:
        """Encode the characters that an option gives.

        Args:
            option: the option, as errors show it.
            given: its characters.
            allowed: (V,) booleans, the allowed characters.

        Raises:
            UserError: a character is unknown or not allowed.
        """
        vocabulary = self.model.vocabulary
        ids = vocabulary.encode(given).long()
        for character, number, known in zip(given, ids, allowed[ids].tolist(), strict=True):
            if not known:
                why = f"{self.control.sets} forbids"
                if number == vocabulary.rare_id:
                    why = "is rare, so that the model never writes it"
                raise UserError(f"{option} has {character!r}, which {why}")
        return ids


@dataclass(frozen=True)
class Constraints:
    """Plan of R texts: the rules at each place, and where each text ends."""

    rules: list[Rule]  # applied in this order
    lengths: list[int]  # R, largest number of new characters of each text, with the stop
    stop: int | None  # id of the character that ends a text; None if only its length ends it
    stops: list[int]  # R, for each text the number of stops that end it, without the prefix's
    complete: bool = False  # whether a text of its full length is complete, not cut off


def request_texts(
    model: TrainedModel, control: Control, prefixes: Sequence[str], length: int | None
) -> Request:
    """Make a request: check that the constraints suit the model, and read their sets of characters.

    Raises:
        UserError: a constraint is for models of another layout or does not go with another one, or
            a set cannot be read.
    """
    of_texts, of_names = (
        [name for name in names if getattr(control, name)] for names in (FOR_TEXTS, FOR_NAMES)
    )
    written, other, wrong = "running text", "single lines", of_names
    if model.layout == "lines":
        written, other, wrong = other, written, of_texts
    if model.layout == "documents":
        if of_texts and of_names:
            first, second = as_option(of_texts[0]), as_option(of_names[0])
            raise UserError(f"{second} does not go with {first}: leave one of them out")
    elif wrong:
        raise UserError(
            f"{as_option(wrong[0])} is for models of {other}, and this one writes {written}"
        )
    known, small = model.vocabulary.characters, model.lowercase
    allowed = torch.ones(len(known), dtype=torch.bool)
    if control.only is not None:
        allowed &= members("--only", control.only, known, ignore_case=small)
    if control.ban is not None:
        allowed &= ~members("--ban", control.ban, known, ignore_case=small)
    if model.layout == "documents":  # the end of a document is no character of a text
        allowed[int(model.vocabulary.encode(LAYOUT_ENDS["documents"]))] = False
    if model.vocabulary.rare_id is not None:
        allowed[model.vocabulary.rare_id] = False
    return Request(model, control, prefixes, length, allowed.to(model.network.device))


def members(option: str, given: str, characters: str, *, ignore_case: bool = False) -> Tensor:
    r"""Find which characters belong to a set that a user has written, (V,) booleans.

    Args:
        option: name of the option that gives the set, for the error.
        given: the set, as in "的了", "a-z", "一-龥", "^0-9" or r"\d\s"; brackets are characters.
        characters: V characters to choose from.
        ignore_case: whether to ignore the case of letters.

    Raises:
        UserError: the text cannot be read as a set.
    """
    composed = unicodedata.normalize("NFC", given)
    inside = re.sub(r"\\.|[\[\]]", lambda found: found[0].rjust(2, "\\"), composed, flags=re.S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about -- and &&, which are plain
            pattern = re.compile(f"[{inside}]", re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError) as error:
        raise UserError(
            f"{option} {given!r} is no set of characters ({error}): write it as between the "
            "brackets of a regular expression, as in 'a-z' or '的了'"
        ) from error
    return torch.tensor([pattern.fullmatch(one) is not None for one in characters])


def constrain_text(request: Request) -> Constraints:
    """Plan running text without lines, with the same allowed characters at every place.

    Raises:
        UserError: no character is allowed.
    """
    allowed, number = request.allowed, len(request.prefixes)
    request.check_any(allowed, "to write")
    rules = [] if allowed.all() else [allow_only(allowed)]
    return Constraints(
        rules, [request.length or request.model.default_length] * number, None, [1] * number
    )


def constrain_names(request: Request) -> Constraints:
    """Plan lines or documents without a given form, called names here.

    A name may end wherever nothing else is required, but is not empty with `novel`.

    Raises:
        UserError: no name can obey the constraints, or they contradict the prefixes, the length or
            each other.
    """
    control, allowed, prefixes = request.control, request.allowed, request.prefixes
    vocabulary = request.model.vocabulary
    stop = int(vocabulary.encode(LAYOUT_ENDS[request.model.layout]))
    begun = torch.tensor([len(prefix) for prefix in prefixes])  # (R,)
    steps = _longest_name(request) or request.model.default_length
    ending = torch.zeros_like(allowed)
    ending[stop] = True
    inside = allowed & ~ending
    request.check_any(inside, "to write")
    first = inside if control.novel else inside | ending  # an empty name is no new one
    starts = _encode_start(request, inside, steps)  # (S,)
    letters = torch.nn.functional.one_hot(starts, len(vocabulary)).bool().to(allowed.device)
    sets = torch.cat([torch.stack([ending, inside | ending, first]), letters])

    position = begun[:, None] + torch.arange(steps)  # (R, T)
    plan = torch.where(position == 0, 2, 1)
    plan = torch.where(position < len(starts), 3 + position, plan)
    if control.max_length is not None:
        plan = torch.where(position >= control.max_length, 0, plan)
    is_free = control == Control() and bool(sets[1].all())
    rules = [] if is_free else [allow_planned(sets, plan.to(allowed.device))]
    return Constraints(rules, [steps] * len(prefixes), stop, [1] * len(prefixes))


def _longest_name(request: Request) -> int | None:
    """Find the most new characters of a name, its end included; None for the model's default.

    Raises:
        UserError: --max-length contradicts the length or a prefix.
    """
    most, prefixes = request.control.max_length, request.prefixes
    if most is None:
        return request.length
    if request.length is not None:
        raise UserError("--length does not go with --max-length, which says how long names are")
    for prefix in prefixes:
        if len(prefix) > most:
            raise UserError(
                f"--max-length {most}: the prefix {prefix!r} has {len(prefix)} characters"
            )
    return most - min(map(len, prefixes)) + 1


def _encode_start(request: Request, inside: Tensor, steps: int) -> Tensor:
    """Encode --starts-with, (S,); no characters if it is not given.

    Raises:
        UserError: the beginning is longer than `steps` or --max-length, or has a newline or a
            character that is unknown or not in `inside`, (V,) booleans; or there is a prefix, too.
            Documents may begin with several lines.
    """
    given = request.control.starts_with
    if given is None:
        return torch.zeros(0, dtype=torch.int64)
    option = f"--starts-with {given!r}"
    if any(request.prefixes):
        raise UserError(f"{option} does not go with --prefix: give one of them")
    if request.model.layout == "lines" and "\n" in given:
        raise UserError(f"{option}: a name is a single line, leave the newline out")
    most = min(steps, request.control.max_length or steps)
    if len(given) > most:
        raise UserError(f"{option} has {len(given)} characters, more than the {most} of a name")
    return request.encode_allowed(option, given, inside)
