"""From what a user wants of texts to constraints.

R texts, T new characters, V vocabulary.
"""

import re
import unicodedata
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from lyricgen.data.parts import Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.generation.constraints import Constraints, only, planned
from lyricgen.generation.control import Control
from lyricgen.generation.verse import constrain_lines


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
    control: Control,
    vocabulary: Vocabulary,
    layout: Layout,
    prefixes: Sequence[str],
    *,
    length: int | None,
    default_length: int,
    lowercase: bool,
    device: torch.device,
) -> Constraints:
    """Plan what may stand where.

    Args:
        control: what is wanted.
        vocabulary: of the model.
        layout: of its texts.
        prefixes: R, as the model reads them; they need not obey `ban` and `only`.
        length: new characters at most; None for the default, or for what the options need.
        default_length: where neither says it.
        lowercase: whether the model knows small letters alone.
        device: where the logits will be.

    Raises:
        UserError: no text can be so, or this model writes none such.
    """
    control.check_layout(layout)
    allowed = _allowed(control, vocabulary, lowercase).to(device)
    if layout == "lines":
        return _constrain_names(control, vocabulary, allowed, prefixes, length, default_length)
    if control.number_of_lines is not None or control.line_length is not None:
        return constrain_lines(control, vocabulary, allowed, prefixes, length, default_length)
    if not allowed.any():
        raise UserError(f"{control.sets} leaves no character to write: allow some")
    rules = [] if allowed.all() else [only(allowed)]
    return Constraints(rules, [length or default_length] * len(prefixes), None, [1] * len(prefixes))


def _allowed(control: Control, vocabulary: Vocabulary, lowercase: bool) -> Tensor:
    allowed = torch.ones(len(vocabulary), dtype=torch.bool)
    known = vocabulary.characters
    if control.only is not None:
        allowed &= members("--only", control.only, known, ignore_case=lowercase)
    if control.ban is not None:
        allowed &= ~members("--ban", control.ban, known, ignore_case=lowercase)
    return allowed


def _constrain_names(
    control: Control,
    vocabulary: Vocabulary,
    allowed: Tensor,
    prefixes: Sequence[str],
    length: int | None,
    default_length: int,
) -> Constraints:
    """Names of single lines: the stop is always allowed where nothing else is wanted."""
    stop = int(vocabulary.encode("\n"))
    begun = torch.tensor([len(prefix) for prefix in prefixes])  # (R,)
    if control.max_length is not None:
        if length is not None:
            raise UserError("--length does not go with --max-length, which says how long names are")
        for prefix in prefixes:
            if len(prefix) > control.max_length:
                raise UserError(
                    f"--max-length {control.max_length}: the prefix {prefix!r} has "
                    f"{len(prefix)} characters"
                )
        length = control.max_length - int(begun.min()) + 1
    steps = length or default_length
    ending = torch.zeros_like(allowed)
    ending[stop] = True
    inside = allowed & ~ending
    if not inside.any():
        raise UserError(f"{control.sets} leaves no character to write: allow some")
    first = inside if control.novel else inside | ending  # an empty name is no new one
    starts = _starts(control, vocabulary, inside, prefixes, steps)  # (S,)
    letters = torch.nn.functional.one_hot(starts, len(vocabulary)).bool().to(allowed.device)
    sets = torch.cat([torch.stack([ending, inside | ending, first]), letters])

    place = begun[:, None] + torch.arange(steps)  # (R, T)
    plan = torch.where(place == 0, 2, 1)
    plan = torch.where(place < len(starts), 3 + place, plan)
    if control.max_length is not None:
        plan = torch.where(place >= control.max_length, 0, plan)
    rules = [] if control == Control() else [planned(sets, plan.to(allowed.device))]
    return Constraints(rules, [steps] * len(prefixes), stop, [1] * len(prefixes))


def _starts(
    control: Control,
    vocabulary: Vocabulary,
    inside: Tensor,
    prefixes: Sequence[str],
    steps: int,
) -> Tensor:
    """The ids of --starts-with."""
    given = control.starts_with
    if given is None:
        return torch.zeros(0, dtype=torch.int64)
    option = f"--starts-with {given!r}"
    if any(prefixes):
        raise UserError(f"{option} does not go with --prefix: give one of them")
    if "\n" in given:
        raise UserError(f"{option}: a name is a single line, leave the newline out")
    ids = vocabulary.encode(given).long()
    most = min(steps, control.max_length or steps)
    if len(given) > most:
        raise UserError(f"{option} has {len(given)} characters, more than the {most} of a name")
    refused = [one for one, known in zip(given, inside[ids].tolist(), strict=True) if not known]
    if refused:
        raise UserError(f"{option} has {refused[0]!r}, which {control.sets} forbids")
    return ids
