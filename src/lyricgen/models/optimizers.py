"""Optimizers and learning-rate schedules."""

import inspect
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn, optim

from lyricgen.models.options import (
    CosineOptions,
    OptimizerOptions,
    PlateauOptions,
    SchedulerOptions,
)

# By the names that `optimizer=` has for them; their options have the names of torch's arguments.
OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}


def build_optimizer(
    options: OptimizerOptions, parameters: Iterable[nn.Parameter], fused: bool
) -> optim.Optimizer:
    """Make an optimizer that decays matrices and leaves biases alone.

    Args:
        options: which one.
        parameters: what it changes.
        fused: take torch's fused step; Lightning cannot clip it under mixed precision.
    """
    parameters = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    kind = OPTIMIZERS[options.kind]
    arguments = options.model_dump(exclude={"kind", "weight_decay"})
    if "fused" in inspect.signature(kind).parameters:
        arguments["fused"] = fused
    return kind(groups, **arguments)


def cosine_factor(
    options: CosineOptions, step: int, steps_per_epoch: int, total_steps: int
) -> float:
    """Warm up linearly, then fall along half a cosine."""
    warmup = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / (max(total_steps, warmup + 1) - warmup))
    wave = 0.5 * (1 + math.cos(math.pi * progress))
    return options.min_factor + (1 - options.min_factor) * wave


# Factor of the learning rate at a step, from the options, the step, the steps of an epoch and those
# of the run; by the names that `scheduler=` has for them.
FACTORS: dict[str, Callable[[Any, int, int, int], float]] = {"cosine": cosine_factor}


def build_scheduler(
    options: SchedulerOptions,
    optimizer: optim.Optimizer,
    monitor: str,
    epochs: int,
    steps_per_epoch: int,
    max_steps: int | None = None,
) -> dict[str, Any] | None:
    """Make Lightning's description of a schedule, or None for a constant learning rate.

    Args:
        options: which one.
        optimizer: whose learning rate it sets.
        monitor: the metric that a plateau is seen in.
        epochs: of the whole run.
        steps_per_epoch: optimizer steps.
        max_steps: of the whole run, where it may end before its epochs do.
    """
    if isinstance(options, PlateauOptions):
        plateau = optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=options.factor, patience=options.patience, min_lr=options.min_lr
        )
        # the module steps it when there is a new value of the metric
        return {"scheduler": plateau, "monitor": monitor, "frequency": sys.maxsize}
    if options.kind == "none":
        return None
    factor, total = FACTORS[options.kind], min(epochs * steps_per_epoch, max_steps or sys.maxsize)

    def at(step: int) -> float:
        return factor(options, step, steps_per_epoch, total)

    return {"scheduler": optim.lr_scheduler.LambdaLR(optimizer, at), "interval": "step"}
