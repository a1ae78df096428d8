"""Sets of characters, as they stand between the brackets of a regular expression.

V vocabulary.
"""

import re
import unicodedata
import warnings

import torch
from torch import Tensor

from lyricgen.errors import UserError


def members(option: str, given: str, characters: str, *, ignore_case: bool = False) -> Tensor:
    r"""Which characters a set has.

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
