"""Rewrites overrides, so that Hydra's grammar reads texts as they were typed."""

import re
import shlex
from collections.abc import Callable
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, QuotedString, Sweep
from omegaconf import OmegaConf

from lyricgen.cli.conf_files import default_choices, group_choices, known_settings
from lyricgen.cli.hydra_private import REFUSED, parse_value
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.settings import key

# Settings that are texts: files, names, lists of texts; and texts of which a sweep has one.
FILES = ("data.path", "init_from", "resume")
NEVER_SWEPT = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.sweeper.storage")
NAMES = ("name", "data.encoding", "trainer.accelerator", "trainer.strategy", "hydra.job.name")
LISTS = ("callbacks.samples.prefixes", "hydra.searchpath")
NULLABLE = (*FILES, *LISTS, "hydra.sweeper.storage")

_NOTHING = ("null", "none", "false", "off", "no")

_CHOICE = re.compile(r"\s*choice\s*\((.*)\)\s*", re.DOTALL)
# a quoted text between separators, an escaped character, any other one
_TOKEN = re.compile(
    r"""(?:^|(?<=[\s,(\[{:]))('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")(?=\s*(?:[,)\]}]|$))|\\.|.""",
    re.DOTALL,
)
# backslashes, the name in an interpolation after them, and what follows the name
_INTERPOLATION = re.compile(r"(\\*)\$\{([^{}:$\\]*)(?=(\}|:.*\})?)", re.DOTALL)


@cache
def switched_off() -> dict[str, list[str]]:
    """Overrides that stand for a callback set to nothing."""
    switches = sorted(re.findall(r"callbacks\.\w+\.enabled", "\n".join(known_settings())))
    return {
        "callbacks.samples": ["callbacks.samples.every_n_epochs=0", "callbacks.samples.steps=[]"],
        **{switch.removesuffix(".enabled"): [f"{switch}=false"] for switch in switches},
    }


def as_typed(overrides: list[str], *, multirun: bool) -> list[str]:
    """Rewrite overrides, so that Hydra's grammar gives texts back as they were typed.

    Values that the grammar reads as texts stay: quoted ones, escapes, interpolations of existing
    settings. So an override may be rewritten twice.

    Args:
        overrides: as they were typed.
        multirun: whether a comma separates the values of a sweep.

    Raises:
        UserError: a value may mean two things; the message shows what to type for each.
    """
    rewritten: list[str] = []
    for override in overrides:
        found = _rewrite(override, multirun=multirun)
        if not found:  # a group without a choice: earlier choices do not count
            rewritten = [each for each in rewritten if key(each) != key(override)]
        rewritten += found
    return rewritten


def _rewrite(override: str, *, multirun: bool) -> list[str]:
    name, (head, equals, value) = key(override), override.partition("=")
    removed = override.startswith("~")
    if not name:
        raise UserError(f"{override}: settings are typed as NAME=VALUE")
    group, _, leaf = name.rpartition(".")
    if leaf == "kind" and group in default_choices():
        choice = for_shell(f"{group}={value}")
        raise UserError(f"{override}: a choice brings settings of its own: type {choice}")
    if multirun and not removed and name not in NEVER_SWEPT:
        _refuse_missing_value(override)
    if name in switched_off() and (removed or value.lower() in _NOTHING):
        return switched_off()[name]
    if name in default_choices() and (removed or equals):
        return _rewrite_choice(override)
    if not equals or removed:
        return [override]
    if name in NEVER_SWEPT:
        value = _as_text(value, nullable=name in NULLABLE, swept=False, whole=True)
    elif name in (*FILES, *NAMES):
        value = _rewrite_text(override, multirun=multirun)
    elif name in LISTS:
        value = _rewrite_list(override, multirun=multirun)
    elif name.startswith("hydra.") and parse_value(value) is REFUSED:
        value = _quoted(value)
    return [f"{head}={value}"]


def read_text(value: str) -> str | None:
    """Read a single typed text; None for null."""
    text = _as_text(value, nullable=True, swept=False, whole=True)
    read = OverridesParser.create().parse_override(f"value={text}").value()
    return None if read is None else str(read)


def quoted(value: str) -> str:
    """Quote a value, so that Hydra gives it back unchanged."""
    return _quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))


def _quoted(value: str) -> str:
    """Quote a value, but for interpolations of existing settings."""
    value = re.sub(r"\\+(?='|\Z)", lambda slashes: slashes[0] * 2, _without_unknown(value))
    return "'" + value.replace("'", "\\'") + "'"


def for_shell(word: str) -> str:
    """Quote a word for a shell."""
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def _without_unknown(text: str) -> str:
    """Escape interpolations that name no setting, so that they stay text."""

    def escape(found: re.Match[str]) -> str:
        slashes, name, rest = found.groups(default="")
        known = rest == "}" and (name in known_settings() or name.startswith("hydra."))
        known = known or (rest.startswith(":") and OmegaConf.has_resolver(name))
        start = slashes if known or len(slashes) % 2 else slashes * 2 + "\\"
        return f"{start}${{{name}"

    return _INTERPOLATION.sub(escape, text)


def _rewrite_choice(override: str) -> list[str]:
    """Rewrite an override of a group: null, None and false mean the choice `none`, or no choice."""
    name, (head, _, value) = key(override), override.partition("=")
    if not override.startswith("~") and value.strip().lower() not in _NOTHING:
        return [f"{head}={_rewrite_each(value, _as_text)}"]
    if "none" in group_choices(name):
        return [f"{name}=none"]
    if default_choices()[name] is None:
        return []
    if name == "callbacks":
        switches = ", ".join(each[0] for each in switched_off().values())
        raise UserError(f"{override}: callbacks are switched off one by one: {switches}")
    raise UserError(f"{override}: choose {name}= from {', '.join(group_choices(name))}")


def _rewrite_text(override: str, *, multirun: bool) -> str:
    name, value = key(override), override.partition("=")[2]
    if name in FILES and _is_file(value):
        parts = [part.strip() for part in split(value)]
        if multirun and len(parts) > 1 and all(map(_is_file, parts)):
            raise _ambiguous_comma(override, value)
        return quoted(value)
    if not multirun and len(split(value)) > 1:
        raise _ambiguous_comma(override, value)
    whole = len(split(value)) == 1 and not _CHOICE.fullmatch(value)
    return _rewrite_each(value, lambda text: _as_text(text, nullable=name in NULLABLE, whole=whole))


def _rewrite_list(override: str, *, multirun: bool) -> str:
    head, _, value = override.partition("=")

    def rewrite(text: str) -> str:
        text = text.strip()
        whole = text.startswith("${") and _without_unknown(text) == text
        if text.lower() in ("null", "none") or whole:
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
    rewritten = _rewrite_each(value, rewrite)
    if not multirun and len(split(value)) > 1:
        raise UserError(f"{override}: several lists are a sweep: add --multirun")
    return rewritten


def _refuse_missing_value(override: str) -> None:
    """Refuse a sweep with nothing before or after a comma."""
    name, _, value = override.partition("=")
    is_file = key(override) in FILES and _is_file(value)
    if value.strip() and not is_file and not all(part.strip() for part in split(value)):
        raise UserError(
            f"{override}: there is no value beside a comma: leave the comma out; as one text it is "
            f"typed {for_shell(f'{name}={_quoted(value)}')}"
        )


def _ambiguous_comma(override: str, value: str) -> UserError:
    """Error for a comma that may be part of the text."""
    name, parts = override.partition("=")[0], split(value)
    one = for_shell(f"{name}={_quoted(value)}")
    each = ",".join(_quoted(part.strip()) for part in parts)
    return UserError(
        f"{override}: for one value with a comma in it type {one};"
        f" for a sweep over {len(parts)} values type --multirun {for_shell(f'{name}={each}')}"
    )


def _rewrite_each(value: str, rewrite: Callable[[str], str]) -> str:
    """Rewrite a value, or each value of a sweep."""
    choice = _CHOICE.fullmatch(value)
    if choice:
        return f"choice({','.join(map(rewrite, split(choice[1])))})"
    return ",".join(map(rewrite, split(value)))


def _as_text(text: str, *, nullable: bool = False, swept: bool = True, whole: bool = False) -> str:
    """Rewrite a text; one that the grammar reads as a text stays.

    Args:
        text: a value, or one of several.
        nullable: whether it may be null.
        swept: whether it may stand for a sweep.
        whole: whether it is the whole value, and keeps the blanks around it.
    """
    value = parse_value(text)
    if (value is None and nullable) or (swept and isinstance(value, Sweep | Glob)):
        return text
    read = value.text if isinstance(value, QuotedString) else value
    if not isinstance(read, str) or (whole and read == text.strip() != text):
        return _quoted(text if whole else text.strip())
    return text if _without_unknown(read) == read else _quoted(read)


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
        return parse_value(path) is not None and expand_home(path).exists()
    except (OSError, ValueError):  # too long, NUL
        return False
