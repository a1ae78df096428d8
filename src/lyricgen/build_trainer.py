"""From options to a Trainer with lyricgen's callbacks and loggers."""

from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.profilers import (
    AdvancedProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)

from lyricgen.build import monitored, trained_model
from lyricgen.callbacks.baseline import Baseline
from lyricgen.callbacks.checkpoints import Checkpoints
from lyricgen.callbacks.early_stopping import EarlyStopping
from lyricgen.callbacks.epoch_log import EpochLog
from lyricgen.callbacks.perplexity import Perplexity
from lyricgen.callbacks.progress import ProgressReport
from lyricgen.callbacks.samples import Samples, choose_prefixes
from lyricgen.callbacks.throughput import Throughput
from lyricgen.checkpoint_io import AtomicCheckpointIO
from lyricgen.config import TrainOptions
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.encoding import EncodedCorpus
from lyricgen.errors import UserError
from lyricgen.interruption import Interruption
from lyricgen.model.language_model import LanguageModel
from lyricgen.run import Run


def build_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    network: LanguageModel,
    corpus: EncodedCorpus,
    run: Run,
    interruption: Interruption,
    steps: int = 0,
) -> pl.Trainer:
    """Lightning's Trainer with lyricgen's callbacks, in the order in which they depend.

    Args:
        options: the whole configuration.
        datamodule: the corpus in batches.
        network: what is trained.
        corpus: its text.
        run: its directory.
        interruption: tells the run to stop.
        steps: that a resumed run has made; TensorBoard forgets what came after them.

    Raises:
        UserError: Lightning refuses the options.
    """
    torch.set_float32_matmul_precision(options.trainer.float32_matmul_precision)
    chosen = options.trainer
    loggers: list[Logger] = []
    if options.logger.tensorboard:
        loggers.append(
            TensorBoardLogger(
                run.directory,
                name="",
                version="",
                default_hp_metric=False,
                purge_step=steps + 1 if steps else 0,
            )
        )
    callbacks = build_callbacks(options, datamodule, network, corpus, run, interruption)
    _check_interval(options, datamodule)
    try:
        trainer = _trainer(options, datamodule, run, loggers, callbacks)
    except Exception as error:  # Lightning tells wrong arguments by many kinds of error
        raise UserError(
            f"trainer: {error}: look at trainer.accelerator={chosen.accelerator}, "
            f"trainer.devices={chosen.devices} and trainer.strategy={chosen.strategy}"
        ) from error
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.devices={chosen.devices}: a run trains on one device: choose "
            "trainer.devices=1, and sweep with -m for several runs"
        )
    return trainer


def _check_interval(options: TrainOptions, datamodule: CharacterDataModule) -> None:
    chosen = options.trainer
    batches = min(len(datamodule.sampler), chosen.limit_train_batches or len(datamodule.sampler))
    if "val" in datamodule.parts and (chosen.val_check_interval or 0) > batches:
        raise UserError(
            f"trainer.val_check_interval={chosen.val_check_interval} is more than the {batches} "
            "steps of an epoch: lower it, or set it to null"
        )


def _trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    loggers: list[Logger],
    callbacks: list[pl.Callback],
) -> pl.Trainer:
    chosen = options.trainer
    return pl.Trainer(
        max_epochs=chosen.max_epochs,
        accelerator=chosen.accelerator,
        devices=chosen.devices,
        strategy=chosen.strategy,
        precision=chosen.precision,
        gradient_clip_val=chosen.gradient_clip_val,
        gradient_clip_algorithm=chosen.gradient_clip_algorithm,
        limit_train_batches=chosen.limit_train_batches,
        limit_val_batches=None if "val" in datamodule.parts else 0,
        check_val_every_n_epoch=chosen.check_val_every_n_epoch,
        val_check_interval=chosen.val_check_interval,
        deterministic=chosen.deterministic,
        profiler=build_profiler(chosen.profiler, run),
        logger=loggers,
        callbacks=callbacks,
        plugins=_plugins(),
        default_root_dir=run.directory,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=options.callbacks.checkpoint.enabled,
        enable_autolog_hparams=False,
    )


def _plugins() -> list[Any]:
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():  # Lightning would save within its signal handler, anywhere
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def build_profiler(kind: str | None, run: Run) -> Profiler | None:
    """One of Lightning's profilers, which writes to the run's directory."""
    kinds: dict[str, type[Profiler]] = {
        "simple": SimpleProfiler,
        "advanced": AdvancedProfiler,
        "pytorch": PyTorchProfiler,
    }
    return None if kind is None else kinds[kind](dirpath=run.directory, filename="profile")


def build_callbacks(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    network: LanguageModel,
    corpus: EncodedCorpus,
    run: Run,
    interruption: Interruption,
) -> list[pl.Callback]:
    """Figures first, then what adds to them, then what reads them."""
    chosen = options.callbacks
    callbacks: list[pl.Callback] = [Perplexity(), Throughput()]
    if chosen.baseline.enabled:
        callbacks.append(Baseline(chosen.baseline.max_order, chosen.baseline.max_chars))
    if chosen.samples.every_n_epochs:
        model = trained_model(options, datamodule, network)
        callbacks.append(
            Samples(
                model,
                run.directory / "samples.jsonl",
                every_n_epochs=chosen.samples.every_n_epochs,
                prefixes=choose_prefixes(chosen.samples.prefixes, model, corpus.opening),
                count=chosen.samples.count,
                length=chosen.samples.length,
                temperature=chosen.samples.temperature,
                seed=options.seed,
            )
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
        callbacks.append(ProgressReport())
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
