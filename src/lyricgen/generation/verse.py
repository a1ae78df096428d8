"""Running text in lines: how many, how long, how they begin and end.

R texts, T new characters, V vocabulary.
"""

import re

import torch
from torch import Tensor

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.generation.constraints import Constraints, Request, free_lines, planned, rhyming
from lyricgen.generation.control import Control
from lyricgen.generation.rhyme import plan_rhymes

BREAK, INSIDE, HEADS = 0, 1, 2  # numbers of sets of characters
# Letters of scripts without spaces between words: Chinese, Japanese, Thai, Lao, Tibetan, Burmese,
# Khmer, Yi.
_UNSPACED = re.compile(
    "[\u3005-\u3007\u3031-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f"
    "\U00020000-\U0003ffff\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\ua000-\ua4cf\uaa60-\uaa7f]"
)


def constrain_lines(request: Request) -> Constraints:
    """Plan the lines of R texts; a prefix counts as their beginning.

    No line is empty or begins with a blank. Lines of a given length do not end with one, either,
    and have blanks in them only where the script parts words by spaces and a newline ends lines.
    The line break is always allowed where a line may end.

    Args:
        request: with lines, line_length or an acrostic. Without a length the lines decide it, by
            the model's default for each where only their number is given.

    Raises:
        UserError: no text can be so.
    """
    vocabulary, allowed = request.model.vocabulary, request.allowed
    mark = line_break(vocabulary)
    begun = [_begun(prefix, mark, request.control) for prefix in request.prefixes]
    blank = torch.tensor([one.isspace() for one in vocabulary.characters], device=allowed.device)
    breaks = torch.zeros_like(allowed)
    breaks[int(vocabulary.encode(mark))] = True
    visible = allowed & ~blank & ~breaks
    request.check_any(visible, "for the lines")
    heads = _heads(request.control, vocabulary, visible)  # (n,) of an acrostic, else (1,)
    if request.control.line_length is None:
        sets = torch.cat([torch.stack([breaks, allowed | breaks]), heads])
        return _any_length(request, sets, begun)
    spaced = mark == "\n" and is_spaced(vocabulary.characters)
    inside = allowed & ~breaks if spaced else visible
    sets = torch.cat([torch.stack([breaks, inside]), heads])
    return _same_length(request, sets, visible)


def is_spaced(characters: str) -> bool:
    """Whether most of the letters are of scripts that part words by spaces."""
    letters = [one for one in characters if one.isalpha()]
    return 2 * sum(_UNSPACED.match(one) is None for one in letters) > len(letters)


def line_break(vocabulary: Vocabulary) -> str:
    """Character that ends a line: the newline, or the space if the corpus has no newline.

    Raises:
        UserError: the model knows neither.
    """
    for mark in ("\n", " "):
        if mark in vocabulary.characters:
            return mark
    raise UserError("this model knows no line break: train one on a text that has lines")


def _begun(prefix: str, mark: str, control: Control) -> list[str]:
    """The lines of a prefix, the last of which goes on; "" where it is still to begin."""
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


def _heads(control: Control, vocabulary: Vocabulary, visible: Tensor) -> Tensor:
    """Allowed beginnings of lines: (n, V) booleans of an acrostic, (1, V) for all lines."""
    given = control.acrostic
    if given is None:
        return visible[None]
    option = f"--acrostic {given!r}"
    try:
        ids = vocabulary.encode(given).long()
    except UserError as error:
        raise UserError(f"{option}: {error}") from error
    for one, known in zip(given, visible[ids].tolist(), strict=True):
        if one.isspace():
            raise UserError(f"{option}: a line cannot begin with {one!r}")
        if not known:
            raise UserError(f"{option} has {one!r}, which {control.sets} forbids")
    return torch.nn.functional.one_hot(ids, len(vocabulary)).bool().to(visible.device)


def _any_length(request: Request, sets: Tensor, begun: list[list[str]]) -> Constraints:
    control, number = request.control, request.control.number_of_lines
    assert number is not None
    length = request.length or request.model.default_length * number
    heads = [HEADS] * number
    if control.acrostic is not None:
        heads = list(range(HEADS, HEADS + number))
    for lines in begun:  # a break and a character for each line, but for those begun
        least = 2 * (number - len(lines)) + (lines[-1] == "")
        if length < least:
            raise UserError(
                f"--length {length} is too short for the {number} lines of {control.counted}: "
                f"give {least} or more"
            )
    stop, device = int(sets[BREAK].nonzero()), sets.device
    rule = free_lines(
        sets,
        heads,
        line_break=stop,
        begun=torch.tensor([len(lines) - 1 for lines in begun], device=device),
        at_start=torch.tensor([lines[-1] == "" for lines in begun], device=device),
        finish_by=length,
    )
    stops = [number - len(lines) + 1 for lines in begun]
    return Constraints([rule], [length] * len(begun), stop, stops)


def _same_length(request: Request, sets: Tensor, visible: Tensor) -> Constraints:
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
    place = begun[:, None] + torch.arange(int(lengths.max()))  # (R, T)
    line, column = place // (width + 1), place % (width + 1)
    plan = torch.where(column == width, BREAK, INSIDE)
    plan = torch.where((column == 0) | (column == width - 1), len(sets), plan)
    sets = torch.cat([sets, visible[None]])
    if control.acrostic is not None:
        plan = torch.where(column == 0, HEADS + line.clamp(max=len(control.acrostic) - 1), plan)
    rules = []
    if control.rhyme:
        vocabulary = request.model.vocabulary
        ends, classes, enough, which = plan_rhymes(vocabulary, visible, prefixes, lengths, width)
        first = (line == 0) & (column == width - 1)
        plan = torch.where(first, len(sets) + which[:, None], plan)
        sets = torch.cat([sets, enough])
        rules = [rhyming(classes, ends)]
    rules = [planned(sets, plan.to(sets.device)), *rules]
    stops = [1] * len(prefixes)
    return Constraints(rules, lengths.tolist(), None, stops, complete=number is not None)
