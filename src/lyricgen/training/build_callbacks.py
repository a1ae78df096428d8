"""From options to the callbacks that log, sample, stop and save."""

import pytorch_lightning as pl

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.encoding import EncodedCorpus
from lyricgen.models.kinds import Model
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.rewind import STEPS
from lyricgen.runs.run import Run
from lyricgen.training.build import monitored, trained_model
from lyricgen.training.callbacks.baseline import Baseline
from lyricgen.training.callbacks.checkpoints import Checkpoints
from lyricgen.training.callbacks.early_stopping import EarlyStopping
from lyricgen.training.callbacks.epoch_log import EpochLog
from lyricgen.training.callbacks.max_steps import MaxSteps
from lyricgen.training.callbacks.perplexity import Perplexity
from lyricgen.training.callbacks.prefixes import choose_prefixes
from lyricgen.training.callbacks.progress import ProgressReport
from lyricgen.training.callbacks.pruning import Pruning, Trial
from lyricgen.training.callbacks.samples import Samples
from lyricgen.training.callbacks.smoothed_loss import SmoothedLoss
from lyricgen.training.callbacks.throughput import Throughput
from lyricgen.training.options import EarlyStoppingOptions, TrainOptions


def build_callbacks(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    network: Model,
    corpus: EncodedCorpus,
    run: Run,
    interruption: Interruption,
    trial: Trial | None = None,
) -> list[pl.Callback]:
    """Figures first, then what adds to them, then what reads them.

    Args:
        options: the whole configuration.
        datamodule: the corpus in batches.
        network: what is trained.
        corpus: its text.
        run: its directory.
        interruption: tells the run to stop.
        trial: of a search, if the run is one.
    """
    chosen = options.callbacks
    callbacks: list[pl.Callback] = []
    if options.trainer.max_steps is not None:
        callbacks.append(MaxSteps(options.trainer.max_steps))
    callbacks += [Perplexity(), Throughput()]
    if chosen.baseline.enabled and options.objective == "next":  # n-grams read from the left only
        callbacks.append(Baseline(chosen.baseline.max_order, chosen.baseline.max_chars))
    if chosen.samples.every_n_epochs or chosen.samples.steps:
        model = trained_model(options, datamodule, network)
        callbacks.append(_samples(options, model, corpus, run))
    if chosen.smoothed_loss.enabled:
        path = run.directory / STEPS if options.logger.csv else None
        callbacks.append(
            SmoothedLoss(path, decay=chosen.smoothed_loss.decay, start=chosen.smoothed_loss.start)
        )
    monitor = monitored(datamodule)
    if chosen.early_stopping.enabled:
        callbacks.append(_early_stopping(chosen.early_stopping, monitor))
    callbacks.append(EpochLog(run.directory / "metrics.csv" if options.logger.csv else None))
    if chosen.progress.enabled:
        callbacks.append(ProgressReport(options.trainer.max_steps))
    if trial is not None:
        callbacks.append(Pruning(trial, monitor.partition("/")[0]))
    if chosen.checkpoint.enabled:
        every = chosen.checkpoint.every_n_steps
        callbacks.append(Checkpoints(run, corpus.digest, monitor, every, interruption))
    return callbacks


def _early_stopping(chosen: EarlyStoppingOptions, monitor: str) -> EarlyStopping:
    return EarlyStopping(
        monitor,
        patience=chosen.patience,
        min_delta=chosen.min_delta,
        check_on_train_epoch_end=monitor == "train/loss",
    )


def _samples(
    options: TrainOptions, model: TrainedModel, corpus: EncodedCorpus, run: Run
) -> Samples:
    chosen = options.callbacks.samples
    return Samples(
        model,
        run.directory / "samples.jsonl",
        every_n_epochs=chosen.every_n_epochs,
        steps=chosen.steps,
        prefixes=choose_prefixes(chosen.prefixes, model, corpus.opening),
        count=chosen.count,
        length=chosen.length,
        temperature=chosen.temperature,
        seed=options.seed if chosen.seed is None else chosen.seed,
        generator=chosen.generator,
    )
