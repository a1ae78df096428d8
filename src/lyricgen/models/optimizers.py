"""Optimizers and learning-rate schedules."""

import math
import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn, optim

from lyricgen.options import Options

Beta = Annotated[float, Field(ge=0, lt=1)]


class SgdOptions(Options):
    """Options of `optimizer=sgd`."""

    kind: Literal["sgd"]
    lr: PositiveFloat
    momentum: Beta
    weight_decay: NonNegativeFloat


class AdamOptions(Options):
    """Options of `optimizer=adam` (Kingma & Ba 2015) and `adamw` (Loshchilov & Hutter 2019)."""

    kind: Literal["adam", "adamw"]
    lr: PositiveFloat
    betas: tuple[Beta, Beta] = Field(strict=False)  # YAML knows lists only
    weight_decay: NonNegativeFloat


OptimizerOptions = Annotated[SgdOptions | AdamOptions, Field(discriminator="kind")]


class ConstantOptions(Options):
    """Options of `scheduler=none`."""

    kind: Literal["none"]


class PlateauOptions(Options):
    """Options of `scheduler=plateau`."""

    kind: Literal["plateau"]
    factor: float = Field(gt=0, lt=1)
    patience: NonNegativeInt
    min_lr: NonNegativeFloat


class CosineOptions(Options):
    """Options of `scheduler=cosine`."""

    kind: Literal["cosine"]
    warmup_epochs: NonNegativeFloat
    min_factor: float = Field(ge=0, le=1)


SchedulerOptions = Annotated[
    ConstantOptions | PlateauOptions | CosineOptions, Field(discriminator="kind")
]


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
