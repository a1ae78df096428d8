"""The LightningModule: losses, carried state, optimizer and schedule around a language model.

B batch, T time steps, V vocabulary, N parameters.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, optim

from lyricgen.data.batch import IGNORED, Batch, block, rank, world_size
from lyricgen.errors import UserError
from lyricgen.models.cells.cell import State
from lyricgen.models.model import Model, exact
from lyricgen.training.ddp.collectives import gathered, summed
from lyricgen.training.options import Reduction
from lyricgen.training.scored_module import ScoredModule

# Between the seeds of two ranks: 2³² over the golden ratio, so that of any few ranks no two meet
# within millions of steps (of a seed torch's generator on the CPU takes the lower 32 bits).
APART = 2_654_435_769
CHECKED = 50  # steps after which a loss that is not finite has stopped training

Schedule = Callable[[optim.Optimizer], dict[str, Any] | None]


class RecurrentModule(ScoredModule):
    """Trains a language model by cross-entropy.

    The recurrent state belongs to a stream of characters: it is carried, detached, from batch to
    batch, and zeroed where a batch says that its stream starts. The totals count plain nats,
    whatever the label smoothing.

    What is random in a step, dropout, depends on the seed and the step alone, and a checkpoint
    carries the state and the totals: training goes on from one exactly.

    Args:
        model: the network.
        optimizer: makes the optimizer from the parameters.
        schedule: makes Lightning's description of the learning-rate schedule, or None.
        label_smoothing: share of each target spread over the vocabulary (Szegedy et al. 2016).
        reduction: whether the loss of a batch is the "mean" over its characters, or their "sum",
            which gives long batches more weight.
        card: plain values that a checkpoint carries to say what it holds.
        seed: of the dropout.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Callable[[Any], optim.Optimizer],
        schedule: Schedule,
        label_smoothing: float,
        reduction: Reduction,
        card: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__(model, card)
        self.label_smoothing = label_smoothing
        self.reduction: Reduction = reduction
        self.gradient_norm_total: Tensor | None = None
        self.gradient_norms: Tensor | int = 0  # how many it is the total of
        self._seed = seed
        self._losses: list[Tensor] = []  # of the steps since `check_finite`
        self._optimizer = optimizer
        self._schedule = schedule
        self._training_state: State | None = None

    def on_train_start(self) -> None:
        """Bring the state that a checkpoint held to the device."""
        if self._training_state is not None:
            self._training_state = tuple(part.to(self.device) for part in self._training_state)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step, whatever was drawn before it: 1.5 µs, a hundredth of torch.manual_seed."""
        del batch, batch_idx
        seed = self._seed * 1_000_003 + self.trainer.global_step + rank() * APART
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch, in nats per character, or in nats where it is summed.

        With several processes, the mean of what each returns for its rows is that loss.
        """
        del batch_idx
        state = None if batch.starts_stream else self._training_state
        logits, state = self.model.predict(batch, state)
        self._training_state = tuple(part.detach() for part in state)
        # one softmax serves the loss and the metric
        log_probabilities = F.log_softmax(exact(logits).flatten(0, 1), dim=-1)  # (B·T, V)
        targets = batch.targets.flatten()
        nats = F.nll_loss(log_probabilities, targets, ignore_index=IGNORED, reduction="sum")
        self.totals["train"].add(nats, batch.num_characters)
        loss = nats
        if self.label_smoothing:
            counted = (targets != IGNORED).to(log_probabilities.dtype)
            spread = -(log_probabilities.mean(-1) * counted).sum()
            loss = (1 - self.label_smoothing) * nats + self.label_smoothing * spread
        if self.reduction == "mean":
            loss = loss / batch.num_characters
        self._losses.append(loss.detach())
        # the gradients of all processes are averaged, and are to be summed
        return loss * world_size() if world_size() > 1 else loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Look from time to time whether training has diverged; looking waits for the device."""
        del outputs, batch, batch_idx
        if len(self._losses) >= CHECKED or self.trainer.is_last_batch:
            self.check_finite()

    def check_finite(self) -> None:
        """Look at the losses since the last look, and at the weights; waits for the device.

        Raises:
            UserError: one is not finite; it names the step.
        """
        first = self.trainer.global_step - len(self._losses)  # steps before these losses
        losses = summed(torch.stack(self._losses)).tolist() if self._losses else []
        self._losses.clear()
        for step, loss in enumerate(losses, start=first + 1):
            if not math.isfinite(loss):
                raise self.diverged(f"the training loss is {loss} at step {step}")
        norms = torch.stack([parameter.norm() for parameter in self.model.parameters()])
        if not bool(norms.isfinite().all()):
            raise self.diverged(f"the weights are not finite after step {first + len(losses)}")

    def diverged(self, what: str) -> UserError:
        """The error that says so and how to mend it."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        clipping = self.trainer.gradient_clip_val
        return UserError(
            f"training diverged in epoch {self.trainer.current_epoch + 1}: {what}; start again, "
            f"with a lower optimizer.lr (the rate was {rate:g}) or with "
            + (f"trainer.gradient_clip_val below {clipping:g}" if clipping else "")
            + ("" if clipping else "clipping, as in trainer.gradient_clip_val=1")
        )

    def on_train_epoch_start(self) -> None:
        """Begin the epoch's totals."""
        super().on_train_epoch_start()
        self.gradient_norm_total = None
        self.gradient_norms = 0

    def on_validation_epoch_end(self) -> None:
        """Lower the rate where the validation loss has stopped falling."""
        if self.trainer.state.fn == "fit":
            self._step_plateau("val/loss")

    def on_train_epoch_end(self) -> None:
        """Lower the rate where the training loss has stopped falling."""
        self._step_plateau("train/loss")

    def _step_plateau(self, monitor: str) -> None:
        # by us, since Lightning would do it after the epoch's checkpoint and forget it on a resume
        for config in self.trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor == monitor:
                config.scheduler.step(self.trainer.callback_metrics[monitor])  # type: ignore[arg-type]

    def configure_gradient_clipping(
        self,
        optimizer: optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the Trainer says, and add up the norms from before without waiting for them."""
        parameters = list(self.model.parameters())
        if gradient_clip_val and gradient_clip_algorithm == "norm":
            norm = torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)
        else:
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        # a step that the gradient scaler of 16-mixed skips has no norm
        finite = norm.isfinite()
        norm = torch.where(finite, norm, 0.0)
        total = self.gradient_norm_total
        self.gradient_norm_total = norm if total is None else total + norm
        self.gradient_norms = self.gradient_norms + finite

    def configure_optimizers(self) -> Any:
        """The optimizer and, where there is one, its schedule."""
        optimizer = self._optimizer(self.model.parameters())
        schedule = self._schedule(optimizer)
        return (
            optimizer
            if schedule is None
            else {
                "optimizer": optimizer,
                "lr_scheduler": schedule,
            }
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint holds, and what the epoch has come to."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["epoch_so_far"] = {
            "state": whole_state(self._training_state),
            "nats": totals_of_all(self.totals["train"].nats),
            "characters": self.totals["train"].characters,
            "gradient_norm_total": self.gradient_norm_total,
            "gradient_norms": self.gradient_norms,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the epoch where it was."""
        epoch = checkpoint["epoch_so_far"]
        self._training_state = own_rows(epoch["state"])
        self.totals["train"].nats = own_total(epoch["nats"])
        self.totals["train"].characters = epoch["characters"]
        self.gradient_norm_total = epoch["gradient_norm_total"]
        self.gradient_norms = epoch["gradient_norms"]


def whole_state(own: State | None) -> State | None:
    """The state of all rows, (L, B, H) tensors on the CPU, from that of each process's rows."""
    if own is None:
        return None
    shares = gathered(tuple(part.cpu() for part in own))
    return tuple(torch.cat(rows, dim=1) for rows in zip(*shares, strict=True))


def own_rows(whole: State | None) -> State | None:
    """The state of this process's rows, from that of all, however many processes had them."""
    if whole is None:
        return None
    rows = block(whole[0].shape[1], rank(), world_size())
    return tuple(part[:, rows].contiguous() for part in whole)


def totals_of_all(own: Tensor | None) -> list[float | None]:
    """Totals of each process: resumed from their sum, a run would end in other digits."""
    return gathered(None if own is None else float(own))


def own_total(totals: list[float | None] | Tensor | None) -> Tensor | None:
    """This process's total; where there were more or fewer of them, rank 0 takes it all.

    Args:
        totals: of each process; a tensor or None from checkpoints that know of one only.
    """
    if totals is None or isinstance(totals, Tensor):
        totals = [None if totals is None else float(totals)]
    known = [total for total in totals if total is not None]
    if not known:
        return None
    own = totals[rank()] if len(totals) == world_size() else sum(known) if rank() == 0 else 0.0
    return torch.tensor(own, dtype=torch.float64)
