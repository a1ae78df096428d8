"""Optimizers and learning-rate schedules."""

import math
import sys
from collections.abc import Iterable
from typing import Any

from torch import nn, optim

from lyricgen.models.options import (
    CosineOptions,
    OptimizerOptions,
    PlateauOptions,
    SchedulerOptions,
    SgdOptions,
)


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
    if isinstance(options, SgdOptions):
        return optim.SGD(groups, lr=options.lr, momentum=options.momentum, fused=fused)
    kind: type[optim.Adam] = {"adam": optim.Adam, "adamw": optim.AdamW}[options.kind]
    return kind(groups, lr=options.lr, betas=options.betas, fused=fused)


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
    if isinstance(options, CosineOptions):
        warmup = round(options.warmup_epochs * steps_per_epoch)
        total = max(min(epochs * steps_per_epoch, max_steps or sys.maxsize), warmup + 1)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            progress = min(1.0, (step - warmup) / (total - warmup))
            wave = 0.5 * (1 + math.cos(math.pi * progress))
            return options.min_factor + (1 - options.min_factor) * wave

        cosine = optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"scheduler": cosine, "interval": "step"}
    return None
