"""Count the processes of a run, and describe them to Lightning."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from typing_extensions import override

from lyricgen import threads
from lyricgen.errors import UserError
from lyricgen.training.options import TrainerOptions

OWN_STRATEGIES = ("auto", "ddp")  # values of trainer.strategy that leave the choice to lyricgen
# of each launcher: the variable with the number of tasks, and a variable that only its processes
# have
LAUNCHERS = {
    "torchrun": ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_TASKS"),
}


@contextmanager
def without_trainer_variables() -> Iterator[None]:
    """Hide the variables PL_TRAINER_*, from which Lightning would read unrecorded settings."""
    names = [name for name in os.environ if name.startswith("PL_TRAINER_")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


@without_trainer_variables()
def probe_trainer(**options: Any) -> pl.Trainer:
    """Build a Trainer that only shows how Lightning reads the options.

    Raises:
        Exception: Lightning refuses the options.
    """
    return pl.Trainer(
        **options,
        plugins=[SingleMachine(rank=0, processes=1)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def number_of_processes(chosen: TrainerOptions) -> int:
    """Count the processes of a run: one for each device that Lightning would use.

    Raises:
        UserError: the strategy is a variant of ddp, or a run on several devices has a strategy
            other than auto and ddp.
        Exception: Lightning refuses the accelerator or the devices.
    """
    probe = probe_trainer(accelerator=chosen.accelerator, devices=chosen.devices)
    several = probe.num_devices > 1
    if chosen.strategy not in OWN_STRATEGIES and (several or chosen.strategy.startswith("ddp")):
        raise UserError(
            f"trainer.strategy={chosen.strategy}: choose trainer.strategy=ddp, which trains on any "
            "number of devices, in sweeps too"
        )
    return probe.num_devices


def refuse_other_launchers() -> None:
    """Refuse to run as one of several processes of torchrun or srun: each would train alone.

    WORLD_SIZE without torchrun, and Slurm's variables without srun, are no reason to refuse.

    Raises:
        UserError: torchrun or srun has started several processes.
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
    """Cluster environment of a run whose processes are all on this machine.

    Lightning does not use its address: `process_group` has connected the processes before.
    """

    rank: int  # rank of this process, from 0
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
