"""Turns a user's wishes into constraints, and plans those of names, which are single lines.

R texts, T new characters, V vocabulary.
"""

import re
import unicodedata
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from lyricgen.errors import UserError
from lyricgen.generation.constraints import Constraints, Request, only, planned
from lyricgen.generation.control import Control
from lyricgen.generation.verse import constrain_lines
from lyricgen.models.trained_model import TrainedModel


def members(option: str, given: str, characters: str, *, ignore_case: bool = False) -> Tensor:
    r"""Characters of a named set.

    Args:
        option: how the user gave it, for the error.
        given: as in "的了", "a-z", "一-龥", "^0-9" or r"\d\s"; brackets stand for themselves.
        characters: V.
        ignore_case: whether A is a as well.

    Returns:
        (V,) booleans.

    Raises:
        UserError: it cannot be read as such a set.
    """
    composed = unicodedata.normalize("NFC", given)
    inside = re.sub(r"\\.|[\[\]]", lambda found: found[0].rjust(2, "\\"), composed, flags=re.S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of -- and &&, which are plain here
            pattern = re.compile(f"[{inside}]", re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError) as error:
        raise UserError(
            f"{option} {given!r} is no set of characters ({error}): write it as between the "
            "brackets of a regular expression, as in 'a-z' or '的了'"
        ) from error
    return torch.tensor([pattern.fullmatch(one) is not None for one in characters])


def constrain(
    model: TrainedModel, control: Control, prefixes: Sequence[str], length: int | None
) -> Constraints:
    """Plan which characters may stand where in the texts of a `Request`.

    Raises:
        UserError: no text can be so, or this model writes none such.
    """
    control.check_layout(model.layout)
    allowed = _allowed(model, control).to(model.network.device)
    request = Request(model, control, prefixes, length, allowed)
    if model.layout == "lines":
        return _constrain_names(request)
    if control.number_of_lines is not None or control.line_length is not None:
        return constrain_lines(request)
    request.check_any(allowed, "to write")
    rules = [] if allowed.all() else [only(allowed)]
    number = len(prefixes)
    return Constraints(rules, [length or model.default_length] * number, None, [1] * number)


def _allowed(model: TrainedModel, control: Control) -> Tensor:
    known, small = model.vocabulary.characters, model.lowercase
    allowed = torch.ones(len(known), dtype=torch.bool)
    if control.only is not None:
        allowed &= members("--only", control.only, known, ignore_case=small)
    if control.ban is not None:
        allowed &= ~members("--ban", control.ban, known, ignore_case=small)
    return allowed


def _constrain_names(request: Request) -> Constraints:
    """Names of single lines: the stop is always allowed where nothing else is wanted."""
    control, allowed, prefixes = request.control, request.allowed, request.prefixes
    vocabulary = request.model.vocabulary
    stop = int(vocabulary.encode("\n"))
    begun = torch.tensor([len(prefix) for prefix in prefixes])  # (R,)
    steps = _longest(request) or request.model.default_length
    ending = torch.zeros_like(allowed)
    ending[stop] = True
    inside = allowed & ~ending
    request.check_any(inside, "to write")
    first = inside if control.novel else inside | ending  # an empty name is no new one
    starts = _starts(request, inside, steps)  # (S,)
    letters = torch.nn.functional.one_hot(starts, len(vocabulary)).bool().to(allowed.device)
    sets = torch.cat([torch.stack([ending, inside | ending, first]), letters])

    place = begun[:, None] + torch.arange(steps)  # (R, T)
    plan = torch.where(place == 0, 2, 1)
    plan = torch.where(place < len(starts), 3 + place, plan)
    if control.max_length is not None:
        plan = torch.where(place >= control.max_length, 0, plan)
    rules = [] if control == Control() else [planned(sets, plan.to(allowed.device))]
    return Constraints(rules, [steps] * len(prefixes), stop, [1] * len(prefixes))


def _longest(request: Request) -> int | None:
    """New characters of a name at most, its end included; None for the model's default."""
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


def _starts(request: Request, inside: Tensor, steps: int) -> Tensor:
    """The ids of --starts-with."""
    control = request.control
    given = control.starts_with
    if given is None:
        return torch.zeros(0, dtype=torch.int64)
    option = f"--starts-with {given!r}"
    if any(request.prefixes):
        raise UserError(f"{option} does not go with --prefix: give one of them")
    if "\n" in given:
        raise UserError(f"{option}: a name is a single line, leave the newline out")
    ids = request.model.vocabulary.encode(given).long()
    most = min(steps, control.max_length or steps)
    if len(given) > most:
        raise UserError(f"{option} has {len(given)} characters, more than the {most} of a name")
    refused = [one for one, known in zip(given, inside[ids].tolist(), strict=True) if not known]
    if refused:
        raise UserError(f"{option} has {refused[0]!r}, which {control.sets} forbids")
    return ids
