"""Which characters rhyme, by the finals of their pinyin.

V vocabulary.
"""

import torch
from torch import Tensor

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
        # an optional extra, and seconds of nobody's time without --rhyme
        from pypinyin import Style, lazy_pinyin  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "--rhyme needs the package pypinyin, which is not installed: "
            "pip install 'lyricgen[rhyme]'"
        ) from error
    alone = list(characters)  # in a list each is a word of its own
    syllables = lazy_pinyin(alone, style=Style.NORMAL, errors=lambda _: "?")
    finals = lazy_pinyin(alone, style=Style.FINALS, strict=True, errors=lambda _: "?")
    return torch.tensor(
        [
            _NUMBERS.get("-i" if syllable in _BARE else final, NONE)
            for syllable, final in zip(syllables, finals, strict=True)
        ]
    )
