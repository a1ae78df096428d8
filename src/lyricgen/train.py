"""Train a language model: python -m lyricgen.train [group=choice] [key=value]."""

import errno
import logging
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lyricgen.console import prepare_streams
from lyricgen.errors import UserError, printable
from lyricgen.runs import Run, outputs_directory

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
        values["sampler"] = {"kind": "lines"}  # data=text told to be lines: one sample a line
    try:
        return train(values, Run(directory, Path(hydra_config.sweep.dir) if in_sweep else None))
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
    """
    try:
        # torch and Lightning take seconds, which --help and --cfg job need not wait for
        from pytorch_lightning import seed_everything

        from lyricgen import build, results
        from lyricgen.build_trainer import build_trainer
        from lyricgen.config import parse
        from lyricgen.model.checkpoint import load
        from lyricgen.model.transfer import copy_weights

        _quiet_lightning()
        options = parse(values)
        if run.taken:
            raise UserError(
                f"{str(run.directory)!r} holds a run already: leave hydra.run.dir out, or name "
                "another directory"
            )
        seed_everything(options.seed, verbose=False)
        corpus = build.build_corpus(options.data)
        datamodule = build.build_datamodule(options, corpus)
        network = build.build_network(options, datamodule)
        if options.init_from is not None:
            shared = copy_weights(load(options.init_from), network, datamodule.vocabulary)
            log.info("init_from=%s: %d characters in common", options.init_from, shared)
        module = build.build_module(options, datamodule, network)
        trainer = build_trainer(options, datamodule, network, corpus, run)
    except BaseException:
        run.discard()
        raise
    log.info(build.describe(options, corpus, datamodule, network))
    run.begin(options.seed)
    try:
        results.begin_hyperparameters(trainer, options.model_dump())
        trainer.fit(module, datamodule)
        figures = results.conclude(trainer, module, datamodule, build.monitored(datamodule))
        run.finish(figures)
        results.finish_hyperparameters(trainer, figures, run.summary["wall_seconds"])
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        run.interrupt() if stopped else run.fail(f"{type(error).__name__}: {error}")
        if stopped:
            log.info("interrupted; the run so far is in %s", run.directory)
        if isinstance(error, SystemExit):  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from error
        raise
    results.print_table(figures)
    return results.score(figures)


def _quiet_lightning() -> None:
    # no lines about the hardware, no advertisements
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # about a step-wise log that lyricgen does not keep, and about Lightning's own use of torch
    warnings.filterwarnings("ignore", message="The number of training batches")
    warnings.filterwarnings("ignore", module="pytorch_lightning.utilities._pytree")


def main() -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    prepare_streams()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors come here instead of Hydra's printing
    try:
        task()
    except Exception as error:
        if _DEBUG or not _mendable(error):
            raise
        _stop(error)
    except KeyboardInterrupt:
        sys.exit(130)


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
