"""Train one run or one job of a sweep, as Hydra's task."""

import gc
import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lyricgen.cli.composition import compose_run, record_filled, register_resolvers
from lyricgen.cli.errors import hides_an_interrupt, is_mendable, stop
from lyricgen.cli.hydra_private import complete_program, compose_once, hide_bases
from lyricgen.console import quiet_matplotlib, quiet_messages, show
from lyricgen.errors import UserError, reason
from lyricgen.runs.directories import SUMMARY, has_checkpoint, remove_unused
from lyricgen.runs.interruption import Interrupted, Interruption, handle_signals, raise_if_requested
from lyricgen.runs.run import Run
from lyricgen.runs.state import find_resume_point
from lyricgen.runs.summary import RunSummary, score
from lyricgen.sweeps.job import SWEEP, do_as_job
from lyricgen.sweeps.sweep import UnfinishedJobsError

log = logging.getLogger(__name__)

# whether the user wants tracebacks; the train command sets the variable later as well
DEBUG = os.environ.get("HYDRA_FULL_ERROR") == "1"

register_resolvers()
quiet_matplotlib()  # here, so that the processes of jobs do it, too
compose_once()
hide_bases()
complete_program("lyricgen")


@contextmanager
def refuse_mendable(interruption: Interruption) -> Iterator[None]:
    """Raise a `Refusal` in place of an error of the block that the user can mend.

    The block calls Hydra. At its end, directories that no run has used are removed.

    Raises:
        UnfinishedJobsError: jobs of a sweep have failed.
        Interrupted, KeyboardInterrupt: a signal has come.
    """
    os.environ.pop(SWEEP, None)  # this process is no job, even if a job has started it
    with warnings.catch_warnings():
        # Hydra only warns of a missing hydra.searchpath
        warnings.filterwarnings("error", message="provider=", category=UserWarning)
        try:
            yield
            interruption.raise_if_requested()
        except (UnfinishedJobsError, BrokenPipeError):
            raise
        except Exception as error:
            if hides_an_interrupt(error):  # a library has replaced it
                interruption.raise_if_requested()
                raise KeyboardInterrupt from None
            if DEBUG or not is_mendable(error, train.__code__):
                raise
            stop(error)
        finally:
            remove_unused()


def task(config: DictConfig) -> float:
    """Train a single run or a job of a sweep, and return its perplexity; Hydra calls it."""
    hydra_config = HydraConfig.get()
    try:
        values, run = compose_run(config, hydra_config)
    except Exception as error:
        in_sweep = hydra_config.mode == RunMode.MULTIRUN
        if in_sweep or DEBUG or not is_mendable(error, train.__code__):
            raise
        if config["resume"] is None:
            directory, log_file = hydra_config.runtime.output_dir, f"{hydra_config.job.name}.log"
            unbegun = Run(Path(directory), log_file=log_file)
            # with an error, another process is there
            with suppress(UserError, OSError), unbegun.claim_directory():
                unbegun.discard()
        stop(error)  # here, since Hydra would print its own lines
    if run.sweep is not None:
        if (run.directory / SUMMARY).exists():  # Slurm may have started the job again
            values["resume"] = str(run.directory.resolve())
        return do_as_job(run.sweep, lambda: do_job(values, run))
    try:
        return train(values, run)
    except Exception as error:
        if DEBUG or hides_an_interrupt(error) or not is_mendable(error, train.__code__):
            raise
        stop(error)


def do_job(values: dict[str, Any], run: Run) -> float:
    """Train as a job of a sweep; a failed job does not end the sweep.

    Returns:
        The result of `train`; infinity for a failed job, whose summary.json has the reason.

    Raises:
        Interrupted, KeyboardInterrupt: a signal stops the sweep. A library may raise another error
            in their place.
    """
    show(f"job {run.directory.name}")
    quiet_messages()
    try:
        return train(values, run)
    except BaseException as error:  # even a library's sys.exit() would end the sweep
        if hides_an_interrupt(error):
            raise_if_requested()
            raise
        log.error("job %s failed: %s", run.directory.name, reason(error))
        return math.inf
    finally:
        gc.collect()  # networks and configurations have cycles of references
        if not gc.get_freeze_count():
            gc.freeze()  # else each later collection spends 0.2 s on the modules


def train(values: dict[str, Any], run: Run) -> float:
    """Train a run with the plain values of its configuration, and show the results.

    Returns:
        The best validation perplexity, or training perplexity without a validation split; the last
        perplexity if no checkpoint is kept; infinity without a perplexity.

    Raises:
        UserError: an option, the text or the directory cannot be used, or the training fails.
        OSError: the first files cannot be written, or an incomplete file cannot be removed.
        Interrupted, KeyboardInterrupt: a signal, such as Ctrl-C, stops the run.
    """
    with run.claim_directory(), handle_signals() as interruption:
        try:
            from lyricgen.training.options import normalise

            trial = None if run.search is None else _find_trial(run)
            values = normalise(values)  # before torch and Lightning are imported, in seconds
            from lyricgen.runs.checkpoint_files import newest_sound
            from lyricgen.training.main import prepare, train_and_evaluate
            from lyricgen.training.older_model import prepare_values
            from lyricgen.training.results import show_end

            values, older = prepare_values(values, run)
            checkpoint = None if values["resume"] is None else newest_sound(run.checkpoints)
            point = find_resume_point(run.directory, values, checkpoint)
            if point.summary is not None and point.finished_because:
                log.info("%s is finished: %s", run.directory, point.finished_because)
                return score(point.summary)
            training = prepare(values, run, point, interruption, trial, older=older)
            interruption.raise_if_requested()
            if training.options.find_lr:
                return _find_rate(training, run)
        except BaseException as error:
            _record_unbegun(error, run, values, interruption)
            raise
        log.info(training.description)
        options = training.options.model_dump(mode="json")
        record_filled(run, options)
        run.begin(options, point.summary, point.state.wall_seconds)
        try:
            train_and_evaluate(training, run, point)
        except BaseException as error:
            _record(error, run, interruption)
            if isinstance(error, OSError):
                raise run.writing_error(error) from error
            raise
    show_end(run)
    return score(run.summary)


def _find_rate(training: Any, run: Run) -> float:
    """Find a learning rate instead of training; there is no perplexity, so return infinity."""
    from lyricgen.training.find_lr import find_lr  # another run needs no plot

    find_lr(training, run)
    return math.inf


def _find_trial(run: Run) -> Any:
    """Find the trial of a search's run, and record the search space in the run."""
    from lyricgen.sweeps.search.storage import find_trial  # another run needs no Optuna

    trial = find_trial(run)
    run.search_space = trial.search_space
    return trial


def _record_unbegun(
    error: BaseException, run: Run, values: dict[str, Any], interruption: Interruption
) -> None:
    """Record why a job could not begin; discard a new single run, and a new job after a signal."""
    if run.sweep is not None and not hides_an_interrupt(error):
        earlier = RunSummary.read_earlier(run.directory)
        if earlier is None or earlier.options is None:
            run.begin(values, earlier)
        else:
            run.keep(earlier)
        _record(error, run, interruption)
    elif values["resume"] is None:
        run.discard()


def _record(error: BaseException, run: Run, interruption: Interruption) -> None:
    """Record in summary.json why a run has ended early.

    Raises:
        Interrupted: a signal stopped the run, and a library replaced Interrupted by another error.
        KeyboardInterrupt: `error` is a KeyboardInterrupt, or a library replaced one by `error`.
    """
    if not hides_an_interrupt(error):
        run.fail(error)
        return
    run.interrupt()
    if has_checkpoint(run.directory):
        how = "interrupted; to go on"
    else:
        how = "interrupted without a checkpoint; to train from the start"
    log.info("%s: %s", how, run.resume_command)
    if not isinstance(error, Interrupted):
        interruption.raise_if_requested()
        raise KeyboardInterrupt from error
