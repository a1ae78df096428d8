"""Choose kernels, and GPUs for the jobs of a sweep; check the precision of a run."""

import logging
import socket
from itertools import count
from pathlib import Path
from typing import get_args

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from pytorch_lightning.plugins.precision import Precision

from lyricgen.errors import UserError, reason
from lyricgen.models.network import CharacterNetwork, recurrent
from lyricgen.models.options import RecurrentArchitecture
from lyricgen.runs.run import Run
from lyricgen.training.ddp.environment import probe_trainer
from lyricgen.training.options import PrecisionName, TrainOptions

log = logging.getLogger(__name__)

FUSED_STEPS = 32  # fewest steps of a window for which the fused kernel is the faster one
GPU_LOCKS = ".devices"  # directory of locks in the directory of a sweep


def choose_kernel(options: TrainOptions) -> TrainOptions:
    """Replace cell.kernel=auto by the faster kernel.

    On a CPU the fused kernel trains rnn and gru faster than torch's layers if a row has
    `FUSED_STEPS` steps or more, and lstm no faster (docs/speed.md). lstm_coupled has no layer of
    torch.
    """
    if options.cell.kernel != "auto":
        return options
    trainer = options.trainer
    on_cpu = trainer.accelerator == "cpu" or (
        trainer.accelerator == "auto" and not torch.accelerator.is_available()
    )
    lines = options.sampler.kind == "lines" and options.data.unit == "line"
    long = not lines and options.data.num_steps >= FUSED_STEPS
    faster = on_cpu and long and trainer.precision in ("32-true", "64-true")
    fused = options.cell.kind in (("rnn", "gru", "lstm_coupled") if faster else ("lstm_coupled",))
    cell = options.cell.model_copy(update={"kernel": "fused" if fused else "torch"})
    return options.model_copy(update={"cell": cell})


class Slot:
    """Place on the GPU with the fewest jobs, kept until `release` or the end of this process.

    Args:
        directory: directory of lock files, shared by all jobs; created if need be.
        devices: number of GPUs of this machine.

    Attributes:
        device: index of the GPU.
    """

    def __init__(self, directory: Path, devices: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname()
        with FileLock(directory / f"{host}.lock"):  # one job at a time takes a place
            taken = [
                sum(_is_taken(path) for path in directory.glob(f"{host}_{device}_*.lock"))
                for device in range(devices)
            ]
            self.device = taken.index(min(taken))
            names = (f"{host}_{self.device}_{number}.lock" for number in count())
            self._lock = next(lock for name in names if (lock := _lock(directory / name)))

    def release(self) -> None:
        """Give up the place."""
        self._lock.release()


def _lock(path: Path) -> FileLock | None:
    """Lock a file; None if another process has locked it."""
    try:
        lock = FileLock(path, blocking=False)
        lock.acquire()
    except Timeout:
        return None
    return lock


def _is_taken(path: Path) -> bool:
    if lock := _lock(path):
        lock.release()
    return lock is None


def choose_devices(
    accelerator: str, devices: int | list[int] | str, run: Run
) -> int | list[int] | str:
    """Choose the devices for Lightning's Trainer; jobs of a sweep are spread over the GPUs.

    Args:
        accelerator: value of trainer.accelerator.
        devices: value of trainer.devices; a list with the index of a GPU may replace 1.
        run: the run, which keeps its place on the GPU until it ends.
    """
    gpus = torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 0
    if run.sweep is None or devices != 1 or gpus < 2:
        return devices
    slot = Slot(run.sweep / GPU_LOCKS, gpus)
    run.until_end.callback(slot.release)
    return [slot.device]


def check_precision(options: TrainOptions, trainer: pl.Trainer, network: CharacterNetwork) -> None:
    """Check that the CPU can train the network in the chosen precision; other devices always pass.

    Warn of a precision that Lightning replaces by another precision.

    Raises:
        UserError: a tiny network fails in this precision; the message names working precisions.
    """
    chosen = options.trainer.precision
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if not on_cpu or chosen == "32-true":
        return
    why = _try(trainer.precision_plugin, network.architecture)
    if why is None:
        if chosen == "16-mixed" and trainer.is_global_zero:
            log.warning("trainer.precision=16-mixed: a CPU computes with bf16-mixed instead")
        return
    alternatives = [name for name in get_args(PrecisionName) if name not in (chosen, "16-mixed")]
    plugins = {
        name: probe_trainer(accelerator="cpu", precision=name).precision_plugin
        for name in alternatives
    }
    works = [name for name, plugin in plugins.items() if _try(plugin, network.architecture) is None]
    raise UserError(
        f"trainer.precision={chosen}: this CPU cannot train "
        f"cell={network.architecture.cell.kind} with this precision ({why.partition('. ')[0]}): "
        f"choose one of {', '.join(works)}"
    )


def _try(plugin: Precision, architecture: RecurrentArchitecture) -> str | None:
    """Compute the gradients of a tiny network with the same cell, in the precision of `plugin`.

    Returns:
        Reason of the failure; None for success.
    """
    tiny = architecture.model_copy(
        update={
            "vocabulary_size": 4,
            "objective": "next",
            "hidden_size": 8,
            "layers": min(architecture.layers, 2),
            "model": architecture.model.model_copy(update={"embedding_size": None}),
        }
    )
    ids = torch.arange(6).reshape(2, 3) % 4  # (B, T)
    try:
        with torch.random.fork_rng(devices=[]):
            network = plugin.convert_module(recurrent(tiny))
            with plugin.forward_context():
                logits, _ = network(ids)
            logits.float().logsumexp(-1).sum().backward()
    except RuntimeError as error:
        return reason(error).removeprefix("RuntimeError: ")
    return None
