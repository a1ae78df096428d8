"""Rewrites overrides, so that Hydra's grammar reads texts as they were typed."""

import re
import shlex
from collections.abc import Callable
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, QuotedString, Sweep
from hydra.errors import HydraException

from lyricgen.conf_files import default_choices, group_choices
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.settings import key

# Settings that are texts: files, names, lists of texts, and those of which a sweep has one value.
FILES = ("data.path", "init_from", "resume")
NEVER_SWEPT = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.sweeper.storage")
NAMES = ("name", "data.encoding", "trainer.accelerator", "trainer.strategy", "hydra.job.name")
LISTS = ("callbacks.samples.prefixes", "hydra.searchpath")
NULLABLE = (*FILES, *LISTS, "hydra.sweeper.storage")

# What a callback that is set to nothing means.
SWITCHED_OFF = {
    "callbacks.samples": ["callbacks.samples.every_n_epochs=0", "callbacks.samples.steps=[]"],
    **{
        f"callbacks.{name}": [f"callbacks.{name}.enabled=false"]
        for name in ("checkpoint", "early_stopping", "smoothed_loss", "baseline", "progress")
    },
}
_NOTHING = ("null", "none", "false")

_CHOICE = re.compile(r"\s*choice\s*\((.*)\)\s*", re.DOTALL)
# a quoted text between separators, an escaped character, any other one
_TOKEN = re.compile(
    r"""(?:^|(?<=[\s,(\[{:]))('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")(?=\s*(?:[,)\]}]|$))|\\.|.""",
    re.DOTALL,
)
_REFUSED = object()


def as_typed(overrides: list[str], *, multirun: bool) -> list[str]:
    """Rewrite overrides of texts such that Hydra's grammar gives back what was typed.

    A value that the grammar reads as a text stays: quoted ones, escapes, interpolations. So an
    override may be rewritten twice.

    Args:
        overrides: as they were typed.
        multirun: whether a comma separates the values of a sweep.

    Raises:
        UserError: a value may mean two things; the message shows what to type for each.
    """
    rewritten = []
    for override in overrides:
        name, (head, equals, value) = key(override), override.partition("=")
        removed = override.startswith("~")
        if not name:
            raise UserError(f"{override}: settings are typed as NAME=VALUE")
        group, _, leaf = name.rpartition(".")
        if leaf == "kind" and group in default_choices():
            choice = for_shell(f"{group}={value}")
            raise UserError(f"{override}: a choice brings settings of its own: type {choice}")
        if name in SWITCHED_OFF and (removed or value.lower() in _NOTHING):
            rewritten += SWITCHED_OFF[name]
        elif name in default_choices() and (removed or equals):
            earlier = [each for each in rewritten if key(each) != name]
            chosen = _choose(override)
            rewritten = [*rewritten, *chosen] if chosen else earlier
        elif not equals or removed:
            rewritten.append(override)
        elif name in NEVER_SWEPT:
            rewritten.append(f"{head}={_as_text(value, nullable=name in NULLABLE, swept=False)}")
        elif name in (*FILES, *NAMES):
            rewritten.append(f"{head}={_text(override, multirun=multirun)}")
        elif name in LISTS:
            rewritten.append(f"{head}={_list_of_texts(override, multirun=multirun)}")
        elif name.startswith("hydra.") and _parse(value) is _REFUSED:
            rewritten.append(f"{head}={quoted(value)}")
        else:
            rewritten.append(override)
    return rewritten


def quoted(value: str) -> str:
    """A value that Hydra's grammar gives back as it is."""
    value = re.sub(r"\\+(?='|\Z)", lambda slashes: slashes[0] * 2, value)
    return "'" + value.replace("'", "\\'") + "'"


def for_shell(word: str) -> str:
    """A word as it is typed in a shell, in quotation marks."""
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def _choose(override: str) -> list[str]:
    """An override of a group: null, None and false are the choice `none`, or no choice."""
    name, (head, _, value) = key(override), override.partition("=")
    if not override.startswith("~") and value.strip().lower() not in _NOTHING:
        return [f"{head}={_each(value, _as_text)}"]
    if "none" in group_choices(name):
        return [f"{name}=none"]
    if default_choices()[name] is None:
        return []
    if name == "callbacks":
        switches = ", ".join(each[0] for each in SWITCHED_OFF.values())
        raise UserError(f"{override}: callbacks are switched off one by one: {switches}")
    raise UserError(f"{override}: choose {name}= from {', '.join(group_choices(name))}")


def _text(override: str, *, multirun: bool) -> str:
    name, value = key(override), override.partition("=")[2]
    if name in FILES and _is_file(value):
        if multirun and len(split(value)) > 1 and all(map(_is_file, split(value))):
            raise _undecided(override, value)
        return quoted(value)
    if not multirun and len(split(value)) > 1:
        raise _undecided(override, value)
    return _each(value, lambda text: _as_text(text, nullable=name in NULLABLE))


def _list_of_texts(override: str, *, multirun: bool) -> str:
    head, _, value = override.partition("=")

    def rewrite(text: str) -> str:
        text = text.strip()
        if text.lower() in ("null", "none") or text.startswith("${"):
            return text
        if not is_list(text):
            one_list = for_shell(f"{head}=[{value.strip('[] ')}]")
            raise UserError(f"{override}: it is a list: type {one_list}")
        texts = split(text[1:-1])
        if not texts[-1].strip():
            texts.pop()
        return f"[{','.join(_as_text(each, swept=False) for each in texts)}]"

    def is_list(text: str) -> bool:
        return text.startswith("[") and text.endswith("]")

    if is_list(value) and not all(is_list(each.strip()) for each in split(value)):
        return rewrite(value)
    rewritten = _each(value, rewrite)
    if not multirun and len(split(value)) > 1:
        raise UserError(f"{override}: several lists are a sweep: add --multirun")
    return rewritten


def _undecided(override: str, value: str) -> UserError:
    """Error for a comma that may be part of the text."""
    name, parts = override.partition("=")[0], split(value)
    each = ",".join(quoted(part.strip()) for part in parts)
    return UserError(
        f"{override}: for one value with a comma in it type {for_shell(f'{name}={quoted(value)}')};"
        f" for a sweep over {len(parts)} values type --multirun {for_shell(f'{name}={each}')}"
    )


def _each(value: str, rewrite: Callable[[str], str]) -> str:
    """A value, or all values of a sweep, rewritten."""
    choice = _CHOICE.fullmatch(value)
    if choice:
        return f"choice({','.join(map(rewrite, split(choice[1])))})"
    return ",".join(map(rewrite, split(value)))


def _as_text(text: str, *, nullable: bool = False, swept: bool = True) -> str:
    """A text as it was typed; what the grammar reads as one stays."""
    value = _parse(text)
    stays = isinstance(value, str | QuotedString) or (value is None and nullable)
    stays = stays or (swept and isinstance(value, Sweep | Glob))
    return text if stays else quoted(text.strip())


def split(value: str) -> list[str]:
    """Split at the commas outside of quotation marks and of brackets, if these are balanced."""
    parts, flat, depth, balanced = [""], [""], 0, True
    for token in (match[0] for match in _TOKEN.finditer(value)):
        depth += (token in "([{") - (token in ")]}")
        balanced = balanced and depth >= 0
        for cut, split_here in ((parts, depth == 0), (flat, True)):
            if token == "," and split_here:
                cut.append("")
            else:
                cut[-1] += token
    return parts if balanced and depth == 0 else flat


def _is_file(path: str) -> bool:
    try:
        return _parse(path) is not None and expand_home(path.strip()).exists()
    except (OSError, ValueError):  # too long, NUL
        return False


def _parse(value: str) -> Any:
    """The value that Hydra's grammar reads, or _REFUSED.

    The public `value()` would not tell a quoted text from any other.
    """
    try:
        return _parser().parse_override(f"value={value}")._value
    except HydraException:
        return _REFUSED


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
