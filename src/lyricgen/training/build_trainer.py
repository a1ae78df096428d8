"""Build the loggers, the observers and the Trainer of a run."""

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.strategies import Strategy

from lyricgen.data.corpus import EncodedCorpus
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.errors import UserError
from lyricgen.models.model import Model
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.runs.directories import METRICS, SAMPLES, STEPS
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import ResumePoint, RunState
from lyricgen.training.build import choose_monitor, trained_model
from lyricgen.training.callbacks.average import WeightAverage
from lyricgen.training.callbacks.baseline import Baseline
from lyricgen.training.callbacks.checkpoints import Checkpoints
from lyricgen.training.callbacks.figures import EpochLog, SmoothedLoss, Throughput
from lyricgen.training.callbacks.progress import ProgressReport
from lyricgen.training.callbacks.samples import Samples
from lyricgen.training.callbacks.stopping import EarlyStopping, Pruning, Trial
from lyricgen.training.ddp.environment import (
    OWN_STRATEGIES,
    SingleMachine,
    number_of_processes,
    without_trainer_variables,
)
from lyricgen.training.hardware import choose_devices
from lyricgen.training.lightning_hooks import Moments, Observer, OrderedDDP, keep_out_of_signals
from lyricgen.training.loggers.logger import LoggedRun, RunLogger
from lyricgen.training.loggers.mlflow import MlflowLogger
from lyricgen.training.loggers.tensorboard import TensorBoardLogger
from lyricgen.training.loggers.wandb import WandbLogger
from lyricgen.training.older_model import CopiedWeighing
from lyricgen.training.options import TrainerOptions, TrainOptions
from lyricgen.training.totals import NatsTotal

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


@dataclass(frozen=True)
class Observers:
    """Observers of a run.

    `all` lists every observer in the order of the calls: later observers use the results of earlier
    observers. Loggers are observers, too. `baseline` and `samples` are None if the options leave
    them out.
    """

    all: list[Observer]
    loggers: list[RunLogger]
    baseline: Baseline | None
    samples: Samples | None


def build_observers(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    model: Model,
    state: RunState,
    total: NatsTotal,
    corpus: EncodedCorpus,
    run: Run,
    interruption: Interruption,
    trial: Trial | None,
    point: ResumePoint,
    rank: int,
) -> Observers:
    """Build the observers and loggers; `total` is of the training split in each epoch.

    Raises:
        UserError: the model cannot read a prefix of callbacks.samples.prefixes, or a chosen logger
            lacks its package.
    """
    chosen, csv, monitor = options.callbacks, options.logger.csv, choose_monitor(datamodule)
    steps_csv, metrics_csv = (run.directory / name if csv else None for name in (STEPS, METRICS))
    loggers: list[RunLogger] = []
    baseline = samples = None
    if rank == 0:  # the other ranks write nothing
        steps = None if point.checkpoint is None else point.steps
        loggers = build_loggers(LoggedRun(options, run, state, model, steps))
    if chosen.baseline.enabled and options.objective == "next":  # n-grams read from the left only
        baseline = Baseline(state, chosen.baseline, model.ngram_order)
    if chosen.samples.every_n_epochs or chosen.samples.steps:
        trained, path = trained_model(options, datamodule, model), run.directory / SAMPLES
        opening, seed = corpus.decode_opening(1000), options.seed
        samples = Samples(state, trained, path, chosen.samples, opening, seed, loggers)
    observers: list[Observer] = [Throughput(state), *(one for one in (baseline, samples) if one)]
    if chosen.average.enabled and options.model.trains_in_steps:
        observers.insert(0, WeightAverage(state, chosen.average, model))
    observers += [CopiedWeighing(model)] * (bool(options.init_from) and point.checkpoint is None)
    if chosen.smoothed_loss.enabled:
        observers.append(SmoothedLoss(state, steps_csv, chosen.smoothed_loss))
    if chosen.early_stopping.enabled:
        observers.append(EarlyStopping(state, monitor, chosen.early_stopping))
    observers.append(EpochLog(state, total, metrics_csv))
    if chosen.progress.enabled:
        observers.append(ProgressReport(state, total, options.trainer.max_steps))
    observers += loggers
    if trial is not None:
        observers.append(Pruning(state, trial, monitor.partition("/")[0]))
    if chosen.checkpoint.enabled:
        limit = options.trainer.max_time
        observers.append(Checkpoints(run, state, monitor, chosen.checkpoint, interruption, limit))
    return Observers(observers, loggers, baseline, samples)


def build_loggers(logged: LoggedRun) -> list[RunLogger]:
    """Build the chosen loggers.

    Raises:
        UserError: a chosen logger lacks its package.
    """
    chosen = logged.options.logger
    known: dict[type[RunLogger], object] = {
        TensorBoardLogger: chosen.tensorboard,
        MlflowLogger: chosen.mlflow,
        WandbLogger: chosen.wandb,
    }
    return [kind(logged) for kind, options in known.items() if options]


def build_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    observers: Observers,
    rank: int,
) -> pl.Trainer:
    """Build Lightning's Trainer.

    `rank` is the rank of this process, from 0.

    Raises:
        UserError: Lightning or lyricgen refuses an option, a batch has fewer rows than there are
            processes, or the run would never validate.
    """
    # Lightning has read a rank from RANK, SLURM_PROCID or a similar variable
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision(options.trainer.float32_matmul_precision)
    chosen = options.trainer
    _check_batches(chosen, len(datamodule.sampler), validates="val" in datamodule.splits)
    try:
        processes = number_of_processes(chosen)
        trainer = _make_trainer(options, datamodule, run, observers, rank, processes)
    except UserError:
        raise
    except Exception as error:  # Lightning has many kinds of error for wrong arguments
        raise UserError(
            f"trainer: {error}: look at trainer.accelerator={chosen.accelerator}, "
            f"trainer.devices={chosen.devices} and trainer.strategy={chosen.strategy}"
        ) from error
    if options.data.batch_size < processes:
        raise UserError(
            f"data.batch_size={options.data.batch_size} is shared among trainer.devices="
            f"{chosen.devices}, a row each at least: raise it, or choose fewer devices"
        )
    keep_out_of_signals(trainer)
    return trainer


def _check_batches(chosen: TrainerOptions, available: int, *, validates: bool) -> None:
    steps = chosen.epoch_steps(available)
    unseen = (chosen.check_val_every_n_epoch - 1) * steps  # steps before the first validation
    if validates and chosen.max_steps is not None and chosen.max_steps <= unseen:
        raise UserError(
            f"trainer.max_steps={chosen.max_steps} ends the run before the epoch that "
            f"trainer.check_val_every_n_epoch={chosen.check_val_every_n_epoch} validates: nothing "
            "would be validated"
        )
    if validates and (chosen.val_check_interval or 0) > steps:
        raise UserError(
            f"trainer.val_check_interval={chosen.val_check_interval} is more than the {steps} "
            "steps of an epoch: lower it, or set it to null"
        )


@without_trainer_variables()
def _make_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    observers: Observers,
    rank: int,
    processes: int,
) -> pl.Trainer:
    chosen, profiler = options.trainer, None
    if chosen.profiler is not None and rank == 0:
        profiler = PROFILERS[chosen.profiler](dirpath=run.directory, filename="profile")
    strategy: str | Strategy = "auto" if chosen.strategy in OWN_STRATEGIES else chosen.strategy
    not_passed_on = {"max_steps", "max_time", "float32_matmul_precision"}
    changed = {"val_check_interval", "devices", "strategy", "profiler"}
    return pl.Trainer(
        **chosen.model_dump(exclude=not_passed_on | changed),
        val_check_interval=chosen.validation_interval(len(datamodule.sampler)),
        devices=choose_devices(chosen.accelerator, chosen.devices, run),
        strategy=OrderedDDP() if processes > 1 else strategy,
        limit_val_batches=None if "val" in datamodule.splits else 0,
        profiler=profiler,
        logger=observers.loggers,
        callbacks=[*observers.all, Moments(observers.all, chosen.max_steps)],
        plugins=[AtomicCheckpointIO(), SingleMachine(rank, processes)],
        default_root_dir=run.directory,
        # Lightning's check before training is a whole validation, with all hooks
        num_sanity_val_steps=-1 if options.model.validates_first else 0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
    )
