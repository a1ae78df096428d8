"""The LightningModule: losses, carried state, optimizer and schedule around a language model.

B batch, T time steps, V vocabulary, N parameters.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, optim
from typing_extensions import override

from lyricgen.data.batch import IGNORED, Batch, block, rank, world_size
from lyricgen.errors import UserError
from lyricgen.models.cells.cell import State
from lyricgen.models.model import Model, exact
from lyricgen.runs.state import RunState
from lyricgen.training.ddp.collectives import gathered, summed
from lyricgen.training.lightning_hooks import ends_epoch
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
        state: of the run.
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
        state: RunState,
        seed: int,
    ) -> None:
        super().__init__(model, card, state)
        self.label_smoothing = label_smoothing
        self.reduction: Reduction = reduction
        self._seed = seed
        self._losses: list[Tensor] = []  # of the steps since `check_finite`
        self._optimizer = optimizer
        self._schedule = schedule
        self._training_state: State | None = None

    @override
    def on_train_start(self) -> None:
        run, total = self.run_state, self.totals["train"]
        carried = own_rows(run.carried)
        if carried is not None:
            self._training_state = tuple(part.to(self.device) for part in carried)
        total.nats, total.characters = own_total(run.nats), run.characters

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # the step's own seed, whatever was drawn before: 1.5 µs, a hundredth of torch.manual_seed
        seed = self._seed * 1_000_003 + self.trainer.global_step + rank() * APART
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch: nats per character, or total nats with reduction=sum.

        With several processes, the mean of their return values is this loss.
        """
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

    @override
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if len(self._losses) >= CHECKED or ends_epoch(self.trainer):
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

    @override
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.run_state.gradient_norm_total = None
        self.run_state.gradient_norms = 0

    @override
    def record(self, split: str) -> None:
        """Add a split's figures to the metrics; in training, lower a rate that waits for its loss.

        Raises:
            UserError: in training, the loss is not finite.
        """
        super().record(split)
        if self.trainer.state.fn != "fit":
            return
        monitor = f"{split}/loss"
        loss = self.run_state.metrics.get(monitor, 0.0)
        if not math.isfinite(loss):
            raise self.diverged(f"{monitor} is {loss} at step {self.trainer.global_step}")
        # by us, since Lightning would do it after the epoch's checkpoint and forget it on a resume
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
        # added up without waiting for the device; a step that the gradient scaler of 16-mixed skips
        # has no norm
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
        run.nats, run.characters = totals_of_all(total.nats), total.characters
        super().on_save_checkpoint(checkpoint)


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


def own_total(totals: list[float | None]) -> Tensor | None:
    """This process's total of each one's; of more or fewer processes, rank 0 takes it all."""
    known = [total for total in totals if total is not None]
    if not known:
        return None
    own = totals[rank()] if len(totals) == world_size() else sum(known) if rank() == 0 else 0.0
    return torch.tensor(own, dtype=torch.float64)
