"""Build the callbacks and the Trainer, with loggers and plugins of its own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import (
    AdvancedProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)
from pytorch_lightning.strategies import Strategy

from lyricgen.data.corpus import EncodedCorpus
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.errors import UserError
from lyricgen.generation.filling import encode_gaps
from lyricgen.models.model import Model
from lyricgen.models.options import NgramOptions
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.resume import STEPS
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
from lyricgen.training.ddp.environment import (
    OURS,
    OrderedDDP,
    SingleMachine,
    keep_out_of_signals,
    number_of_processes,
    without_trainer_variables,
)
from lyricgen.training.devices import choose_devices
from lyricgen.training.loggers.event_file import EventLogger
from lyricgen.training.options import EarlyStoppingOptions, TrainOptions

NOTEBOOKS = ("分开", "不分开")  # prefixes
LONGEST_LINE = 30  # characters of the text's first line that a model fills the gaps of


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


def build_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    callbacks: list[pl.Callback],
    steps: int = 0,
    rank: int = 0,
) -> pl.Trainer:
    """Lightning's Trainer with lyricgen's loggers and plugins.

    Args:
        options: the whole configuration.
        datamodule: the corpus in batches.
        run: its directory.
        callbacks: in the order in which they depend on each other.
        steps: that a resumed run has made; TensorBoard forgets what came after them.
        rank: of this process, where several train; only the first one writes.

    Raises:
        UserError: Lightning refuses the options, or the batches cannot be shared.
    """
    if isinstance(options.model, NgramOptions):
        options = _counting(options)
    # which Lightning has taken from RANK, SLURM_PROCID or the like
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision(options.trainer.float32_matmul_precision)
    chosen = options.trainer
    loggers = _loggers(options, run, steps) if rank == 0 else []
    _check_interval(options, datamodule)
    try:
        processes = number_of_processes(chosen)
        place = SingleMachine(rank, processes)
        trainer = _trainer(options, datamodule, run, loggers, callbacks, place)
    except UserError:
        raise
    except Exception as error:  # Lightning tells wrong arguments by many kinds of error
        raise UserError(
            f"trainer: {error}: look at trainer.accelerator={chosen.accelerator}, "
            f"trainer.devices={chosen.devices} and trainer.strategy={chosen.strategy}"
        ) from error
    if options.data.batch_size < processes and not isinstance(options.model, NgramOptions):
        raise UserError(
            f"data.batch_size={options.data.batch_size} is shared among trainer.devices="
            f"{chosen.devices}, a row each at least: raise it, or choose fewer devices"
        )
    return trainer


def _loggers(options: TrainOptions, run: Run, steps: int) -> list[Logger]:
    if not options.logger.tensorboard:
        return []
    return [EventLogger(run.directory, purge_step=steps + 1 if steps else 0)]


def single_process_trainer(
    trainer: pl.Trainer, options: TrainOptions, datamodule: CharacterDataModule, run: Run
) -> pl.Trainer:
    """A Trainer of rank 0's device alone, with the callbacks and loggers of one of several."""
    device = trainer.strategy.root_device
    devices = 1 if device.index is None else [device.index]
    one = {"accelerator": device.type, "devices": devices, "strategy": "auto"}
    options = options.model_copy(update={"trainer": options.trainer.model_copy(update=one)})
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return _trainer(options, datamodule, run, trainer.loggers, callbacks, SingleMachine(0, 1))


def _counting(options: TrainOptions) -> TrainOptions:
    """One pass on the CPU, whatever else is asked of networks."""
    once = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "strategy": "auto",
        "precision": "32-true",  # leaves float64 alone
        "gradient_clip_val": None,
        "check_val_every_n_epoch": 1,
        "val_check_interval": None,
    }
    return options.model_copy(update={"trainer": options.trainer.model_copy(update=once)})


def _check_interval(options: TrainOptions, datamodule: CharacterDataModule) -> None:
    chosen = options.trainer
    batches = chosen.epoch_batches(len(datamodule.sampler))
    if batches == 0:
        raise UserError(
            f"trainer.limit_train_batches={chosen.limit_train_batches} leaves none of the "
            f"{len(datamodule.sampler)} batches of an epoch: raise it"
        )
    unseen = (chosen.check_val_every_n_epoch - 1) * batches  # steps before an epoch that validates
    if "val" in datamodule.parts and (chosen.max_steps or unseen + 1) <= unseen:
        raise UserError(
            f"trainer.max_steps={chosen.max_steps} ends the run before the epoch that "
            f"trainer.check_val_every_n_epoch={chosen.check_val_every_n_epoch} validates: nothing "
            "would be validated"
        )
    if "val" in datamodule.parts and (chosen.val_check_interval or 0) > batches:
        raise UserError(
            f"trainer.val_check_interval={chosen.val_check_interval} is more than the {batches} "
            "steps of an epoch: lower it, or set it to null"
        )


@without_trainer_variables()
def _trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    loggers: list[Logger],
    callbacks: list[pl.Callback],
    place: SingleMachine,
) -> pl.Trainer:
    chosen = options.trainer
    strategy: str | Strategy = "auto" if chosen.strategy in OURS else chosen.strategy
    if place.processes > 1:
        strategy = OrderedDDP()
    trainer = pl.Trainer(
        max_epochs=chosen.max_epochs,
        accelerator=chosen.accelerator,
        devices=choose_devices(chosen.accelerator, chosen.devices, run),
        strategy=strategy,
        precision=chosen.precision,
        gradient_clip_val=chosen.gradient_clip_val,
        gradient_clip_algorithm=chosen.gradient_clip_algorithm,
        limit_train_batches=chosen.limit_train_batches,
        limit_val_batches=None if "val" in datamodule.parts else 0,
        check_val_every_n_epoch=chosen.check_val_every_n_epoch,
        val_check_interval=chosen.val_check_interval,
        deterministic=chosen.deterministic,
        profiler=build_profiler(chosen.profiler if place.rank == 0 else None, run),
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), place],
        default_root_dir=run.directory,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=options.callbacks.checkpoint.enabled,
        enable_autolog_hparams=False,
    )
    keep_out_of_signals(trainer)
    return trainer


def build_profiler(kind: str | None, run: Run) -> Profiler | None:
    """One of Lightning's profilers, which writes to the run's directory."""
    kinds: dict[str, type[Profiler]] = {
        "simple": SimpleProfiler,
        "advanced": AdvancedProfiler,
        "pytorch": PyTorchProfiler,
    }
    return None if kind is None else kinds[kind](dirpath=run.directory, filename="profile")
