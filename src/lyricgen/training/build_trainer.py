"""Build the observers and the Trainer, with loggers and plugins of its own."""

from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import (
    AdvancedProfiler,
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
from lyricgen.runs.directories import STEPS
from lyricgen.runs.interruption import Interruption
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState
from lyricgen.training.build import monitored, trained_model
from lyricgen.training.callbacks.baseline import Baseline
from lyricgen.training.callbacks.checkpoints import Checkpoints
from lyricgen.training.callbacks.figures import EpochLog, SmoothedLoss, Throughput
from lyricgen.training.callbacks.progress import ProgressReport
from lyricgen.training.callbacks.samples import Samples
from lyricgen.training.callbacks.stopping import EarlyStopping, Pruning, Trial
from lyricgen.training.ddp.environment import (
    OURS,
    SingleMachine,
    number_of_processes,
    without_trainer_variables,
)
from lyricgen.training.ddp.group import check
from lyricgen.training.hardware import choose_devices
from lyricgen.training.lightning_hooks import Moments, Observer, OrderedDDP, keep_out_of_signals
from lyricgen.training.loggers.tensorboard import EventLogger, TensorBoardSummary
from lyricgen.training.options import TrainOptions
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal, score_split


@dataclass(frozen=True)
class Observers:
    """Observers of a run, in the order in which they depend on each other.

    First those that make the figures of an epoch, then early stopping, then those that write
    figures, then what a search decides by them, and last what saves the run.
    """

    all: list[Observer]
    board: TensorBoardSummary | None
    baseline: Baseline | None
    samples: Samples | None


@dataclass
class Training:
    """Objects that take part in a run.

    Attributes:
        options: the whole configuration.
        datamodule: the corpus in batches.
        model: to train.
        state: of the run.
        observers: of the run.
        description: of text and model, in one line.
    """

    options: TrainOptions
    datamodule: CharacterDataModule
    model: Model
    state: RunState
    observers: Observers
    description: str

    @property
    def device(self) -> torch.device:
        """Device of the model in training."""
        return torch.device("cpu")

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""
        return 1

    def fit(self, checkpoint: Path | None) -> None:
        """Train, from the start or from a checkpoint; every process of a run calls it."""
        raise NotImplementedError

    def score(self, split: str, nats_room: Tensor | None = None) -> dict[str, float]:
        """Score a held-out split after training, as `score_split`; rank 0 alone calls it."""
        return score_split(self.model, self.datamodule, split, nats_room)


@dataclass
class NetworkTraining(Training):
    """Run of a network, which Lightning's Trainer trains."""

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
        settings = f"{self.state.text} {self.options.model_dump_json()}"
        check(number_of_processes(self.options.trainer), self.world_size, settings)
        self.trainer.fit(self.module, self.datamodule, ckpt_path=checkpoint, weights_only=True)

    @override
    def score(self, split: str, nats_room: Tensor | None = None) -> dict[str, float]:
        self.model.to(self.device)
        with self.trainer.precision_plugin.forward_context():
            figures = super().score(split, nats_room)
        self.model.cpu()
        return figures


def build_observers(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    model: Model,
    state: RunState,
    total: NatsTotal,
    opening: str,
    run: Run,
    interruption: Interruption,
    trial: Trial | None = None,
    logger: EventLogger | None = None,
) -> Observers:
    """Build the observers that the options ask for.

    Args:
        options: the whole configuration.
        datamodule: the corpus in batches.
        model: to train.
        state: of the run.
        total: nats of the training split in the epoch so far.
        opening: of the text.
        run: its directory.
        interruption: tells the run to stop.
        trial: of a search, if the run is one.
        logger: for TensorBoard, if wanted.
    """
    chosen, monitor, folder = options.callbacks, monitored(datamodule), run.directory
    steps, rows = (folder / STEPS, folder / "metrics.csv") if options.logger.csv else (None, None)
    board = baseline = samples = None
    if logger is not None:
        board = TensorBoardSummary(options.model_dump(), run, state, logger, model)
    if chosen.baseline.enabled and options.objective == "next":  # n-grams read from the left only
        baseline = Baseline(state, chosen.baseline)
    if chosen.samples.every_n_epochs or chosen.samples.steps:
        trained, path = trained_model(options, datamodule, model), folder / "samples.jsonl"
        samples = Samples(state, trained, path, chosen.samples, opening, options.seed, logger)
    observers: list[Observer] = [Throughput(state), *(one for one in (baseline, samples) if one)]
    if chosen.smoothed_loss.enabled:
        observers.append(SmoothedLoss(state, steps, chosen.smoothed_loss))
    if chosen.early_stopping.enabled:
        observers.append(EarlyStopping(state, monitor, chosen.early_stopping))
    observers.append(EpochLog(state, total, rows))
    if chosen.progress.enabled:
        observers.append(ProgressReport(state, total, options.trainer.max_steps))
    if trial is not None:
        observers.append(Pruning(state, trial, monitor.partition("/")[0]))
    if board is not None:
        observers.append(board)
    if chosen.checkpoint.enabled:
        every = chosen.checkpoint.every_n_steps
        observers.append(Checkpoints(run, state, monitor, every, interruption))
    return Observers(observers, board, baseline, samples)


def build_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    observers: list[Observer],
    logger: EventLogger | None = None,
    rank: int = 0,
) -> pl.Trainer:
    """Lightning's Trainer with lyricgen's loggers and plugins.

    Args:
        options: the whole configuration.
        datamodule: the corpus in batches.
        run: its directory.
        observers: in the order in which they depend on each other.
        logger: for TensorBoard, if wanted.
        rank: of this process, where several train; only the first one writes.

    Raises:
        UserError: Lightning refuses the options, or the batches cannot be shared.
    """
    # which Lightning has taken from RANK, SLURM_PROCID or the like
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision(options.trainer.float32_matmul_precision)
    chosen = options.trainer
    loggers: list[Logger] = [] if logger is None else [logger]
    callbacks = [*observers, Moments(observers, chosen.max_steps)]
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
    if options.data.batch_size < processes:
        raise UserError(
            f"data.batch_size={options.data.batch_size} is shared among trainer.devices="
            f"{chosen.devices}, a row each at least: raise it, or choose fewer devices"
        )
    return trainer


def _check_interval(options: TrainOptions, datamodule: CharacterDataModule) -> None:
    chosen = options.trainer
    batches = chosen.epoch_batches(len(datamodule.sampler))
    if batches == 0:
        raise UserError(
            f"trainer.limit_train_batches={chosen.limit_train_batches} leaves none of the "
            f"{len(datamodule.sampler)} batches of an epoch: raise it"
        )
    unseen = (chosen.check_val_every_n_epoch - 1) * batches  # steps before an epoch that validates
    if "val" in datamodule.splits and (chosen.max_steps or unseen + 1) <= unseen:
        raise UserError(
            f"trainer.max_steps={chosen.max_steps} ends the run before the epoch that "
            f"trainer.check_val_every_n_epoch={chosen.check_val_every_n_epoch} validates: nothing "
            "would be validated"
        )
    if "val" in datamodule.splits and (chosen.val_check_interval or 0) > batches:
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
    chosen, profiler = options.trainer, None
    if chosen.profiler is not None and place.rank == 0:
        kinds = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
        profiler = kinds[chosen.profiler](dirpath=run.directory, filename="profile")
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
        limit_val_batches=None if "val" in datamodule.splits else 0,
        check_val_every_n_epoch=chosen.check_val_every_n_epoch,
        val_check_interval=chosen.val_check_interval,
        deterministic=chosen.deterministic,
        profiler=profiler,
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), place],
        default_root_dir=run.directory,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_autolog_hparams=False,
    )
    keep_out_of_signals(trainer)
    return trainer
