"""Conversion of typed arguments to Hydra's."""

import argparse
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lyricgen.cli.command_line import with_suggestions
from lyricgen.cli.hydra_private import REFUSED, options_parser, parse_by_grammar
from lyricgen.cli.known_settings import GRID_POINTS, POINTS, known_settings
from lyricgen.cli.recorded_command import (
    DIRECTORY_SETTINGS,
    OVERRIDES,
    find_command,
    read_command,
)
from lyricgen.cli.typed_texts import implied_choice, take_texts
from lyricgen.cli.typed_values import quote_texts, quote_value, read_text, write_value
from lyricgen.errors import UserError
from lyricgen.files import expand_home, is_there
from lyricgen.runs.directories import HYDRA_FOLDER
from lyricgen.runs.newest import newest_checkpoint
from lyricgen.settings import key


def expand(arguments: list[str]) -> list[str]:
    """Turn typed arguments into Hydra's; recorded overrides replace `resume=` and `like=`.

    Words that name texts become `data.path=`, and a text that is named chooses `data=text`.
    `sweep.points=` becomes `hydra.sweeper.points=`.

    A sweep also gets --multirun. Otherwise, if an argument is wrong, Hydra would complain of the
    settings with several values instead.

    Args:
        arguments: arguments as typed.

    Returns:
        First all options, since Hydra's parser refuses an option between overrides; then the typed
        overrides, with their texts quoted. With `resume=`, the recorded overrides stand before the
        typed overrides, and overrides that choose the old directory stand at the end.

    Raises:
        UserError: an argument cannot be read or is ambiguous, a named run or checkpoint does not
            exist, the record of the run cannot be read, or an argument contradicts `resume=`.
    """
    read, options = _divide(arguments)
    for option, path in (("--config-path", read.config_path), ("--config-dir", read.config_dir)):
        if path is not None:
            _refuse_record(option, path)
    others, texts = take_texts(read.overrides)
    overrides = [_with_newest(_read_points(one)) for one in others]
    resumed = _find_last_value("resume", overrides)
    if resumed is None:
        return _arguments_of_new(read, options, overrides, texts)
    typed = drop_resume(overrides)
    for one in (*options, *typed):
        if one in ("-m", "--multirun") or key(one) in (*DIRECTORY_SETTINGS, "like"):
            raise UserError(f"resume={resumed} continues in its own directory: leave out {one}")
    recorded = find_command("resume", resumed)
    is_sweep, directory = recorded.is_sweep, quote_value(str(recorded.directory))
    rewritten = [*quote_texts(typed, multirun=is_sweep), *texts]
    keys = {key(one) for one in (*typed, *rewritten)}
    return [
        *(_multirun(read) if is_sweep else []),
        *options,
        *recorded.options_beside(options),
        *(one for one in recorded.overrides if key(one) not in keys),
        *rewritten,
        f"hydra.{'sweep' if is_sweep else 'run'}.dir={directory}",
        # the recorded overrides of a job may contain sweep=, which begins a sweep
        f"hydra.mode={'MULTIRUN' if is_sweep else 'RUN'}",
        f"resume={directory}",
    ]


def _divide(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse arguments by Hydra's parser; return the result, and the arguments that are options.

    Raises:
        UserError: an argument is not UTF-8, or Hydra's parser refuses it.
    """
    for one in arguments:
        if any("\ud800" <= character <= "\udfff" for character in one):  # a byte, not UTF-8
            raise UserError(f"{one}: it is not UTF-8, as a run's record is: use another name")
    following = [*arguments, "="][1:]
    options = [  # --info would take the next argument as its value
        "--info=all" if one in ("-i", "--info") and "=" in after else one
        for one, after in zip(arguments, following, strict=True)
    ]
    read = read_options(options)
    for override in read.overrides:
        options.remove(override)
    return read, options


def _arguments_of_new(
    read: argparse.Namespace, options: list[str], overrides: list[str], texts: list[str]
) -> list[str]:
    """Return the arguments of a new run or sweep; `sweep=` and `sweep.points=` add --multirun.

    `texts` holds the override that names texts, if any.
    """
    like = _find_last_value("like", overrides)
    if like is not None:
        recorded = find_command("like", like)
        overrides = [one for one in overrides if key(one) != "like"]
        overrides = [*recorded.overrides_like(overrides, texts), *overrides]
        options = [*recorded.options_beside(options), *options]
        if recorded.is_sweep:
            options, read.multirun = [*_multirun(read), *options], True
    mode = _find_last_value("hydra.mode", overrides)
    sweeping = (_find_last_value(name, overrides) for name in ("sweep", GRID_POINTS))
    sweeps = mode is None and any(one is not None for one in sweeping)
    multirun = sweeps or mode == "MULTIRUN" or read.multirun
    if read.config_name is None:
        directories = [] if read.config_dir is None else [read.config_dir]
        overrides = [*implied_choice(overrides, texts, directories), *overrides]
    typed = [*quote_texts(overrides, multirun=multirun), *texts]
    return [*(_multirun(read) if sweeps else []), *options, *typed]


def _read_points(override: str) -> str:
    """Rename `sweep.points=`; its value may also be written as YAML or JSON.

    Other overrides are returned unchanged.
    """
    if key(override) not in (POINTS, GRID_POINTS):
        return override
    value = override.partition("=")[2]
    if parse_by_grammar(value) is REFUSED:
        with suppress(YAMLError, OmegaConfBaseException):  # the sweeper refuses a text
            value = write_value(OmegaConf.to_container(OmegaConf.create(value)))
    return f"{GRID_POINTS}={value}"


def _with_newest(override: str) -> str:
    """Replace init_from=latest by the path of the newest run's checkpoint; keep other overrides.

    So all jobs of a sweep take the same checkpoint.

    Raises:
        UserError: there is no such checkpoint.
    """
    if key(override) != "init_from" or _find_last_value("init_from", [override]) != "latest":
        return override
    return f"{override.partition('=')[0]}={quote_value(str(newest_checkpoint().resolve()))}"


def _refuse_record(option: str, path: str) -> None:
    """Refuse the record of a run as the directory of a configuration.

    Raises:
        UserError: the path is the record of a run; the message says how to repeat the run, or why
            the record cannot be read.
    """
    directory = expand_home(path).absolute().parent
    if Path(path).name != HYDRA_FOLDER or not (directory / OVERRIDES).is_file():
        return
    recorded = read_command(directory)
    command = ["python", "-m", "lyricgen.train", *recorded.options_beside([]), *recorded.overrides]
    raise UserError(
        f"{option} {path}: it is the record of a run; to repeat the run type "
        f"{shlex.join(command)}; to go on with it type {shlex.quote(f'resume={directory}')}"
    )


def _find_last_value(name: str, overrides: list[str]) -> str | None:
    """Return the last typed value of a setting; None for null or no value."""
    typed = [one.partition("=")[2] for one in overrides if key(one) == name]
    return read_text(typed[-1]) if typed and typed[-1] not in ("None", "") else None


def _multirun(options: argparse.Namespace) -> list[str]:
    tasks = (options.help, options.hydra_help, options.cfg, options.run, options.multirun)
    return [] if any((*tasks, options.shell_completion, options.info)) else ["--multirun"]


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse arguments by Hydra's parser.

    Raises:
        UserError: Hydra has no such option, or an option lacks its value.
    """
    parser, names = options_parser()

    def refuse(message: str) -> NoReturn:
        for one in arguments:
            if one.startswith("-") and is_there(one):
                raise UserError(f"{one}: type ./{one}, since a name may not begin with -")
        raise UserError(with_suggestions(message, [*names, *known_settings()]))

    parser.error = refuse  # type: ignore[method-assign]  # it would print the usage and exit
    return parser.parse_intermixed_args(arguments)


def drop_resume(overrides: Iterable[str]) -> list[str]:
    """Return the overrides without `resume=`."""
    return [one for one in overrides if key(one) != "resume"]
