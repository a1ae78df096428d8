"""Precisions of training: which of them the CPU of this machine can do, tried on a tiny network."""

import logging
from typing import get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import Precision
from torch import nn

from lyricgen.errors import UserError, reason
from lyricgen.models.network import CharacterNetwork, recurrent
from lyricgen.models.options import RecurrentArchitecture
from lyricgen.training.ddp.environment import probe_trainer
from lyricgen.training.options import PrecisionName, TrainOptions

log = logging.getLogger(__name__)


def check_precision(options: TrainOptions, trainer: pl.Trainer, network: nn.Module) -> None:
    """Try the precision of a run on the CPU, which may have no instructions for it.

    Args:
        options: the whole configuration.
        trainer: of the run.
        network: of the run.

    Raises:
        UserError: the CPU cannot train such a network in it; the precisions that it can are named.
    """
    chosen = options.trainer.precision
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if not on_cpu or chosen == "32-true" or not isinstance(network, CharacterNetwork):
        return
    architecture = network.architecture
    why = _try(trainer.precision_plugin, architecture)
    if why is None:
        return
    others = [name for name in get_args(PrecisionName) if name not in (chosen, "16-mixed")]
    plugins = {
        name: probe_trainer(accelerator="cpu", precision=name).precision_plugin for name in others
    }
    works = [name for name, plugin in plugins.items() if _try(plugin, architecture) is None]
    raise UserError(
        f"trainer.precision={chosen}: this CPU cannot train cell={architecture.cell.kind} in it "
        f"({why.partition('. ')[0]}): choose one of {', '.join(works)}"
    )


def report_precision(precision: str, trainer: pl.Trainer) -> None:
    """Warn of a precision in whose place Lightning takes another one."""
    if precision == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        log.warning("trainer.precision=16-mixed: a CPU computes with bf16-mixed instead")


def _try(plugin: Precision, architecture: RecurrentArchitecture) -> str | None:
    """Train a tiny network of the same layers for one step; None if it works, else the reason."""
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
