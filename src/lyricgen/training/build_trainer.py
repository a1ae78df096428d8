"""From options to a Trainer with lyricgen's loggers and plugins."""

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

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.errors import UserError
from lyricgen.models.options import NgramOptions
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.runs.run import Run
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
from lyricgen.training.options import TrainOptions


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
