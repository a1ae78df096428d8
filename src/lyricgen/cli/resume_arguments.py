"""Conversion of typed arguments to Hydra's; `resume=` and `like=` become recorded overrides."""

import argparse
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lyricgen.cli.command_line import with_suggestions
from lyricgen.cli.hydra_private import REFUSED, options_parser, parse_by_grammar
from lyricgen.cli.known_settings import GRID_POINTS, POINTS, default_choices, known_settings
from lyricgen.cli.recorded_settings import INDEPENDENT, PLAIN, restore_changed
from lyricgen.cli.typed_texts import implied_choice, take_texts
from lyricgen.cli.typed_values import quote_texts, quote_value, read_text, write_value
from lyricgen.console import tell
from lyricgen.errors import UserError
from lyricgen.files import expand_home, is_there
from lyricgen.runs.directories import HYDRA_FOLDER, MULTIRUN
from lyricgen.runs.newest import newest_checkpoint, tell_taken
from lyricgen.runs.record_files import RecordError, read_yaml
from lyricgen.runs.references import NEWEST, find_directory
from lyricgen.runs.state import start_anew
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import OLDER, belongs_to, complete, key

_TYPED = "command-line"  # Hydra's name for the source --config-dir
_HYDRA, _OVERRIDES = f"{HYDRA_FOLDER}/hydra.yaml", f"{HYDRA_FOLDER}/overrides.yaml"
# Settings of the directory of a run or sweep, which `resume=` decides.
DIRECTORY_SETTINGS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.mode")


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
    directory = _directory("resume", resumed)
    is_sweep = (directory / MULTIRUN).exists()
    recorded_options, recorded = _read_command_line(directory, is_sweep=is_sweep)
    rewritten = [*quote_texts(typed, multirun=is_sweep), *texts]
    keys = {key(one) for one in (*typed, *rewritten)}
    return [
        *(_multirun(read) if is_sweep else []),
        *options,
        *(part for pair in recorded_options if pair[0] not in options for part in pair),
        *(one for one in recorded if key(one) not in keys),
        *rewritten,
        f"hydra.{'sweep' if is_sweep else 'run'}.dir={quote_value(str(directory))}",
        # the recorded overrides of a job may contain sweep=, which begins a sweep
        f"hydra.mode={'MULTIRUN' if is_sweep else 'RUN'}",
        f"resume={quote_value(str(directory))}",
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
        options, overrides = _add_recorded(like, read, options, overrides, texts)
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


def _settings_of_points(overrides: list[str]) -> set[str]:
    """List the settings that every typed point has."""
    typed = [one.partition("=")[2] for one in overrides if key(one) == GRID_POINTS]
    points = parse_by_grammar(typed[-1]) if typed else None
    if not isinstance(points, list) or not all(isinstance(one, dict) for one in points):
        return set()
    each = [{key(str(name)) for name in one} for one in points]
    return set.intersection(*each) if each else set()


def _add_recorded(
    like: str,
    read: argparse.Namespace,
    options: list[str],
    overrides: list[str],
    texts: list[str],
) -> tuple[list[str], list[str]]:
    """Put the recorded options and overrides of a run or sweep before the typed ones.

    A group that is chosen anew begins with its own settings, unless it is one of `INDEPENDENT`. A
    new text replaces the recorded one. A default that has changed since keeps its recorded value,
    unless a new text or choice may change it. Settings that said `auto` are filled anew.
    """
    directory = _directory("like", like)
    is_sweep = (directory / MULTIRUN).exists()
    recorded_options, recorded = _read_command_line(directory, is_sweep=is_sweep)
    typed = [one for one in overrides if key(one) != "like"]
    replaced = {key(one) for one in (*typed, *texts)} | _settings_of_points(typed)
    chosen = replaced & default_choices().keys()
    replaced |= set() if is_sweep else {"sweep"}
    replaced |= {"data"} if "data.path" in replaced else set()
    replaced |= {"layers"} if "depth" in replaced else set()  # which the choice may set
    recorded = [
        one
        for one in recorded
        if key(one) not in replaced and not belongs_to(key(one), list(chosen - INDEPENDENT))
    ]
    if is_sweep:
        options, read.multirun = [*_multirun(read), *options], True
    elif not (recorded_options or replaced & (default_choices().keys() - INDEPENDENT - {"sweep"})):
        earlier = RunSummary.read_earlier(directory)
        if earlier is not None and earlier.options:
            restored = restore_changed(complete(earlier.unfilled), recorded)
            kept = (*replaced, *chosen)
            recorded += [one for one in restored if not belongs_to(key(one), kept)]
    words = [part for pair in recorded_options if pair[0] not in options for part in pair]
    return [*words, *options], [*recorded, *typed]


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
    if Path(path).name != HYDRA_FOLDER or not (directory / _OVERRIDES).is_file():
        return
    options, overrides = _read_command_line(directory, is_sweep=False)
    words = [word for option in options for word in option] + overrides
    raise UserError(
        f"{option} {path}: it is the record of a run; to repeat the run type "
        f"{shlex.join(['python', '-m', 'lyricgen.train', *words])}; to go on with it type "
        f"{shlex.quote(f'resume={directory}')}"
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


def _directory(setting: str, reference: str) -> Path:
    """Find the directory of a run or sweep that has begun, for resume= or like=."""
    directory = find_directory(reference)
    if not (directory / MULTIRUN).is_file() and not (directory / _OVERRIDES).is_file():
        raise UserError(
            f"{setting}={reference}: {str(directory)!r} is not the directory of a run or a sweep "
            f"that has begun (it has neither {_OVERRIDES} nor {MULTIRUN}): name one under outputs, "
            f"or {setting}=latest; a new run may start with the weights of a model: "
            "init_from=CHECKPOINT"
        )
    if reference == NEWEST:
        tell_taken(directory)
    return directory.resolve()


def _read_command_line(
    directory: Path, *, is_sweep: bool
) -> tuple[list[tuple[str, str]], list[str]]:
    """Read the options and overrides of the last command line of a run or sweep.

    Raises:
        UserError: the record cannot be read.
    """
    record = directory / (MULTIRUN if is_sweep else _HYDRA)
    try:
        configuration = read_yaml(record)
        read = configuration["hydra"]
        known = {name: read[name] for name in ("runtime", "job", "overrides")}
        hydra: Any = OmegaConf.merge(OmegaConf.structured(HydraConf), known)
        typed: Any = hydra.overrides
        if not is_sweep:
            typed.task = read_yaml(directory / _OVERRIDES)
            # the overrides of the last resume, if any
            earlier = RunSummary.read_earlier(directory)
            configuration = (earlier and earlier.options) or OLDER
            if earlier is not None and "overrides" in earlier.model_fields_set:
                typed.task = earlier.overrides
        sources = [one for one in hydra.runtime.config_sources if one.provider == _TYPED]
        options = [("--config-dir", str(one.path)) for one in sources]
        if hydra.job.config_name != "train":
            options.append(("--config-name", str(hydra.job.config_name)))
        parse: Any = OverridesParser.create().parse_overrides
        task, for_hydra = (parse(OmegaConf.to_container(one)) for one in (typed.task, typed.hydra))
    except (RecordError, HydraException, OmegaConfBaseException, TypeError, KeyError) as error:
        why = str(error) if isinstance(error, RecordError) else "it is not what Hydra writes"
        raise UserError(
            f"the record {str(record)!r} cannot be read ({why}): {start_anew(directory)}"
        ) from error
    # a sweep also keeps its engine and its sweeper
    kept = [
        one
        for one in for_hydra
        if one.key_or_group not in DIRECTORY_SETTINGS
        and (is_sweep or one.key_or_group == "hydra.searchpath")
    ]
    kept = _drop_old_settings(kept)
    overrides = [str(one.input_line) for one in [*task, *kept] if one.key_or_group != "resume"]
    # records omit the backslash before ${x} in a text
    parts = [quote_texts([one], multirun=is_sweep) if "${" in one else [one] for one in overrides]
    if "recipe" not in configuration:  # of an earlier version, which had none
        parts.insert(0, [PLAIN])
    return options, [part for each in parts for part in each]


def _drop_old_settings(overrides: list[Override]) -> list[Override]:
    """Leave out launcher settings that only an earlier version had, and tell the user."""
    engines = [one.value() for one in overrides if one.key_or_group == "hydra/launcher"]
    if not engines or engines[-1] not in ("cpus", "processes"):
        return overrides
    kept = []
    for one in overrides:
        name = one.key_or_group
        if name == "hydra.launcher.n_jobs" or not name.startswith("hydra.launcher."):
            kept.append(one)
        else:
            engine = f"hydra/launcher={engines[-1]}"
            tell(f"{one.input_line} is left out: {engine} has no such setting now")
    return kept
