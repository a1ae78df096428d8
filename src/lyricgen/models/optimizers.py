"""Optimizers and learning-rate schedules."""

import inspect
import math
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim
from typing_extensions import override

from lyricgen.models.options import (
    CosineOptions,
    OptimizerOptions,
    PlateauOptions,
    SchedulerOptions,
)

# Coefficients a, b, c of the steps of `orthogonalize`: the first three steps of Amsel et al. 2025,
# "The Polar Express". They move singular values between 0.001 and 1 to between 0.1 and 1.9, which
# trains as well as values nearer to 1.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Move all singular values of a matrix towards 1, and keep its singular vectors.

    Each step replaces X by (a I + b A + c A²) X with A = X Xᵀ. The steps multiply these square
    factors, whose side is the shorter side of the matrix, and apply their product to X once.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T).mT
    wide = matrix / matrix.norm().clamp(min=1e-7)  # no singular value is above 1
    gram, factors = wide @ wide.T, list[Tensor]()
    for a, b, c in POLAR_EXPRESS:
        if factors:
            gram = factors[-1] @ gram @ factors[-1]
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        factors.append(factor)
    moved: Tensor = torch.linalg.multi_dot([*reversed(factors), wide])
    return moved


class Muon(optim.AdamW):
    """Muon for hidden matrices, and AdamW for all other parameters.

    The update of a hidden matrix is its gradient with Nesterov's momentum, orthogonalized. Its
    scale of 0.2 √(longer side) gives it the size of AdamW's updates, so that both share a learning
    rate and weight decay. Sources: Jordan et al. 2024; Liu et al. 2025 for the scale.

    torch.optim.Muon computes in bfloat16, which is slow on CPUs without such products.

    Args:
        params: groups of parameters; "hidden" in a group says whether it holds hidden matrices.
        lr: learning rate.
        momentum: decay of the average of a hidden matrix's gradients.
        betas: decays of AdamW's averages.
        fused: whether AdamW uses torch's fused step.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        fused: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, fused=fused)
        self.momentum = momentum

    @override
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:  # it computes and clips the gradients of all groups
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["hidden"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            for matrix in group["params"] if group["hidden"] else []:
                self._step_matrix(matrix, group["lr"], group["weight_decay"])
        return loss

    @torch.no_grad()
    def _step_matrix(self, matrix: Tensor, rate: float, decay: float) -> None:
        if matrix.grad is None:
            return
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
            state["step"] = torch.tensor(0.0)  # AdamW expects it when it loads a state
        average = state["momentum"]
        average.lerp_(matrix.grad, 1 - self.momentum)
        update = orthogonalize(matrix.grad.lerp(average, self.momentum))
        matrix.mul_(1 - rate * decay)
        matrix.add_(update, alpha=-0.2 * rate * math.sqrt(max(matrix.shape)))


# By the names in `optimizer=`. The options have the names of torch's arguments.
OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "muon": Muon,
}


def build_optimizer(
    options: OptimizerOptions,
    parameters: Iterable[nn.Parameter],
    fused: bool,
    hidden_matrices: Collection[nn.Parameter] = (),
) -> optim.Optimizer:
    """Build an optimizer that applies weight decay to matrices, not to biases.

    Args:
        options: kind and settings.
        parameters: the parameters to optimize.
        fused: whether to use torch's fused step, if there is one. With it, Lightning cannot clip
            gradients in mixed precision.
        hidden_matrices: parameters that `optimizer=muon` orthogonalizes.
    """
    kind = OPTIMIZERS[options.kind]
    hidden = list(hidden_matrices) if kind is Muon else []
    rest = [p for p in parameters if all(p is not matrix for matrix in hidden)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.dim() > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if kind is Muon:
        groups = [{**group, "hidden": False} for group in groups]
        groups.append({"params": hidden, "weight_decay": options.weight_decay, "hidden": True})
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
