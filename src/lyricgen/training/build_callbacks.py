"""From options to the callbacks that log, sample, stop and save."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.encoding import EncodedCorpus
from lyricgen.errors import UserError
from lyricgen.generation.filling import encode_gaps
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


NOTEBOOKS = ("分开", "不分开")  # prefixes
LONGEST_LINE = 30  # characters of the text's first line that a model fills the gaps of


def choose_prefixes(wanted: list[str] | None, model: TrainedModel, opening: str) -> list[str]:
    """The prefixes to sample with: the user's, or ones that the model can spell.

    Without any of the user's: none for a model of lines; else 分开 and 不分开 where the
    vocabulary has them, else the opening of the text. A model that fills gaps gets the user's
    texts with gaps, or the first line of the text with every third character missing.

    Args:
        wanted: the user's own, or None.
        model: whose characters they must be.
        opening: how the corpus begins.

    Raises:
        UserError: one of the user's has an unknown character.
    """
    if model.fills_gaps:
        return _with_gaps(wanted, model, opening)
    if wanted:
        for prefix in wanted:
            _check(model.encode_prefix, prefix)
        return [model.normalised(prefix) for prefix in wanted]
    if model.layout == "lines":
        return [""]
    known = set(model.vocabulary.characters)
    spelled = [prefix for prefix in NOTEBOOKS if set(prefix) <= known]
    return spelled or [opening.lstrip()[:2]]


def _with_gaps(wanted: list[str] | None, model: TrainedModel, opening: str) -> list[str]:
    if wanted:
        for text in wanted:
            _check(partial(encode_gaps, model), text)
        return [model.normalised(text) for text in wanted]
    line = opening.partition("\n")[0][:LONGEST_LINE]
    missing = [model.gap if i % 3 == 2 else character for i, character in enumerate(line)]
    return ["".join(missing) if model.gap in missing else model.gap + line[1:]]


def _check(encode: Callable[[str], Any], text: str) -> None:
    try:
        encode(text)
    except UserError as error:
        raise UserError(f"callbacks.samples.prefixes: {error}") from error
