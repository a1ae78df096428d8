"""Quoting of typed overrides, so that Hydra reads texts as they were typed."""

import re
import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, QuotedString, Sweep
from omegaconf import OmegaConf

from lyricgen.cli.hydra_private import REFUSED, parse_by_grammar
from lyricgen.cli.known_settings import (
    SEVERAL,
    default_choices,
    group_choices,
    known_settings,
    off_switches,
)
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.settings import key, override_text

# Settings whose values are texts: files, names, lists of texts; and texts that are never swept.
FILES = ("data.path", "init_from", "resume")
NEVER_SWEPT = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.sweeper.storage")
NAMES = (
    *("name", "data.column", "data.key", "data.encoding", "data.separator"),
    *("trainer.accelerator", "trainer.strategy", "hydra.job.name"),
    *("logger.mlflow.tracking_uri", "logger.mlflow.experiment"),
    *("logger.wandb.project", "logger.wandb.entity"),
)
LISTS = ("callbacks.samples.prefixes", "hydra.searchpath")
NULLABLE = (
    *(*FILES, *LISTS, "data.column", "data.key", "data.separator", "hydra.sweeper.storage"),
    *("logger.mlflow.tracking_uri", "logger.wandb.entity"),
)


_NOTHING = ("null", "none", "false", "off", "no")

_CHOICE = re.compile(r"\s*choice\s*\((.*)\)\s*", re.DOTALL)
# a quoted text between separators, an escaped character, any other character
_TOKEN = re.compile(
    r"""(?:^|(?<=[\s,(\[{:]))('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")(?=\s*(?:[,)\]}]|$))|\\.|.""",
    re.DOTALL,
)
# backslashes, the name in an interpolation after them, and the text after the name
_INTERPOLATION = re.compile(r"(\\*)\$\{([^{}:$\\]*)(?=(\}|:.*\})?)", re.DOTALL)


def quote_texts(overrides: list[str], *, multirun: bool) -> list[str]:
    """Quote texts in typed overrides, so that Hydra's grammar reads them as they were typed.

    Quoted texts, escapes and interpolations of existing settings stay, since the grammar reads them
    as texts. So quoting an override twice does no harm. With `multirun`, commas separate values.
    A group or callback that is switched off, as by null, gets the overrides that Hydra needs.

    Raises:
        UserError: an override is ambiguous, or a setting cannot be set in this way; the message
            shows what to type.
    """
    rewritten: list[str] = []
    for override in overrides:
        found = _rewrite(override, multirun=multirun)
        if not found:  # the group has no choice: forget its earlier overrides
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
    if name in off_switches() and (removed or value.lower() in _NOTHING):
        return off_switches()[name]
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
    elif name.startswith("hydra.") and parse_by_grammar(value) is REFUSED:
        value = _quote_with_interpolations(value)
    return [f"{head}={value}"]


def read_text(value: str) -> str | None:
    """Read a typed text; None for null."""
    text = _as_text(value, nullable=True, swept=False, whole=True)
    read = OverridesParser.create().parse_override(f"value={text}").value()
    return None if read is None else str(read)


def quote_value(value: str) -> str:
    """Quote a value, so that Hydra reads it unchanged."""
    return _quote_with_interpolations(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))


def write_value(value: Any) -> str:
    """Write a plain value, such as a list, so that Hydra reads it unchanged."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{write_value(one)}' for name, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(write_value, value))}]"
    if not isinstance(value, str):
        return override_text(value)
    plain = value and "${" not in value and parse_by_grammar(value) == value
    return value if plain else quote_value(value)


def _quote_with_interpolations(value: str) -> str:
    """Quote a value, but leave interpolations of existing settings as they are."""
    value = re.sub(r"\\+(?='|\Z)", lambda slashes: slashes[0] * 2, _escape_unknown(value))
    return "'" + value.replace("'", "\\'") + "'"


def for_shell(word: str) -> str:
    """Quote a word for a shell."""
    return shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'


def _escape_unknown(text: str) -> str:
    """Escape interpolations of unknown settings, so that they stay text."""

    def escape(found: re.Match[str]) -> str:
        slashes, name, rest = found.groups(default="")
        known = rest == "}" and (name in known_settings() or name.startswith("hydra."))
        known = known or (rest.startswith(":") and OmegaConf.has_resolver(name))
        start = slashes if known or len(slashes) % 2 else slashes * 2 + "\\"
        return f"{start}${{{name}"

    return _INTERPOLATION.sub(escape, text)


def _rewrite_choice(override: str) -> list[str]:
    """Rewrite the choice of a group; null, None and false mean `none`, or no choice."""
    name, (head, _, value) = key(override), override.partition("=")
    if not override.startswith("~") and value.strip().lower() not in _NOTHING:
        rewrite = partial(_rewrite_several, override) if name == SEVERAL else _as_text
        return [f"{head}={_rewrite_each(value, rewrite)}"]
    if "none" in group_choices(name):
        return [f"{name}=none"]
    if default_choices()[name] is None:
        return []
    if name == "callbacks":
        switches = ", ".join(each[0] for each in off_switches().values())
        raise UserError(f"{override}: callbacks are switched off one by one: {switches}")
    raise UserError(f"{override}: choose {name}= from {', '.join(group_choices(name))}")


def _rewrite_several(override: str, value: str) -> str:
    """Rewrite a choice, or a list of choices."""
    if not _is_list(value.strip()):
        return _as_text(value)
    choices = [one.strip(" '\"") for one in _split_at_commas(value.strip()[1:-1])]
    if not any(choices) or "none" in choices:
        raise UserError(f"{override}: for no {SEVERAL} type {SEVERAL}=none alone")
    return f"[{','.join(map(_as_text, filter(None, choices)))}]"


def _rewrite_text(override: str, *, multirun: bool) -> str:
    name, value = key(override), override.partition("=")[2]
    if name in FILES and _is_file(value):
        parts = [part.strip() for part in _split_at_commas(value)]
        if multirun and len(parts) > 1 and all(map(_is_file, parts)):
            raise _ambiguous_comma(override, value)
        return quote_value(value)
    if not multirun and len(_split_at_commas(value)) > 1:
        raise _ambiguous_comma(override, value)
    whole = len(_split_at_commas(value)) == 1 and not _CHOICE.fullmatch(value)

    def rewrite(text: str) -> str:
        if name == "data.path" and _is_list(text.strip()):  # several files of one text
            return _quote_each(text.strip())
        return _as_text(text, nullable=name in NULLABLE, whole=whole)

    return _rewrite_each(value, rewrite)


def _rewrite_list(override: str, *, multirun: bool) -> str:
    head, _, value = override.partition("=")

    def rewrite(text: str) -> str:
        text = text.strip()
        whole = text.startswith("${") and _escape_unknown(text) == text
        if text.lower() in ("null", "none") or whole:
            return text
        if not _is_list(text):
            one_list = for_shell(f"{head}=[{value.strip('[] ')}]")
            raise UserError(f"{override}: it is a list: type {one_list}")
        return _quote_each(text)

    if _is_list(value) and not all(_is_list(each.strip()) for each in _split_at_commas(value)):
        return rewrite(value)
    rewritten = _rewrite_each(value, rewrite)
    if not multirun and len(_split_at_commas(value)) > 1:
        raise UserError(f"{override}: several lists are a sweep: add --multirun")
    return rewritten


def _is_list(text: str) -> bool:
    return text.startswith("[") and text.endswith("]")


def _quote_each(texts: str) -> str:
    """Quote the texts of a list."""
    parts = _split_at_commas(texts[1:-1])
    if not parts[-1].strip():
        parts.pop()
    return f"[{','.join(_as_text(each, swept=False) for each in parts)}]"


def _refuse_missing_value(override: str) -> None:
    """Refuse a sweep with an empty value beside a comma."""
    name, _, value = override.partition("=")
    is_file = key(override) in FILES and _is_file(value)
    if value.strip() and not is_file and not all(part.strip() for part in _split_at_commas(value)):
        raise UserError(
            f"{override}: there is no value beside a comma: leave the comma out; as one text it is "
            f"typed {for_shell(f'{name}={_quote_with_interpolations(value)}')}"
        )


def _ambiguous_comma(override: str, value: str) -> UserError:
    """Make the error for a comma that may be part of the text."""
    name, parts = override.partition("=")[0], _split_at_commas(value)
    one = for_shell(f"{name}={_quote_with_interpolations(value)}")
    each = ",".join(_quote_with_interpolations(part.strip()) for part in parts)
    return UserError(
        f"{override}: for one value with a comma in it type {one};"
        f" for a sweep over {len(parts)} values type --multirun {for_shell(f'{name}={each}')}"
    )


def _rewrite_each(value: str, rewrite: Callable[[str], str]) -> str:
    """Rewrite a value, or each value of a sweep."""
    choice = _CHOICE.fullmatch(value)
    if choice:
        return f"choice({','.join(map(rewrite, _split_at_commas(choice[1])))})"
    return ",".join(map(rewrite, _split_at_commas(value)))


def _as_text(text: str, *, nullable: bool = False, swept: bool = True, whole: bool = False) -> str:
    """Quote a text, unless the grammar reads it as a text.

    Args:
        text: a whole value, or one value of several.
        nullable: whether the text may be null.
        swept: whether the text may be a sweep.
        whole: whether the text is the whole value; then the blanks around it stay.
    """
    value = parse_by_grammar(text)
    if (value is None and nullable) or (swept and isinstance(value, Sweep | Glob)):
        return text
    read = value.text if isinstance(value, QuotedString) else value
    if not isinstance(read, str) or (whole and read == text.strip() != text):
        return _quote_with_interpolations(text if whole else text.strip())
    return text if _escape_unknown(read) == read else _quote_with_interpolations(read)


def _split_at_commas(value: str) -> list[str]:
    """Split at commas outside quotation marks and, if brackets are balanced, outside brackets."""
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
        return parse_by_grammar(path) is not None and expand_home(path).exists()
    except (OSError, ValueError):  # too long, NUL
        return False
