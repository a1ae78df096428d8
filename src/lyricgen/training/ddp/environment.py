"""How many processes a run has, and how Lightning gets to know of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from typing_extensions import override

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
def probe_trainer(**options: Any) -> pl.Trainer:
    """Make a Trainer that only tells what Lightning understands by options."""
    return pl.Trainer(
        **options,
        plugins=[SingleMachine(rank=0, processes=1)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def number_of_processes(chosen: TrainerOptions) -> int:
    """One for each device, as Lightning counts them.

    Raises:
        UserError: a strategy that several devices are not trained by.
    """
    probe = probe_trainer(accelerator=chosen.accelerator, devices=chosen.devices)
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


@dataclass
class SingleMachine(ClusterEnvironment):
    """Cluster environment of a run whose processes all run on one machine already.

    They are connected before Lightning could ask for an address.
    """

    rank: int  # of this process, from 0
    processes: int

    creates_processes_externally = True
    main_address = "127.0.0.1"
    main_port = 0

    @staticmethod
    @override
    def detect() -> bool:
        return False

    @override
    def world_size(self) -> int:
        return self.processes

    @override
    def set_world_size(self, size: int) -> None:
        pass

    @override
    def global_rank(self) -> int:
        return self.rank

    @override
    def set_global_rank(self, rank: int) -> None:
        pass

    @override
    def local_rank(self) -> int:
        return self.rank

    @override
    def node_rank(self) -> int:
        return 0
