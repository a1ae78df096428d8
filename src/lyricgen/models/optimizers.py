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

# By the names in `optimizer=`. The options have the names of torch's arguments.
OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}


def build_optimizer(
    options: OptimizerOptions, parameters: Iterable[nn.Parameter], fused: bool
) -> optim.Optimizer:
    """Build an optimizer that applies weight decay to matrices, not to biases.

    Args:
        options: kind and settings.
        parameters: the parameters to optimize.
        fused: whether to use torch's fused step, if there is one. With it, Lightning cannot clip
            gradients in mixed precision.
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
    """Compute the factor of the learning rate at a step, counted from 0.

    It rises linearly during the warmup, then falls along half a cosine. It reaches `min_factor` at
    step `total_steps`, or just after a warmup that ends later.
    """
    warmup = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / (max(total_steps, warmup + 1) - warmup))
    wave = 0.5 * (1 + math.cos(math.pi * progress))
    return options.min_factor + (1 - options.min_factor) * wave


# Functions by the names in `scheduler=`. Each computes the factor of the learning rate from the
# options, the step, the steps of an epoch and the steps of the run.
FACTORS: dict[str, Callable[[Any, int, int, int], float]] = {"cosine": cosine_factor}


def build_scheduler(
    options: SchedulerOptions,
    optimizer: optim.Optimizer,
    monitor: str,
    epochs: int,
    steps_per_epoch: int,
    max_steps: int | None = None,
) -> dict[str, Any] | None:
    """Build Lightning's dictionary of a schedule; None for a constant learning rate.

    Args:
        options: kind and settings.
        optimizer: the optimizer whose learning rate is scheduled.
        monitor: name of the metric that shows a plateau.
        epochs: epochs of the run.
        steps_per_epoch: optimizer steps of an epoch.
        max_steps: most optimizer steps of the run; None sets no limit.
    """
    if isinstance(options, PlateauOptions):
        plateau = optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=options.factor, patience=options.patience, min_lr=options.min_lr
        )
        # Lightning never steps it: the module does so after each new value of the metric
        return {"scheduler": plateau, "monitor": monitor, "frequency": sys.maxsize}
    if options.kind == "none":
        return None
    factor, total = FACTORS[options.kind], min(epochs * steps_per_epoch, max_steps or sys.maxsize)
    schedule = optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factor(options, step, steps_per_epoch, total)
    )
    return {"scheduler": schedule, "interval": "step"}
