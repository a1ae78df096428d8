"""The LightningModule that trains a network.

Shapes: B batch, T time steps, V vocabulary, H hidden, L layers.
"""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, optim
from typing_extensions import override

from lyricgen.data.batch import Batch, block, combine_seed, rank, world_size
from lyricgen.errors import UserError
from lyricgen.models.cells.cell import State
from lyricgen.models.model import Model
from lyricgen.runs.state import RunState
from lyricgen.training.ddp.group import gather_from_processes, sum_over_processes
from lyricgen.training.lightning_hooks import is_epoch_end, is_step_end
from lyricgen.training.options import Reduction
from lyricgen.training.totals import NatsTotal, add_batch, part_perplexities

# Distance between the seeds of two ranks: 2³² over the golden ratio. The seeds of a few ranks then
# differ for millions of steps, although torch's generator on the CPU takes only the lower 32 bits.
RANK_DISTANCE = 2_654_435_769
CHECK_EVERY = 50  # steps between two checks that the losses are finite

Schedule = Callable[[optim.Optimizer], dict[str, Any] | None]


class RecurrentModule(pl.LightningModule):
    """Trains a network by cross-entropy, and scores the validation split.

    Each batch continues from the detached recurrent state of the batch before, or from zeros if
    `batch.starts_stream`. Training and validation have separate states. The totals leave label
    smoothing out.

    A resumed run continues exactly: dropout depends only on the seed, the step, the batch's place
    in its step and the rank, and checkpoints hold the training state and the totals.

    Args:
        model: the network.
        optimizer: makes the optimizer from the parameters.
        schedule: makes Lightning's description of the learning-rate schedule, or None.
        label_smoothing: share of each target spread over the vocabulary (Szegedy et al. 2016).
        reduction: "mean" over each batch's characters, then over the batches of a step; or "sum"
            over the characters of a step, which gives long batches more weight.
        card: plain values that describe the network in a checkpoint.
        state: state of the run; checkpoints hold it, and `state.metrics` gets the figures.
        total: total of the training split in each epoch; the module fills it.
        seed: seed of dropout.
        batches: number of batches in a step of the optimizer.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Callable[[Any], optim.Optimizer],
        schedule: Schedule,
        label_smoothing: float,
        reduction: Reduction,
        card: dict[str, Any],
        state: RunState,
        total: NatsTotal,
        seed: int,
        batches: int = 1,
    ) -> None:
        super().__init__()
        self.model = model
        self.card = card
        self.run_state = state
        self.totals = {"train": total, "val": NatsTotal(total.vocabulary, model.metric_prefix)}
        self._parts: dict[str, NatsTotal] = {}  # of the validation split, of a mixed model
        self.label_smoothing = label_smoothing
        self.reduction: Reduction = reduction
        self._seed = seed
        self._batches = batches
        self._losses: list[Tensor] = []  # losses of the steps since the last check, summed in each
        self._optimizer = optimizer
        self._schedule = schedule
        self._training_state: State | None = None
        self._validation_state: State | None = None

    @override
    def on_train_start(self) -> None:
        run, total = self.run_state, self.totals["train"]
        carried = own_rows(run.carried)
        if carried is not None:
            self._training_state = tuple(part.to(self.device) for part in carried)
        total.nats, total.characters = own_total(run.nats), run.characters
        if run.raw_weights is not None:  # the resumed run no longer averages them
            for name, parameter in self.model.named_parameters():
                parameter.data.copy_(run.raw_weights[name])
            run.raw_weights = None

    @override
    def on_train_epoch_start(self) -> None:
        self.totals["train"].reset()
        self.run_state.metrics.clear()  # figures of the epoch before
        self.run_state.gradient_norm_total = None
        self.run_state.gradient_norms = 0

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # a seed for each batch, whatever was drawn before; torch.manual_seed takes 100 times longer
        number = self.trainer.global_step * self._batches + batch_idx % self._batches
        seed = combine_seed(self._seed, number) + rank() * RANK_DISTANCE
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of a batch: nats per character, or total nats with reduction=sum.

        With several processes, the loss is the mean of their results. With several batches in a
        step, the gradient is that of the mean of their results; so with reduction=sum the result is
        the total nats times the number of batches.
        """
        state = None if batch.starts_stream else self._training_state
        loss, nats, state = self.model.loss(batch, state, self.label_smoothing)
        self._training_state = tuple(part.detach() for part in state)
        self.totals["train"].add(nats, batch.num_characters, batch.targets)
        if self.reduction == "mean":
            loss = loss / batch.num_characters
        if batch_idx % self._batches and self._losses:
            self._losses[-1] = self._losses[-1] + loss.detach()
        else:
            self._losses.append(loss.detach())
        # Lightning averages the gradients of all processes and batches; the loss needs the sum of
        # the processes, and of the batches unless it is a mean
        parts = world_size() * (self._batches if self.reduction == "sum" else 1)
        return loss * parts if parts > 1 else loss

    @override
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if not is_step_end(self.trainer):
            return
        if len(self._losses) >= CHECK_EVERY or is_epoch_end(self.trainer):
            self.check_finite()

    def check_finite(self) -> None:
        """Check that the newest losses and the weights are finite; this waits for the device.

        All processes must call this method.

        Raises:
            UserError: a loss or a weight is not finite; the message names the step.
        """
        first = self.trainer.global_step - len(self._losses)  # steps before these losses
        losses = sum_over_processes(torch.stack(self._losses)).tolist() if self._losses else []
        self._losses.clear()
        for step, loss in enumerate(losses, start=first + 1):
            if not math.isfinite(loss):
                raise self._diverged(f"the training loss is {loss} at step {step}")
        norms = torch.stack([parameter.norm() for parameter in self.model.parameters()])
        if not bool(norms.isfinite().all()):
            raise self._diverged(f"the weights are not finite after step {first + len(losses)}")

    def _diverged(self, symptom: str) -> UserError:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        limit = self.trainer.gradient_clip_val
        clipping = (
            f"trainer.gradient_clip_val below {limit:g}"
            if limit
            else "clipping, as in trainer.gradient_clip_val=1"
        )
        return UserError(
            f"training diverged in epoch {self.trainer.current_epoch + 1}: {symptom}; start again, "
            f"with a lower optimizer.lr (the rate was {rate:g}) or with {clipping}"
        )

    # the module scores the batches itself: it keeps Lightning's hooks of a validation
    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        state = None if batch.starts_stream else self._validation_state
        nats, parts, self._validation_state = self.model.score_parts(batch, state)
        add_batch(self.totals["val"], self._parts, batch, nats, parts)
        return nats

    @override
    def on_validation_epoch_start(self) -> None:
        loader = self.trainer.datamodule.evaluation_loader("val")  # type: ignore[attr-defined]
        self.model.calibrate(loader, sum_over_processes)
        self.totals["val"].reset()
        self._parts.clear()

    @override
    def on_train_epoch_end(self) -> None:
        self.run_state.characters = self.totals["train"].characters
        self._record("train")

    @override
    def on_validation_epoch_end(self) -> None:
        self._record("val")
        self.run_state.metrics |= part_perplexities(self._parts, "val")

    def _record(self, split: str) -> None:
        """Add a split's figures to the metrics, and pass its loss to a schedule that monitors it.

        Raises:
            UserError: the loss is not finite.
        """
        self.run_state.metrics |= self.totals[split].figures(split)
        monitor = f"{split}/loss"
        loss = self.run_state.metrics.get(monitor, 0.0)
        if not math.isfinite(loss):
            raise self._diverged(f"{monitor} is {loss} at step {self.trainer.global_step}")
        if self.trainer.sanity_checking:  # before the first step, no schedule is asked
            return
        # Lightning would do it after the epoch's checkpoint, so a resumed run would lack it
        for config in self.trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor == monitor:
                config.scheduler.step(loss)  # type: ignore[arg-type]

    @override
    def configure_gradient_clipping(
        self,
        optimizer: optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        parameters = list(self.model.parameters())
        if gradient_clip_val and gradient_clip_algorithm == "norm":
            norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        else:
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        # summed without waiting for the device; the gradient scaler of 16-mixed skips steps whose
        # norm is not finite
        finite = norm.isfinite()
        norm = torch.where(finite, norm, 0.0)
        run = self.run_state
        total = run.gradient_norm_total
        run.gradient_norm_total = norm if total is None else total + norm
        run.gradient_norms = run.gradient_norms + finite

    @override
    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer(self.model.parameters())
        schedule = self._schedule(optimizer)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_finite()
        run, total = self.run_state, self.totals["train"]
        run.carried = whole_state(self._training_state)
        # of each process, since a sum alone would not let the run continue exactly
        run.nats = gather_from_processes(None if total.nats is None else float(total.nats))
        run.characters = total.characters
        checkpoint["lyricgen"] = self.card
        checkpoint["run"] = vars(run)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.run_state.restore(checkpoint)


def whole_state(own: State | None) -> State | None:
    """Gather the recurrent states of all processes, and join their rows: (L, B, H) on the CPU.

    The result is None if `own` is None.
    """
    if own is None:
        return None
    shares = gather_from_processes(tuple(part.cpu() for part in own))
    return tuple(torch.cat(rows, dim=1) for rows in zip(*shares, strict=True))


def own_rows(whole: State | None) -> State | None:
    """Select this process's rows from the recurrent state of all rows; None without a state."""
    if whole is None:
        return None
    rows = block(whole[0].shape[1], rank(), world_size())
    return tuple(part[:, rows].contiguous() for part in whole)


def own_total(totals: list[float | None]) -> Tensor | None:
    """Select this process's total, in float64; None if no process has one.

    If the number of processes has changed, rank 0 gets the sum, and the others get 0.
    """
    known = [total for total in totals if total is not None]
    if not known:
        return None
    own = totals[rank()] if len(totals) == world_size() else sum(known) if rank() == 0 else 0.0
    return torch.tensor(own, dtype=torch.float64)
