"""Texts on the command line of train: files, folders, patterns and standard input."""

import os
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from lyricgen.cli.known_settings import default_choices, group_choices, known_settings
from lyricgen.cli.typed_values import quote_value, read_text
from lyricgen.errors import UserError, did_you_mean
from lyricgen.files import expand_home, is_there
from lyricgen.runs.record_files import RecordError, read_yaml
from lyricgen.settings import CONFIG_DIRECTORY, key

_STANDARD_INPUT = "-"
_COMPARED = 2000  # most names of a directory that are compared with a mistyped one


def take_texts(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Turn words that name texts into an override of data.path.

    Standard input, named "-", is kept in the cache, and the path of its file takes its place.

    Args:
        overrides: typed overrides, and words without "=".

    Returns:
        The other overrides, and the override of data.path, quoted for Hydra, or nothing.

    Raises:
        UserError: a word is no file, texts are named in two ways, or standard input is no text.
    """
    words = [one for one in overrides if _is_text(one)]
    others = [one for one in overrides if not _is_text(one)]
    named = [one for one in others if key(one) == "data.path" and not one.startswith("~")]
    if words and named:
        raise UserError(f"{words[0]} and {named[-1]} both name a text: leave one of them out")
    if named and named[-1].partition("=")[2] == _STANDARD_INPUT and not is_there(_STANDARD_INPUT):
        words = [_STANDARD_INPUT]
        others = [one for one in others if one not in named]
    for word in words:
        if word != _STANDARD_INPUT and not (word and is_there(expand_home(word))):
            raise _no_such_file(word)
    if not words:
        return others, []
    if _STANDARD_INPUT in words:
        kept = _keep_standard_input(others)
        words = [kept if word == _STANDARD_INPUT else word for word in words]
    quoted = ",".join(map(quote_value, words))
    return others, [f"data.path={quoted if len(words) == 1 else f'[{quoted}]'}"]


def implied_choice(
    overrides: Sequence[str], texts: Sequence[str], directories: Sequence[str]
) -> list[str]:
    """Return data=text for a text that is named while nothing has chosen the group `data`.

    Args:
        overrides: all other overrides.
        texts: the override of data.path that words have become, if any; an experiment's choice of
            `data` gives way to it.
        directories: values of --config-dir.
    """
    named = [one.partition("=")[2] for one in overrides if key(one) == "data.path"]
    is_named = bool(texts) or (bool(named) and named[-1] not in ("null", "None", ""))
    if not is_named or any(key(one) == "data" for one in overrides):
        return []
    experiments = [one.partition("=")[2] for one in overrides if key(one) == "experiment"]
    if not texts and experiments:
        names = [name.strip("'\" ") for name in experiments[-1].split(",")]
        if any(_chooses_data(name, [CONFIG_DIRECTORY, *map(Path, directories)]) for name in names):
            return []
    return ["data=text"]


def _is_text(word: str) -> bool:
    """Whether a word names a text; a word with "=" is a setting, unless there is such a file."""
    if "=" in word:
        name = key(word)
        known = name in known_settings() or name in default_choices() or name.startswith("hydra")
        return not known and is_there(expand_home(word))
    is_override = word.startswith(("~", "+")) and "/" not in word
    return not is_override or is_there(expand_home(word))


def _no_such_file(word: str) -> UserError:
    names: list[str] = []
    path = Path(word)
    is_link = os.path.islink(expand_home(word))  # noqa: PTH114  which accepts NUL
    with suppress(OSError, ValueError), os.scandir(expand_home(path).parent) as entries:  # no hint
        names = [one.name for one in islice(entries, _COMPARED) if not one.name.startswith(".")]
    others = [name for name in names if name != path.name]
    near = [str(path.with_name(name)) for name in get_close_matches(path.name, others, cutoff=0.7)]
    choices = [
        f"{group}={choice}" for group in default_choices() for choice in group_choices(group)
    ]
    choices.remove("data=text")  # which the name of any text is like
    files = f": did you mean {' or '.join(near)}?" if near else ""
    meant = files or did_you_mean(word, [*choices, *known_settings()])
    shown = word if word.strip() else repr(word)
    return UserError(
        f"{shown}: {'a link to no file' if is_link else 'no such file'}; texts are named by their "
        f"paths, settings are typed as NAME=VALUE{meant}"
    )


def _keep_standard_input(overrides: Sequence[str]) -> str:
    from lyricgen.data.cached_files import keep_standard_input  # noqa: PLC0415  seldom needed

    limits = [one.partition("=")[2] for one in overrides if key(one) == "data.max_bytes"]
    typed = read_text(limits[-1]) if limits else None
    most = {"max_bytes": int(typed)} if typed and typed.isdecimal() else {}
    return str(keep_standard_input(**most))


def _chooses_data(experiment: str, directories: Sequence[Path]) -> bool:
    """Whether the file of an experiment, in one of the directories, chooses the group `data`."""
    for directory in directories:
        # Hydra explains a damaged file
        with suppress(RecordError, OSError, ValueError, TypeError, AttributeError):  # or none
            values = read_yaml(expand_home(directory) / "experiment" / f"{experiment}.yaml")
            entries = [entry for entry in values.get("defaults", []) if isinstance(entry, dict)]
            names = [name.rpartition(" ")[2].lstrip("/") for entry in entries for name in entry]
            return "data" in names
    return False
