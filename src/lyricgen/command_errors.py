"""Errors of the train command, Hydra's among them, in one line that says how to mend them."""

import errno
import re
import traceback
from types import CodeType

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from lyricgen.errors import UserError, path_problem, printable
from lyricgen.interruption import Interrupted
from lyricgen.typed_values import for_shell, quoted

_NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST}

# the plugins that engines need, and the extras of lyricgen that bring them
_EXTRAS = {"joblib": "joblib", "submitit": "slurm", "ray": "ray"}


def mendable(error: Exception, training: CodeType) -> bool:
    """Whether the user can mend it; what Hydra refuses by a ValueError is about the options.

    Args:
        error: that has ended the command.
        training: the code of what Hydra calls, where a ValueError is a mistake of ours.
    """
    kinds = UserError | HydraException | OmegaConfBaseException | OSError | UserWarning
    if isinstance(error, kinds) or path_problem(error) is not None:
        return True
    in_training = any(
        frame.f_code is training for frame, _ in traceback.walk_tb(error.__traceback__)
    )
    return isinstance(error, ValueError) and not in_training


def missing_extra(error: Exception) -> str | None:
    """The extra of lyricgen without which Hydra knows a launcher not; None for another error."""
    missing = re.search(r"Could not (?:load|find) 'hydra/launcher/([a-z]+)", str(error))
    return _EXTRAS.get(missing[1]) if missing else None


def one_line(error: Exception) -> str:
    """An error and its cause in one line."""
    extra = missing_extra(error)
    if extra is not None:
        return f"hydra/launcher: this engine is not installed: pip install 'lyricgen[{extra}]'"
    text = (path_problem(error) or str(error)).split("Config search path", maxsplit=1)[0]
    # Hydra's advice to add a key helps nobody here: there are no others
    text = re.sub(r"To append to your config use \S+", "--cfg job lists all keys.", text)
    if isinstance(error, OverrideParseException):
        name, equals, value = error.override.partition("=")
        text = f"{error.override}: settings are typed as NAME=VALUE"
        if equals:
            as_text = for_shell(f"{name}={quoted(value)}")
            text = f"{error.override}: the value cannot be read; as a text it is typed {as_text}"
    elif isinstance(error, HydraException) and error.__cause__ is not None:
        reason = str(error.__cause__).split("\n", maxsplit=1)[0]
        text += "" if reason in text else f" ({reason})"
    elif isinstance(error, OSError) and error.errno in _NO_PLACE:
        text += " (LYRICGEN_OUTPUTS=DIRECTORY sends runs to another place)"
    return printable(" ".join(text.split()))


def hides_an_interrupt(error: BaseException | None) -> bool:
    """Whether a signal came first: where Hydra composes, OmegaConf answers it by other errors."""
    while error is not None and not isinstance(error, KeyboardInterrupt | Interrupted):
        error = error.__context__
    return error is not None
