"""Build the loggers, the observers and the Trainer of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
from torch import Tensor
from typing_extensions import override

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.errors import UserError
from lyricgen.models.model import Model
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.runs.directories import METRICS, SAMPLES, STEPS
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import ResumePoint, RunState
from lyricgen.training.build import monitored, trained_model
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
from lyricgen.training.ddp.group import check_processes
from lyricgen.training.hardware import choose_devices
from lyricgen.training.lightning_hooks import Moments, Observer, OrderedDDP, keep_out_of_signals
from lyricgen.training.loggers.tensorboard import EventLogger, TensorBoardSummary
from lyricgen.training.options import TrainerOptions, TrainOptions
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal, score_split

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


@dataclass(frozen=True)
class Observers:
    """Observers of a run.

    `all` lists every observer in the order of the calls: later observers use the results of earlier
    observers. `tensorboard`, `baseline` and `samples` are None if the options leave them out.
    """

    all: list[Observer]
    tensorboard: TensorBoardSummary | None
    baseline: Baseline | None
    samples: Samples | None


@dataclass
class Training:
    """Objects of a run, and methods that train and score its model."""

    options: TrainOptions
    datamodule: CharacterDataModule
    model: Model
    state: RunState
    observers: Observers
    description: str  # describes text and model in one line

    @property
    def device(self) -> torch.device:
        """Device on which the model is trained."""
        return torch.device("cpu")

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""
        return 1

    def fit(self, checkpoint: Path | None) -> None:
        """Train from the start or from `checkpoint`; every process of a run calls this method.

        Raises:
            UserError: training diverged, or the run's directory is gone.
            OSError: a file cannot be written.
            Interrupted: a signal has stopped the run.
        """
        raise NotImplementedError

    def score(self, split: str, nats_room: Tensor | None = None) -> dict[str, float]:
        """Score a held-out split after training (see `score_split`); only rank 0 calls it."""
        return score_split(self.model, self.datamodule, split, nats_room)


@dataclass
class NetworkTraining(Training):
    """Run of a network, trained by Lightning's Trainer."""

    module: RecurrentModule
    trainer: pl.Trainer

    @property
    @override
    def device(self) -> torch.device:
        return self.trainer.strategy.root_device

    @property
    @override
    def world_size(self) -> int:
        return self.trainer.world_size

    @override
    def fit(self, checkpoint: Path | None) -> None:
        settings = f"{self.state.corpus_digest} {self.options.model_dump_json()}"
        check_processes(number_of_processes(self.options.trainer), self.world_size, settings)
        self.trainer.fit(self.module, self.datamodule, ckpt_path=checkpoint, weights_only=True)

    @override
    def score(self, split: str, nats_room: Tensor | None = None) -> dict[str, float]:
        """Score a split on the device of the training, then move the model to the CPU."""
        profiler: Profiler = self.trainer.profiler  # type: ignore[attr-defined]
        stage = "validate" if split == "val" else split
        profiler.setup(stage)
        self.model.to(self.device)
        with profiler.profile("score"), self.trainer.precision_plugin.forward_context():
            figures = super().score(split, nats_room)
        self.model.cpu()
        profiler.describe()  # writes its file
        profiler.teardown(stage)
        return figures


def build_loggers(options: TrainOptions, run: Run, point: ResumePoint, rank: int) -> list[Logger]:
    """Build the loggers that the options ask for; ranks above 0 get none."""
    loggers: list[Logger] = []
    if rank != 0:
        return loggers
    if options.logger.tensorboard:
        purge_step = point.steps + 1 if point.steps else 0
        loggers.append(EventLogger(run.directory, purge_step=purge_step))
    return loggers


def build_observers(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    model: Model,
    state: RunState,
    total: NatsTotal,
    opening: str,
    run: Run,
    interruption: Interruption,
    trial: Trial | None,
    loggers: Sequence[Logger],
) -> Observers:
    """Build the observers that the options ask for.

    `total` counts the nats of the training split in each epoch. `opening` holds the first
    characters of the text. `trial` is None unless the run is a trial of a search.

    Raises:
        UserError: the model cannot read a prefix of callbacks.samples.prefixes.
    """
    chosen, monitor, folder = options.callbacks, monitored(datamodule), run.directory
    csv = options.logger.csv
    steps_csv, metrics_csv = (folder / name if csv else None for name in (STEPS, METRICS))
    tensorboard = baseline = samples = None
    logger = next((one for one in loggers if isinstance(one, EventLogger)), None)
    if logger is not None:
        tensorboard = TensorBoardSummary(options.model_dump(), run, state, logger, model)
    if chosen.baseline.enabled and options.objective == "next":  # n-grams read from the left only
        baseline = Baseline(state, chosen.baseline)
    if chosen.samples.every_n_epochs or chosen.samples.steps:
        trained, path = trained_model(options, datamodule, model), folder / SAMPLES
        samples = Samples(state, trained, path, chosen.samples, opening, options.seed, logger)
    observers: list[Observer] = [Throughput(state), *(one for one in (baseline, samples) if one)]
    if chosen.smoothed_loss.enabled:
        observers.append(SmoothedLoss(state, steps_csv, chosen.smoothed_loss))
    if chosen.early_stopping.enabled:
        observers.append(EarlyStopping(state, monitor, chosen.early_stopping))
    observers.append(EpochLog(state, total, metrics_csv))
    if chosen.progress.enabled:
        observers.append(ProgressReport(state, total, options.trainer.max_steps))
    if tensorboard is not None:
        observers.append(tensorboard)
    if trial is not None:
        observers.append(Pruning(state, trial, monitor.partition("/")[0]))
    if chosen.checkpoint.enabled:
        every = chosen.checkpoint.every_n_steps
        observers.append(Checkpoints(run, state, monitor, every, interruption))
    return Observers(observers, tensorboard, baseline, samples)


def build_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    observers: list[Observer],
    loggers: Sequence[Logger],
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
        trainer = _make_trainer(options, datamodule, run, loggers, observers, rank, processes)
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
    batches = chosen.epoch_batches(available)
    unseen = (chosen.check_val_every_n_epoch - 1) * batches  # steps before the first validation
    if validates and chosen.max_steps is not None and chosen.max_steps <= unseen:
        raise UserError(
            f"trainer.max_steps={chosen.max_steps} ends the run before the epoch that "
            f"trainer.check_val_every_n_epoch={chosen.check_val_every_n_epoch} validates: nothing "
            "would be validated"
        )
    if validates and (chosen.val_check_interval or 0) > batches:
        raise UserError(
            f"trainer.val_check_interval={chosen.val_check_interval} is more than the {batches} "
            "steps of an epoch: lower it, or set it to null"
        )


@without_trainer_variables()
def _make_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    loggers: Sequence[Logger],
    observers: list[Observer],
    rank: int,
    processes: int,
) -> pl.Trainer:
    chosen, profiler = options.trainer, None
    if chosen.profiler is not None and rank == 0:
        profiler = PROFILERS[chosen.profiler](dirpath=run.directory, filename="profile")
    strategy: str | Strategy = "auto" if chosen.strategy in OWN_STRATEGIES else chosen.strategy
    not_passed_on = {"max_steps", "devices", "strategy", "profiler", "float32_matmul_precision"}
    return pl.Trainer(
        **chosen.model_dump(exclude=not_passed_on),
        devices=choose_devices(chosen.accelerator, chosen.devices, run),
        strategy=OrderedDDP() if processes > 1 else strategy,
        limit_val_batches=None if "val" in datamodule.splits else 0,
        profiler=profiler,
        logger=loggers,
        callbacks=[*observers, Moments(observers, chosen.max_steps)],
        plugins=[AtomicCheckpointIO(), SingleMachine(rank, processes)],
        default_root_dir=run.directory,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
    )
