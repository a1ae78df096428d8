"""From options to the callbacks that log, sample, stop and save."""

import pytorch_lightning as pl

from lyricgen.build import monitored, trained_model
from lyricgen.callbacks.baseline import Baseline
from lyricgen.callbacks.checkpoints import Checkpoints
from lyricgen.callbacks.early_stopping import EarlyStopping
from lyricgen.callbacks.epoch_log import EpochLog
from lyricgen.callbacks.max_steps import MaxSteps
from lyricgen.callbacks.perplexity import Perplexity
from lyricgen.callbacks.prefixes import choose_prefixes
from lyricgen.callbacks.progress import ProgressReport
from lyricgen.callbacks.samples import Samples
from lyricgen.callbacks.smoothed_loss import SmoothedLoss
from lyricgen.callbacks.throughput import Throughput
from lyricgen.config import TrainOptions
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.encoding import EncodedCorpus
from lyricgen.interruption import Interruption
from lyricgen.model.models import Model
from lyricgen.rewind import STEPS
from lyricgen.run import Run


def build_callbacks(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    network: Model,
    corpus: EncodedCorpus,
    run: Run,
    interruption: Interruption,
) -> list[pl.Callback]:
    """Figures first, then what adds to them, then what reads them.

    Args:
        options: the whole configuration.
        datamodule: the corpus in batches.
        network: what is trained.
        corpus: its text.
        run: its directory.
        interruption: tells the run to stop.
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
        callbacks.append(
            Samples(
                model,
                run.directory / "samples.jsonl",
                every_n_epochs=chosen.samples.every_n_epochs,
                steps=chosen.samples.steps,
                prefixes=choose_prefixes(chosen.samples.prefixes, model, corpus.opening),
                count=chosen.samples.count,
                length=chosen.samples.length,
                temperature=chosen.samples.temperature,
                seed=options.seed if chosen.samples.seed is None else chosen.samples.seed,
                generator=chosen.samples.generator,
            )
        )
    if chosen.smoothed_loss.enabled:
        path = run.directory / STEPS if options.logger.csv else None
        callbacks.append(
            SmoothedLoss(path, decay=chosen.smoothed_loss.decay, start=chosen.smoothed_loss.start)
        )
    if chosen.early_stopping.enabled:
        callbacks.append(
            EarlyStopping(
                monitored(datamodule),
                patience=chosen.early_stopping.patience,
                min_delta=chosen.early_stopping.min_delta,
                check_on_train_epoch_end=monitored(datamodule) == "train/loss",
            )
        )
    callbacks.append(EpochLog(run.directory / "metrics.csv" if options.logger.csv else None))
    if chosen.progress.enabled:
        callbacks.append(ProgressReport(options.trainer.max_steps))
    if chosen.checkpoint.enabled:
        callbacks.append(
            Checkpoints(
                run,
                corpus.digest,
                monitored(datamodule),
                chosen.checkpoint.every_n_steps,
                interruption,
            )
        )
    return callbacks
