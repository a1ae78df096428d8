"""Train a language model: python -m lyricgen.train [group=choice] [key=value]."""

import errno
import logging
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lyricgen import resume
from lyricgen.console import prepare_streams
from lyricgen.errors import UserError, printable
from lyricgen.interruption import Interrupted, Interruption
from lyricgen.run import Run
from lyricgen.runs import outputs_directory

log = logging.getLogger(__name__)

# whether the user wants to see where errors come from; main() sets the variable for its own ends
_DEBUG = os.environ.get("HYDRA_FULL_ERROR") == "1"

_NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST}

_PACKAGED = Path(__file__).parent / "conf"  # in a wheel
_CHECKOUT = Path(__file__).parents[2] / "conf"  # in an editable install
CONFIG_DIRECTORY = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def job_directory(number: int, overrides: str) -> str:
    """The name of a sweep's job: its number and overrides, in at most 150 bytes of UTF-8."""
    name = f"{number}_{overrides}".replace("/", "-")
    return name.encode()[:150].decode(errors="ignore")


OmegaConf.register_new_resolver("lyricgen.outputs", lambda: str(outputs_directory()), replace=True)
OmegaConf.register_new_resolver("lyricgen.job_directory", job_directory, replace=True)
# keeps the first value: Hydra hands the cache of the sweep on to its jobs
OmegaConf.register_new_resolver("lyricgen.once", lambda value: value, use_cache=True, replace=True)


@hydra.main(config_path=str(CONFIG_DIRECTORY), config_name="train", version_base="1.3")
def task(config: DictConfig) -> float:
    """Hydra's task: one run, alone or as a job of a sweep."""
    hydra_config = HydraConfig.get()
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    directory = Path(hydra_config.runtime.output_dir)
    values: Any = OmegaConf.to_container(config, resolve=True)
    named = any(override.startswith("sampler=") for override in hydra_config.overrides.task)
    by_default = hydra_config.runtime.choices["sampler"] == "consecutive" and not named
    if by_default and values["data"]["unit"] == "line":
        # data=text told to be lines: one sample a line
        lines = OmegaConf.load(CONFIG_DIRECTORY / "sampler" / "lines.yaml")
        values["sampler"] = OmegaConf.to_container(lines)
    overrides = list(hydra_config.overrides.task)
    run = Run(
        directory,
        Path(hydra_config.sweep.dir) if in_sweep else None,
        [override for override in overrides if not override.startswith("resume=")],
        {  # as Hydra itself would write it, but before it knows whether the directory is free
            "config.yaml": OmegaConf.to_yaml(config),
            "hydra.yaml": OmegaConf.to_yaml(HydraConfig.instance().cfg),
            "overrides.yaml": OmegaConf.to_yaml(overrides),
        },
    )
    try:
        return train(values, run)
    except (UserError, OSError) as error:
        if _DEBUG or in_sweep:
            raise
        _stop(error)  # from here, since Hydra would write lines of its own


def train(values: dict[str, Any], run: Run) -> float:
    """Train once, from the composed configuration to the table at the end.

    Args:
        values: the configuration as plain values.
        run: its directory exists.

    Returns:
        The best held-out perplexity; the training perplexity where nothing is held out, and the
        last one where no checkpoint is kept.

    Raises:
        UserError: a wrong option, or a text that cannot be used.
        Interrupted: by Ctrl-C or another signal.
    """
    with run.claimed(), Interruption() as interruption:
        try:
            # torch and Lightning take seconds, which --help and --cfg job need not wait for
            from lyricgen import results
            from lyricgen.checkpoint_io import newest_sound
            from lyricgen.config import parse
            from lyricgen.training import carry_out, prepare

            options = parse(values)
            checkpoint = None if options.resume is None else newest_sound(run.checkpoints)
            plain = options.model_dump(mode="json")
            past = resume.take_up(run.directory, plain, checkpoint)
            if past.finished:
                log.info("%s is finished: %s", run.directory, past.finished)
                return results.score(past.summary)
            training = prepare(options, run, past, interruption)
        except BaseException:
            if values["resume"] is None:
                run.discard()
            raise
        log.info(training.description)
        run.begin(plain, past.summary if options.resume else None, past.wall_seconds)
        try:
            figures = carry_out(training, run, past)
        except BaseException as error:
            _record(error, run)
            raise
    results.print_table(figures)
    return results.score(figures)


def _record(error: BaseException, run: Run) -> None:
    """Say in summary.json how a run has ended before its time.

    Raises:
        KeyboardInterrupt: instead of what Lightning makes of one.
    """
    if not isinstance(error, KeyboardInterrupt | SystemExit):
        run.fail(f"{type(error).__name__}: {error}")
        return
    run.interrupt()
    log.info("interrupted; to go on: %s", run.resume_command)
    if not isinstance(error, Interrupted):
        raise KeyboardInterrupt from error


def main() -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    prepare_streams()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors come here instead of Hydra's printing
    try:
        sys.argv[1:] = resume.expand(sys.argv[1:])
        task()
    except Exception as error:
        if _hides_an_interrupt(error):
            sys.exit(130)
        if _DEBUG or not _mendable(error):
            raise
        _stop(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _hides_an_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C came first: where Hydra composes, OmegaConf answers it by other errors."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _stop(error: Exception) -> NoReturn:
    print(f"error: {_one_line(error)}", file=sys.stderr)
    sys.exit(2)


def _mendable(error: Exception) -> bool:
    """Whether the user can mend it; what Hydra refuses by a ValueError is about the options."""
    if isinstance(error, UserError | HydraException | OmegaConfBaseException | OSError):
        return True
    in_training = any(
        frame.f_code is train.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)
    )
    return isinstance(error, ValueError) and not in_training


def _one_line(error: Exception) -> str:
    """An error and its cause in one line, with a hint where Hydra's grammar is the hurdle."""
    text = str(error).split("Config search path", maxsplit=1)[0]
    # Hydra's advice to add a key helps nobody here: there are no others
    text = re.sub(r"To append to your config use \S+", "--cfg job lists all keys.", text)
    if isinstance(error, OverrideParseException):
        text = f"{error.override}: {text.split('See https://', maxsplit=1)[0]}"
        if not error.override.isascii():
            text += " (characters beyond ASCII need quotes: \"data.path='歌词.txt'\")"
    elif isinstance(error, HydraException) and error.__cause__ is not None:
        reason = str(error.__cause__).split("\n", maxsplit=1)[0]
        text += "" if reason in text else f" ({reason})"
    elif isinstance(error, OSError) and error.errno in _NO_PLACE:
        text += " (LYRICGEN_OUTPUTS=DIRECTORY sends runs to another place)"
    return printable(" ".join(text.split()))


if __name__ == "__main__":
    main()
