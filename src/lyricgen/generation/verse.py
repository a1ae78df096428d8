"""Plans for texts in lines: number, length, first characters and rhymes of the lines.

Shapes: R texts, T new characters, V vocabulary, E ends of lines, D different numbers of lines.
"""

import re

import torch
from torch import Tensor

from lyricgen.data.splits import LAYOUT_ENDS
from lyricgen.data.units import CHINESE
from lyricgen.errors import UserError
from lyricgen.generation.options import Control
from lyricgen.generation.planning import Constraints, Request
from lyricgen.generation.rules import (
    allow_planned,
    free_lines,
    join_characters,
    require_rhyme,
)
from lyricgen.models.trained_model import LENGTH

BREAK, INSIDE, HEADS = 0, 1, 2  # numbers of sets of characters
# Letters of scripts without spaces between words: Chinese, Japanese, Thai, Lao, Tibetan, Burmese,
# Khmer, Yi.
_UNSPACED = re.compile(
    "[\u3005-\u3007\u3031-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\ua000-\ua4cf\uaa60-\uaa7f]"
)

# The fourteen classes of 中华新韵 (十四韵, Chinese Poetry Society 2005): finals of one class differ
# at most in the glide before the vowel, as in ia, a and ua. ü is written v; -i is the vowel of zhi
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
NO_CLASS = -1  # the class of a character that has no pinyin
_NUMBERS = {
    final: number for number, finals in enumerate(CLASSES.values()) for final in finals.split()
}
_BARE = frozenset(("zhi", "chi", "shi", "ri", "zi", "ci", "si"))


def constrain_lines(request: Request) -> Constraints:
    """Plan running text or documents in lines; a prefix is the beginning of its text.

    A newline ends a line, or a space if the vocabulary has no newline. No line after the prefix is
    empty or begins with a blank. With `line_length` no whole line ends with a blank either, and
    blanks stand within lines only if newlines end the lines and the script has spaces between
    words.

    A document of a given number of lines ends with the last of them, and where the model would end
    it earlier, a line ends. Without this number, a document of lines of equal length may end
    after each whole line.

    Args:
        request: a request with `lines`, `line_length` or `acrostic`. If `line_length` and the
            number of lines are given, `length` must be None.

    Raises:
        UserError: the model knows no line break, the constraints contradict a prefix or the length,
            no text can obey them, or the package pypinyin is missing for --rhyme.
    """
    vocabulary, allowed = request.model.vocabulary, request.allowed
    mark = next((one for one in "\n " if one in vocabulary.characters), None)
    if mark is None:
        raise UserError("this model knows no line break: train one on a text that has lines")
    begun = [_split_prefix(prefix, mark, request.control) for prefix in request.prefixes]
    blank = torch.tensor([one.isspace() for one in vocabulary.characters], device=allowed.device)
    breaks = torch.zeros_like(allowed)
    breaks[int(vocabulary.encode(mark))] = True
    visible = allowed & ~blank & ~breaks
    request.check_any(visible, "for the lines")
    heads = _heads(request, visible)  # (number of lines, V) with an acrostic, else (1, V)
    if request.control.line_length is None:
        sets = torch.cat([torch.stack([breaks, allowed | breaks]), heads])
        return _plan_any_length(request, sets, begun)
    spaced = mark == "\n" and is_spaced(vocabulary.characters)
    inside = allowed & ~breaks if spaced else visible
    sets = torch.cat([torch.stack([breaks, inside]), heads])
    return _plan_same_length(request, sets, visible)


def is_spaced(characters: str) -> bool:
    """Whether most letters belong to scripts with spaces between words."""
    letters = [one for one in characters if one.isalpha()]
    return 2 * sum(_UNSPACED.match(one) is None for one in letters) > len(letters)


def _split_prefix(prefix: str, mark: str, control: Control) -> list[str]:
    """Split a prefix into lines at each `mark`; the last line is "" if it has not begun.

    Raises:
        UserError: the lines contradict the constraints.
    """
    lines = prefix.split(mark)
    number, length, acrostic = control.number_of_lines, control.line_length, control.acrostic
    if number is not None and len(lines) > number:
        raise UserError(
            f"{control.counted}: the prefix {prefix!r} has {len(lines)} lines, leave some out"
        )
    for index, line in enumerate(lines):
        last = index == len(lines) - 1
        if length is not None and (len(line) > length or (len(line) < length and not last)):
            raise UserError(
                f"--line-length {length}: line {index + 1} of the prefix {prefix!r} has "
                f"{len(line)} characters"
            )
        if acrostic is not None and line[:1] != acrostic[index] and (line or not last):
            raise UserError(
                f"--acrostic {acrostic!r}: line {index + 1} of the prefix {prefix!r} does not "
                f"begin with {acrostic[index]!r}"
            )
    return lines


def _heads(request: Request, visible: Tensor) -> Tensor:
    """Find the allowed first characters: a row (V,) for each line of an acrostic, else one row.

    Raises:
        UserError: the acrostic has a blank, or a character that is unknown or forbidden.
    """
    given = request.control.acrostic
    if given is None:
        return visible[None]
    option = f"--acrostic {given!r}"
    try:
        request.model.vocabulary.encode(given)
    except UserError as error:
        raise UserError(f"{option}: {error}") from error
    for character in given:
        if character.isspace():
            raise UserError(f"{option}: a line cannot begin with {character!r}")
    ids = request.encode_allowed(option, given, visible)
    return torch.nn.functional.one_hot(ids, len(visible)).bool().to(visible.device)


def _plan_any_length(request: Request, sets: Tensor, begun: list[list[str]]) -> Constraints:
    control, number = request.control, request.control.number_of_lines
    assert number is not None
    length = request.length or LENGTH * number
    heads = [HEADS] * number
    if control.acrostic is not None:
        heads = list(range(HEADS, HEADS + number))
    for lines in begun:  # a break and a character for each line that has not begun
        least = 2 * (number - len(lines)) + (lines[-1] == "")
        if length < least:
            raise UserError(
                f"--length {length} is too short for the {number} lines of {control.counted}: "
                f"give {least} or more"
            )
    stop, device = int(sets[BREAK].nonzero()), sets.device
    rules = []
    if request.model.layout == "documents":
        rules = [join_characters(_document_end(request), stop)]
    rule = free_lines(
        sets,
        heads,
        line_break=stop,
        begun=torch.tensor([len(lines) - 1 for lines in begun], device=device),
        at_start=torch.tensor([lines[-1] == "" for lines in begun], device=device),
        finish_by=length,
    )
    stops = [number - len(lines) + 1 for lines in begun]
    return Constraints([*rules, rule], [length] * len(begun), stop, stops)


def _document_end(request: Request) -> int:
    return int(request.model.vocabulary.encode(LAYOUT_ENDS["documents"]))


def _plan_same_length(request: Request, sets: Tensor, visible: Tensor) -> Constraints:
    control, prefixes = request.control, request.prefixes
    number, width = control.number_of_lines, control.line_length
    assert width is not None
    begun = torch.tensor([len(prefix) for prefix in prefixes])  # (R,)
    if number is None:
        lengths = torch.full_like(begun, request.length or request.model.default_length)
    else:
        if request.length is not None:
            raise UserError(
                f"--length does not go with {control.counted} and --line-length, which say how "
                "long a text is"
            )
        lengths = number * (width + 1) - 1 - begun
        if (lengths < 1).any():
            prefix = prefixes[int((lengths < 1).nonzero()[0])]
            raise UserError(f"the prefix {prefix!r} is all of a text already: shorten it")
    position = begun[:, None] + torch.arange(int(lengths.max()))  # (R, T)
    line, column = position // (width + 1), position % (width + 1)
    plan = torch.where(column == width, BREAK, INSIDE)
    plan = torch.where((column == 0) | (column == width - 1), len(sets), plan)
    sets = torch.cat([sets, visible[None]])
    if control.acrostic is not None:
        plan = torch.where(column == 0, HEADS + line.clamp(max=len(control.acrostic) - 1), plan)
    rules, stop = [], None
    if number is None and request.model.layout == "documents":
        stop = _document_end(request)
        sets[BREAK, stop] = True
    if control.rhyme:
        ends, classes, enough, which = plan_rhymes(request, visible, lengths, width)
        plan = torch.where((line == 0) & (column == width - 1), len(sets) + which[:, None], plan)
        sets = torch.cat([sets, enough])
        rules = [require_rhyme(classes, ends)]
    rules = [allow_planned(sets, plan.to(sets.device)), *rules]
    stops = [1] * len(prefixes)
    return Constraints(rules, lengths.tolist(), stop, stops, complete=number is not None)


def rhyme_classes(characters: str) -> Tensor:
    """Find the rhyme class of each character, by its most frequent reading.

    Returns:
        (V,) int64, indices into `CLASSES`; `NO_CLASS` for characters without pinyin.

    Raises:
        UserError: the package pypinyin is not installed.
    """
    try:
        from pypinyin import Style, lazy_pinyin  # noqa: PLC0415  optional, slow to import
    except ImportError as error:
        raise UserError(
            "--rhyme needs the package pypinyin, which is not installed: "
            "pip install 'lyricgen[rhyme]'"
        ) from error
    words = list(characters)  # pypinyin takes each element of a list for a word
    syllables = lazy_pinyin(words, style=Style.NORMAL, errors=lambda _: "?")
    finals = lazy_pinyin(words, style=Style.FINALS, strict=True, errors=lambda _: "?")
    return torch.tensor(
        [
            _NUMBERS.get("-i" if syllable in _BARE else final, NO_CLASS)
            for syllable, final in zip(syllables, finals, strict=True)
        ]
    )


def plan_rhymes(
    request: Request, visible: Tensor, lengths: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Plan the ends of lines, so that all lines rhyme and no character ends two lines.

    Args:
        request: a request whose prefixes are whole lines, except for their last lines.
        visible: (V,) booleans, characters that may stand in a line.
        lengths: (R,) int64, new characters.
        width: characters of a line.

    Returns:
        - (R, E), positions of the ends of lines. The first new character is at position 0.
        - (V,), rhyme class of each character.
        - (D, V) booleans: for each number of lines, the characters whose class has as many or more.
        - (R,), row of each text in these booleans.

    Raises:
        UserError: the model writes no Chinese, a text has fewer than two whole lines, too few
            characters rhyme, the lines of a prefix do not rhyme, or pypinyin is not installed.
    """
    prefixes, vocabulary = request.prefixes, request.model.vocabulary
    if not any(map(CHINESE.match, vocabulary.characters)):
        raise UserError("--rhyme needs Chinese, whose pinyin it compares: this model writes none")
    classes = rhyme_classes(vocabulary.characters)
    begun = torch.tensor([len(prefix) for prefix in prefixes])
    lines = (begun + lengths + 1) // (width + 1)  # (R,), whole ones
    if (lines < 2).any():
        raise UserError("--rhyme needs two whole lines: raise --length, or lower --line-length")
    positions = torch.arange(int(lines.max())) * (width + 1) + width - 1
    ends = positions - begun[:, None]  # (R, E)
    free = visible.cpu() & (classes != NO_CLASS)
    sizes = torch.bincount(classes[free], minlength=len(CLASSES))
    numbers = sorted(set(lines.tolist()))
    enough = torch.stack([free & (sizes[classes] >= number) for number in numbers])
    which = torch.tensor([numbers.index(number) for number in lines.tolist()])
    for prefix, number in dict(zip(prefixes, lines.tolist(), strict=True)).items():
        given = prefix[width - 1 :: width + 1]
        if given:
            _check_rhyme(prefix, vocabulary.encode(given).long(), classes, free, number)
        elif not enough[numbers.index(number)].any():
            raise UserError(
                f"--rhyme finds no {number} different characters that rhyme: with these characters "
                f"at most {int(sizes.max())} lines do"
            )
    device = visible.device
    return ends.to(device), classes.to(device), enough.to(device), which


def _check_rhyme(prefix: str, given: Tensor, classes: Tensor, free: Tensor, lines: int) -> None:
    """Check that the complete lines of a prefix rhyme, and that further lines can rhyme too.

    Args:
        prefix: the prefix, for errors.
        given: ids of the last characters of its complete lines.
        classes: (V,) int64, the rhyme class of each character.
        free: (V,) booleans, characters that may end a line.
        lines: number of lines of the whole text.

    Raises:
        UserError: the lines do not rhyme or end with no syllable, two of them end with the same
            character, or too few characters are left for further lines.
    """
    rhyme = int(classes[given[0]])
    if rhyme == NO_CLASS:
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
