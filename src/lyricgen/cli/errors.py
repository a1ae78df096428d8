"""One-line descriptions of errors of Hydra and of the train command, with advice."""

import errno
import re
import traceback
from collections.abc import Sequence
from types import CodeType
from typing import NoReturn

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from lyricgen.cli.known_settings import (
    SEVERAL,
    default_choices,
    group_choices,
    known_settings,
)
from lyricgen.cli.typed_values import for_shell, quote_value
from lyricgen.console import output_problem
from lyricgen.errors import UserError, did_you_mean, find_nearest, in_one_line, path_problem
from lyricgen.runs.interruption import Interrupted, was_raised

_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST}

# Hydra's message about a setting that does not exist
_UNKNOWN = re.compile(
    r"Could not (?:override '([^'@]+)'\.(?!\s*Did)|delete (?:from config\. )?'([^']+)'"
    r"(?: does not exist|\. No match))"
)

# plugins of engines, and the extras of lyricgen that install them
_EXTRAS = {"submitit": "slurm", "ray": "ray"}


def is_mendable(error: Exception, training: CodeType) -> bool:
    """Whether the user can mend an error.

    Args:
        error: error that ended the command.
        training: code of the function that trains. A ValueError in this function or its calls is
            a mistake of lyricgen, unless it is about a path; another ValueError comes from a wrong
            option of Hydra.
    """
    kinds = UserError | HydraException | OmegaConfBaseException | OSError | UserWarning
    if isinstance(error, kinds) or path_problem(error) is not None:
        return True
    in_training = any(
        frame.f_code is training for frame, _ in traceback.walk_tb(error.__traceback__)
    )
    return isinstance(error, ValueError) and not in_training


def describe_error(error: Exception) -> str:
    """Describe an error and its cause in one line."""
    launcher = re.search(r"Could not (?:load|find) 'hydra/launcher/([a-z]+)", str(error))
    if launcher and (extra := _EXTRAS.get(launcher[1])):
        return f"hydra/launcher: this engine is not installed: pip install 'lyricgen[{extra}]'"
    missing = re.search(r"Missing mandatory value: ([\w.]+)", str(error))
    if missing and missing[1] == "data.kind":
        return "data: this choice does not say which text (data.kind): take another, see --help"
    if missing:
        return f"{missing[1]}=???: that stands for a missing value: give one"
    text = (path_problem(error) or str(error)).split("Config search path", maxsplit=1)[0]
    unknown = _UNKNOWN.search(text) if isinstance(error, HydraException) else None
    ambiguous = re.match(r"Ambiguous value for argument '(.*)'\n", text)
    added = re.match(r"([\w.]+): there is no such option", text)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        text = _unknown_choice(error.missing_cfg_file, error.options or ())
    elif isinstance(error, OverrideParseException):
        text = _describe_unreadable(error.override)
    elif ambiguous:
        text = _describe_ambiguous(ambiguous[1])
    elif unknown:
        text = _unknown_setting(unknown[1] or unknown[2])
    elif added:
        text = _unknown_setting(added[1])
    elif isinstance(error, HydraException) and error.__cause__ is not None:
        reason = str(error.__cause__).split("\n", maxsplit=1)[0]
        text += "" if reason in text else f" ({reason})"
    elif isinstance(error, OSError) and error.errno in _UNWRITABLE:
        elsewhere = f"{text} (LYRICGEN_OUTPUTS=DIRECTORY sends runs to another place)"
        text = output_problem(error) or elsewhere
    return in_one_line(text)


def _describe_unreadable(override: str) -> str:
    """Describe the error of an override that Hydra's grammar refuses."""
    name, equals, value = override.partition("=")
    if equals and not re.fullmatch(r"[~+]*[\w$./@:-]+", name, re.ASCII):
        return _unknown_setting(name)
    if equals:
        as_text = for_shell(f"{name}={quote_value(value)}")
        return f"{override}: the value cannot be read; as a text it is typed {as_text}"
    choices = [
        f"{group}={choice}" for group in default_choices() for choice in group_choices(group)
    ]
    meant = did_you_mean(override, [*choices, *known_settings()])
    return f"{override}: settings are typed as NAME=VALUE{meant}"


def _describe_ambiguous(override: str) -> str:
    """Describe the error of several values without --multirun; they are no texts."""
    name, _, values = override.partition("=")
    takes_list = name == SEVERAL or name not in default_choices()
    as_list = f" for a list type {for_shell(f'{name}=[{values}]')};" if takes_list else ""
    return f"{override}:{as_list} for a sweep type --multirun {for_shell(override)}"


def _unknown_setting(name: str) -> str:
    """Describe the error of a setting that does not exist."""
    settings = known_settings()
    if settings.get(name):
        return f"{name}: only {' or '.join(settings[name])} has this setting"
    if name in settings:
        return f"~{name}: a setting cannot be taken out: leave it as it is, or set another value"
    meant = did_you_mean(name, settings) or "; --cfg job lists all settings"
    return f"{name}: there is no such setting{meant}"


def _unknown_choice(path: str, options: Sequence[str]) -> str:
    """Describe the error of a choice that does not exist; `path` is group/choice."""
    known = default_choices().keys()
    group = next((each for each in known if path.startswith(f"{each}/")), path.rpartition("/")[0])
    choice = path.removeprefix(f"{group}/")
    if not group:
        there = [*options, "train"]
        return f"there is no configuration {path!r} (--config-name){did_you_mean(path, there)}"
    there = [*options, *(group_choices(group) if group in known else ())]
    elsewhere = [f"{each}={one}" for each in known for one in group_choices(each) if each != group]
    same = [each for each in elsewhere if each.endswith(f"={choice}")]
    near = find_nearest(choice, there) if not same else []
    meant = did_you_mean(choice, near or same or elsewhere)
    if group == "data" and ("." in choice or "/" in choice):
        meant = f": a file is named alone: {for_shell(choice)}"
    listed = f" (there is {', '.join(options)})" if options else ""
    return f"{group}={choice}: there is no such choice{meant}{listed}"


class Refusal(SystemExit):
    """Exit with status 2 for an error that the user can mend; `line` describes the error."""

    def __init__(self, line: str) -> None:
        super().__init__(2)
        self.line = line


def stop(error: Exception) -> NoReturn:
    """End the work with a `Refusal`, which Hydra does not turn into a message of its own."""
    raise Refusal(describe_error(error)) from error


def hides_an_interrupt(error: BaseException | None) -> bool:
    """Whether a signal caused an error; OmegaConf replaces an interrupt by errors of its own.

    NumPy does so, too, and its errors keep no trace of the interrupt.
    """
    if was_raised():
        return True
    while error is not None and not isinstance(error, KeyboardInterrupt | Interrupted):
        error = error.__context__
    return error is not None
