"""Build a run from its options, train its model, and evaluate the best weights.

A run goes through these steps:

1. `prepare` reads the corpus (`data.build.find_corpus`), fills in the settings that say `auto`
   (`recipe`), splits the corpus, builds the sampler and draws the first weights of the network
   (`build`). It writes nothing into the run's directory.
2. `runs.state.RunState` holds the state that a run needs to continue exactly. Each checkpoint
   contains it.
3. `build_trainer` builds the observers (`callbacks/`) and Lightning's Trainer, which trains the
   network's `RecurrentModule`. `lightning_hooks` calls the observers after each step, each
   validation within an epoch, and each epoch. The last observer, `Checkpoints`, saves the run.
   `fitting` has the two ways to train: by the Trainer, or by counting n-grams, which calls the same
   observers.
4. `train_and_evaluate` cuts the files of a resumed run back to its checkpoint, and calls `fit`.
   With several devices, each device has its own process (`ddp/`, `worker`).
5. `results.conclude` scores the held-out splits with the weights of the best epoch and with
   n-grams. The figures go to summary.json and to TensorBoard.
"""

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import seed_everything

from lyricgen.data.build import find_corpus, log_notices
from lyricgen.data.corpus import EncodedCorpus
from lyricgen.data.sources import settle_field
from lyricgen.errors import UserError, reason
from lyricgen.models.hybrid_building import find_network
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.checkpoint_files import checkpoint_name, settle_best
from lyricgen.runs.directories import BEST, LAST
from lyricgen.runs.interruption import Interruption, raise_if_requested, signal_came
from lyricgen.runs.run import Run
from lyricgen.runs.state import ResumePoint, RunState, rewind, start_anew
from lyricgen.settings import complete, list_auto, replace_auto
from lyricgen.threads import cores
from lyricgen.training import build, results
from lyricgen.training.build_trainer import build_observers, build_trainer
from lyricgen.training.callbacks.stopping import Trial
from lyricgen.training.ddp.environment import refuse_other_launchers
from lyricgen.training.ddp.launch import worker_processes
from lyricgen.training.fitting import Counting, NetworkTraining, Training
from lyricgen.training.hardware import check_precision
from lyricgen.training.loggers.logger import final_figures
from lyricgen.training.older_model import check_ngrams, find_models, join_characters, start_from
from lyricgen.training.options import TrainOptions, parse
from lyricgen.training.recipe import fill_auto, log_filled
from lyricgen.training.totals import NatsTotal

log = logging.getLogger(__name__)


def prepare(
    values: dict[str, Any],
    run: Run,
    point: ResumePoint,
    interruption: Interruption,
    trial: Trial | None = None,
    rank: int = 0,
    older: TrainedModel | None = None,
) -> Training:
    """Build all objects of a run, without writing into its directory.

    `values` is the whole configuration; `point` tells where a resumed run continues. `trial` is
    None unless a search started the run, and `older` unless init_from is loaded already.

    Raises:
        UserError: an option, the text or init_from is wrong, or torchrun or srun starts processes.
    """
    _quiet_lightning()
    refuse_other_launchers()
    torch.set_num_threads(min(torch.get_num_threads(), cores()))
    seed_everything(values["seed"], verbose=False)
    options, corpus = _read_corpus(values, run, point)
    models = find_models(options, run, point, older)
    corpus = join_characters(corpus, models)
    datamodule = build.build_datamodule(options, corpus)
    model = build.build_model(options, datamodule, models.older)
    datamodule.recollections = build.find_recollections(model, datamodule.splits)
    if models.resumed is not None:
        check_ngrams(model, models.resumed, options)
    elif models.older is not None:
        start_from(models.older, model, datamodule, options)
    state = RunState(corpus.digest)  # `fit` fills it in a resumed run; point.state is for checks
    total = NatsTotal(datamodule.vocabulary, model.metric_prefix)
    observers = build_observers(
        options, datamodule, model, state, total, corpus, run, interruption, trial, point, rank
    )
    description = build.describe(corpus, datamodule, model)
    training: Training
    if not model.trains_in_steps:
        training = Counting(options, datamodule, model, state, observers, description, total)
    else:
        module = build.build_module(options, datamodule, model, state, total)
        trainer = build_trainer(options, datamodule, run, observers, rank)
        check_precision(options, trainer, find_network(model))
        training = NetworkTraining(
            options, datamodule, model, state, observers, description, module, trainer
        )
    if rank == 0:
        _log_text(training, run, corpus)
    return training


def _log_text(training: Training, run: Run, corpus: EncodedCorpus) -> None:
    """Log which settings were filled by the text, notices about it, and its batches."""
    options = training.options
    if run.sweep is None:  # jobs only record them
        log_filled(options, run.filled)
    log_notices(options.data, corpus, filled=run.filled)
    build.log_batches(options, training.datamodule)


def _read_corpus(
    values: dict[str, Any], run: Run, point: ResumePoint
) -> tuple[TrainOptions, EncodedCorpus]:
    """Read the text, and fill in the settings that say `auto`.

    A resumed run must read the text that it has read before, and gets the settings of its record.
    Jobs of a sweep with the same settings of the text must read the same text, too.

    Raises:
        UserError: the text has changed or cannot be used.
    """
    values = replace_auto(values, complete(point.recorded))
    options = parse(values)
    run.filled = list_auto(values)
    data = settle_field(options.data)
    values = replace_auto(values, {"data.column": data.column, "data.key": data.key})
    checkpoint = None if options.resume is None else run.checkpoints / LAST
    corpus = find_corpus(data, point.state.corpus_digest, checkpoint)
    if point.state.corpus_digest not in (None, corpus.digest):
        raise UserError(
            f"resume: data={options.data.kind} ({corpus.name}) is not the text that the run has "
            f"read so far: bring that one back, or {start_anew(run.directory)}"
        )
    options = fill_auto(values, corpus)
    run.check_text(options.model_dump(mode="json"), corpus.digest)
    run.corpus_digest = corpus.digest
    return options, corpus


def train_and_evaluate(training: Training, run: Run, point: ResumePoint) -> None:
    """Train, evaluate the best weights, and record the figures in the run's summary.

    Raises:
        UserError: training diverged, another process of the run failed, the directory is gone, or
            best.ckpt is gone or damaged.
        OSError: a file cannot be written.
        Interrupted: a signal has stopped the run.
    """
    try:
        _train_and_evaluate(training, run, point)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit) or signal_came()
        for logger in training.observers.loggers:
            if stopped:
                logger.close("interrupted", None)
            else:
                logger.close("failed", reason(error))
        raise


def _train_and_evaluate(training: Training, run: Run, point: ResumePoint) -> None:
    kept = training.options.callbacks.checkpoint
    if training.options.resume is not None:
        rewind(run.directory, point.state.sizes)
        rows = point.state.best_rows(build.choose_monitor(training.datamodule))
        settle_best(run.checkpoints, [checkpoint_name(row) for row in rows[: kept.keep_best]])
    checkpoint = None
    if point.checkpoint is not None:
        # last.ckpt, which this replaces, may be damaged
        checkpoint = point.checkpoint.replace(run.checkpoints / LAST)
        log.info("going on after step %d of %s", point.steps, run.directory)
    if training.world_size == 1:
        training.fit(checkpoint)
    else:
        _fit_together(training, run, point, checkpoint)
    state = training.state
    judged = kept.enabled and math.isfinite(state.best_loss)
    figures = results.conclude(training, run.checkpoints / BEST if judged else None)
    loggers = training.observers.loggers
    for logger in loggers:
        logger.finish(final_figures(figures, run.wall_seconds))
    given_up = None if run.search is None else state.pruned
    for logger in loggers:  # first, since a finished run is not resumed to send what is missing
        logger.close("finished" if given_up is None else "pruned", given_up)
    raise_if_requested()
    run.finish(figures, given_up)


def _fit_together(
    training: Training, run: Run, point: ResumePoint, checkpoint: Path | None
) -> None:
    """Train as rank 0 of several processes, and wait until the others have ended.

    Raises:
        UserError: another process has failed; `Training.fit` tells further errors.
    """
    task = {
        "options": training.options.model_dump(mode="json"),
        "directory": str(run.directory),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "steps": point.steps,
        "corpus_digest": training.state.corpus_digest,
        "in_search": run.search is not None,
    }
    size, device = training.world_size, training.device.type
    with worker_processes(task, size, device, lambda reason: run.fail(UserError(reason))):
        training.fit(checkpoint)


def _quiet_lightning() -> None:
    # no lines about the hardware, no advertisements
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        # about Lightning's interval of logging, which lyricgen does not use
        "The number of training batches",
        # the data module, not the loader, remembers the position in the text
        "You're resuming from a checkpoint that ended before",
        # the user may switch callbacks off for the rest of a run
        "Be aware that when using `ckpt_path`",
        # `check_precision` says it
        "You passed .*16-mixed",
    ):
        warnings.filterwarnings("ignore", message=message)
    # about Lightning's own use of torch
    warnings.filterwarnings("ignore", module="pytorch_lightning.utilities._pytree")
