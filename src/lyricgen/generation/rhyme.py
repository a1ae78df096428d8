"""Rhymes of Chinese characters, by the finals of their pinyin.

R texts, V vocabulary, E lines that end, D different numbers of lines.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError

# The fourteen classes of 中华新韵 (十四韵, Chinese Poetry Society 2005): finals of one class differ
# in the glide before the vowel at most, as in ia, a and ua. ü is written v; -i is the vowel of zhi
# and of zi, which does not rhyme with that of mi.
CLASSES = {
    "麻": "a ia ua",
    "波": "o e uo",
    "皆": "ie ve ê",
    "开": "ai uai",
    "微": "ei uei",
    "豪": "ao iao",
    "尤": "ou iou",
    "寒": "an ian uan van",
    "文": "en in uen vn",
    "唐": "ang iang uang",
    "庚": "eng ing ueng ong iong",
    "齐": "i v er",
    "支": "-i",
    "姑": "u",
}
_CHINESE = re.compile("[\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
NONE = -1  # the class of a character that has no pinyin

_NUMBERS = {
    final: number for number, finals in enumerate(CLASSES.values()) for final in finals.split()
}
_BARE = frozenset(("zhi", "chi", "shi", "ri", "zi", "ci", "si"))


def rhyme_classes(characters: str) -> Tensor:
    """The rhyme of each character, by its most frequent reading.

    Args:
        characters: V, each taken alone, as it would be read outside any word.

    Returns:
        (V,) int64, numbers of `CLASSES` in their order, `NONE` for what has no pinyin.

    Raises:
        UserError: the package pypinyin is not installed.
    """
    try:
        from pypinyin import Style, lazy_pinyin  # noqa: PLC0415  an extra that takes seconds
    except ImportError as error:
        raise UserError(
            "--rhyme needs the package pypinyin, which is not installed: "
            "pip install 'lyricgen[rhyme]'"
        ) from error
    single = list(characters)  # in a list each is a word of its own
    syllables = lazy_pinyin(single, style=Style.NORMAL, errors=lambda _: "?")
    finals = lazy_pinyin(single, style=Style.FINALS, strict=True, errors=lambda _: "?")
    return torch.tensor(
        [
            _NUMBERS.get("-i" if syllable in _BARE else final, NONE)
            for syllable, final in zip(syllables, finals, strict=True)
        ]
    )


def plan_rhymes(
    vocabulary: Vocabulary,
    visible: Tensor,
    prefixes: Sequence[str],
    lengths: Tensor,
    width: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allowed ends of lines: all rhyme, and no character ends two lines.

    Args:
        vocabulary: of the model.
        visible: (V,) booleans, what may stand in a line.
        prefixes: R, whole lines but for their last ones.
        lengths: (R,) int64, new characters.
        width: characters of a line.

    Returns:
        Ends of lines, (R, E), counted in new characters from 0, so negative in the prefix; rhymes
        of characters, (V,); characters that first lines may end with, since enough others rhyme
        with them, (D, V) booleans for each number of lines; and the row of these for a text, (R,).

    Raises:
        UserError: the model writes no Chinese, not enough characters rhyme, or those of a prefix
            do not.
    """
    if not any(map(_CHINESE.match, vocabulary.characters)):
        raise UserError("--rhyme needs Chinese, whose pinyin it compares: this model writes none")
    classes = rhyme_classes(vocabulary.characters)
    begun = torch.tensor([len(prefix) for prefix in prefixes])
    lines = (begun + lengths + 1) // (width + 1)  # (R,), whole ones
    if (lines < 2).any():
        raise UserError("--rhyme needs two whole lines: raise --length, or lower --line-length")
    places = torch.arange(int(lines.max())) * (width + 1) + width - 1
    ends = places - begun[:, None]  # (R, E)
    free = visible.cpu() & (classes != NONE)
    sizes = torch.bincount(classes[free], minlength=len(CLASSES))
    numbers = sorted(set(lines.tolist()))
    enough = torch.stack([free & (sizes[classes] >= number) for number in numbers])
    which = torch.tensor([numbers.index(number) for number in lines.tolist()])
    for prefix, number in dict(zip(prefixes, lines.tolist(), strict=True)).items():
        given = prefix[width - 1 :: width + 1]
        if given:
            _check_given(prefix, vocabulary.encode(given).long(), classes, free, number)
        elif not enough[numbers.index(number)].any():
            raise UserError(
                f"--rhyme finds no {number} different characters that rhyme: with these characters "
                f"at most {int(sizes.max())} lines do"
            )
    device = visible.device
    return ends.to(device), classes.to(device), enough.to(device), which


def _check_given(prefix: str, given: Tensor, classes: Tensor, free: Tensor, lines: int) -> None:
    """Check that the ended lines of a prefix rhyme, and that further lines can rhyme with them."""
    rhyme = int(classes[given[0]])
    if rhyme == NONE:
        raise UserError(f"--rhyme: the first line of the prefix {prefix!r} ends with no syllable")
    if (classes[given] != rhyme).any() or len(set(given.tolist())) < len(given):
        raise UserError(
            f"--rhyme: the lines of the prefix {prefix!r} do not end with different characters "
            "that rhyme"
        )
    left = free & (classes == rhyme)
    left[given] = False
    if int(left.sum()) < lines - len(given):
        raise UserError(
            f"--rhyme: only {int(left.sum())} more characters rhyme with those of the prefix "
            f"{prefix!r}, for {lines - len(given)} lines"
        )
