"""Train a language model: python -m lyricgen.train [group=choice] [key=value]."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lyricgen.errors import UserError
from lyricgen.runs import Run, outputs_directory

log = logging.getLogger(__name__)

_PACKAGED = Path(__file__).parent / "conf"  # in a wheel
_CHECKOUT = Path(__file__).parents[2] / "conf"  # in an editable install
CONFIG_DIRECTORY = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def job_directory(number: int, overrides: str) -> str:
    """The name of a sweep's job: its number and overrides, in at most 150 bytes of UTF-8."""
    name = f"{number}_{overrides}".replace("/", "-")
    return name.encode()[:150].decode(errors="ignore")


OmegaConf.register_new_resolver("lyricgen.outputs", lambda: str(outputs_directory()), replace=True)
OmegaConf.register_new_resolver("lyricgen.job_directory", job_directory, replace=True)


@hydra.main(config_path=str(CONFIG_DIRECTORY), config_name="train", version_base="1.3")
def task(config: DictConfig) -> float:
    """Hydra's task: one run."""
    values: Any = OmegaConf.to_container(config, resolve=True)
    return train(values, Path(HydraConfig.get().runtime.output_dir))


def train(values: dict[str, Any], directory: Path) -> float:
    """Train once, from the composed configuration to the table at the end.

    Args:
        values: the configuration as plain values.
        directory: of the run; it exists.

    Returns:
        The best held-out perplexity; the best training perplexity where nothing is held out.

    Raises:
        UserError: a wrong option, or a text that cannot be used.
    """
    # torch and Lightning take seconds, which --help and --cfg job need not wait for
    from lightning_fabric.utilities.seed import seed_everything

    from lyricgen import build, results
    from lyricgen.config import parse
    from lyricgen.model.checkpoint import load
    from lyricgen.model.transfer import copy_weights

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # no hardware lines, no adverts
    run = Run(directory)
    try:
        options = parse(values)
        seed_everything(options.seed, verbose=False)
        corpus = build.build_corpus(options.data)
        datamodule = build.build_datamodule(options, corpus)
        network = build.build_network(options, datamodule)
        if options.init_from is not None:
            shared = copy_weights(load(options.init_from), network, datamodule.vocabulary)
            log.info("init_from=%s: %d characters in common", options.init_from, shared)
        module = build.build_module(options, datamodule, network)
        trainer = build.build_trainer(options, datamodule, network, corpus, run)
    except UserError:
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
        if isinstance(error, SystemExit):  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from error
        raise
    results.print_table(figures)
    return results.score(figures)


def main() -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    debug = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors come here instead of Hydra's printing
    try:
        task()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if debug:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def one_line(error: BaseException) -> str:
    """An error and its cause in one line, with a hint where Hydra's grammar is the hurdle."""
    parts = [str(error)]
    cause = error.__cause__
    if not isinstance(error, UserError) and cause is not None and str(cause) not in parts[0]:
        parts.append(str(cause))
    text = " ".join(" ".join(part.split()) for part in parts)
    if "override" in text.lower() and not text.isascii() and "'" not in "".join(sys.argv[1:]):
        text += " (quote other characters than ASCII twice: \"data.path='歌词.txt'\")"
    return text


if __name__ == "__main__":
    main()
