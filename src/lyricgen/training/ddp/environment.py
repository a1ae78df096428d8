"""How many processes a run has, and how Lightning gets to know of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from lyricgen.errors import UserError
from lyricgen.training import threads
from lyricgen.training.options import TrainerOptions

OURS = ("auto", "ddp")  # strategies
# launchers that start one process a task: the number of tasks, and what only such a process has
LAUNCHERS = {
    "torchrun": ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_TASKS"),
}


@contextmanager
def without_trainer_variables() -> Iterator[None]:
    """Hide PL_TRAINER_…, from which Lightning would take settings that the run does not record."""
    names = [name for name in os.environ if name.startswith("PL_TRAINER_")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


@without_trainer_variables()
def number_of_processes(chosen: TrainerOptions) -> int:
    """One for each device, as Lightning counts them.

    Raises:
        UserError: a strategy that several devices are not trained by.
    """
    probe = pl.Trainer(
        accelerator=chosen.accelerator,
        devices=chosen.devices,
        plugins=[SingleMachine(rank=0, processes=1)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    several = probe.num_devices > 1
    if chosen.strategy not in OURS and (several or chosen.strategy.startswith("ddp")):
        raise UserError(
            f"trainer.strategy={chosen.strategy}: choose trainer.strategy=ddp, which trains on any "
            "number of devices, in sweeps too"
        )
    return probe.num_devices


def refuse_other_launchers() -> None:
    """Check that no other launcher has started the processes of this run.

    Variables that an allocation sets, or that a launcher has left behind, mean nothing.

    Raises:
        UserError: torchrun or srun has; each would train alone, or start others in turn.
    """
    for launcher, (variable, sign) in LAUNCHERS.items():
        tasks = threads.number(variable) or 1
        if tasks > 1 and sign in os.environ:
            raise UserError(
                f"{launcher} has started {tasks} processes ({variable}={tasks}): start one, and "
                f"let it start the others by trainer=ddp trainer.devices={tasks}; if there is "
                f"only one, unset {sign}"
            )


class OrderedDDP(DDPStrategy):
    """Lightning's, which sums up gradients in the same order whenever it is asked to.

    torch's DistributedDataParallel orders them anew after the first step, by the time when they
    are ready. Three or more processes then round otherwise, so that a run which is resumed would
    not go on as if it had never stopped.
    """

    def configure_ddp(self) -> None:
        """Wrap the module, and fix the order."""
        super().configure_ddp()
        if self.world_size > 2 and isinstance(self.model, DistributedDataParallel):
            self.model.reducer._push_all_rebuilt_params()
            self.model.reducer._rebuild_buckets()


def keep_out_of_signals(trainer: pl.Trainer) -> None:
    """Signals are for `Interruption`, and all processes hear of them through `Checkpoints`.

    Lightning's handlers would end a run with status 0, save within a handler where Slurm may
    requeue it, and broadcast in the midst of whatever the processes are telling each other.
    """
    trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    pass


@dataclass
class SingleMachine(ClusterEnvironment):
    """Cluster environment of a run whose processes all run on one machine already."""

    rank: int  # of this process, from 0
    processes: int

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Where rank 0 is; not asked for, since the processes are connected before."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Not asked for either."""
        return 0

    @staticmethod
    def detect() -> bool:
        """Never found by itself."""
        return False

    def world_size(self) -> int:
        """Processes in all."""
        return self.processes

    def set_world_size(self, size: int) -> None:
        """Ignored: the number is fixed."""

    def global_rank(self) -> int:
        """Rank of this process."""
        return self.rank

    def set_global_rank(self, rank: int) -> None:
        """Ignored: the number is fixed."""

    def local_rank(self) -> int:
        """The same on the only machine."""
        return self.rank

    def node_rank(self) -> int:
        """The only machine."""
        return 0
