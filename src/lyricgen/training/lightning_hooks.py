"""Moments at which observers act, and all access to private parts of Lightning and torch.

Lightning calls each hook first on the callbacks, then on the module (but on_load_checkpoint first
on the module), in this order:

    on_load_checkpoint (of a resumed run), on_fit_start
    a first validation, if the model predicts well already                → after_validation, too
    on_train_start
    for each epoch:
        on_train_epoch_start
        for each batch:
            on_train_batch_start, training_step, on_train_batch_end
            if the batch ends a step of the optimizer                     → after_step
            if a validation is due:
                on_validation_start                                       → before_validation
                its batches, on_validation_epoch_end, on_validation_end   → after_scoring
                within an epoch                                           → after_validation
        on_train_epoch_end                                                → after_epoch
    on_train_end

A step has `trainer.accumulate_grad_batches` batches; the last step of an epoch may have fewer.

A validation at the end of an epoch belongs to after_epoch, not to after_validation. If early
stopping ends the run at a validation within an epoch, that epoch has no after_epoch.
"""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override


class Observer(pl.Callback):
    """Callback that acts after steps, validations and epochs; it may use Lightning's hooks, too.

    For an n-gram model, `trainer` is a `fitting.Counting`, which has some attributes of a Trainer.
    """

    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        """Act after a step.

        `outputs["loss"]` is the result of `training_step` in this process, or the mean of its
        results for the batches of the step. `outputs` is None for an n-gram model.
        """

    def before_validation(self, trainer: pl.Trainer) -> None:
        """Act before a validation: before the first step, within an epoch or at its end."""

    def after_scoring(self, trainer: pl.Trainer) -> None:
        """Act when a validation has added its figures to the metrics, before others read them."""

    def after_validation(self, trainer: pl.Trainer) -> None:
        """Act after a validation before the first step or within an epoch."""

    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        """Act after an epoch; `validated` tells whether it ended with a validation."""


class Moments(pl.callbacks.Checkpoint):
    """Calls the observers in the order of their list, and ends the run after `max_steps` steps.

    It is a `Checkpoint`, since Lightning calls a `Checkpoint` after all other callbacks and, at the
    end of an epoch, after the module. Step `max_steps` also ends its epoch. Lightning's own
    max_steps would skip the validation of that epoch, and a resumed run would repeat its end.
    """

    def __init__(self, observers: Sequence[Observer], max_steps: int | None = None) -> None:
        self._observers = observers
        self._max_steps = max_steps
        self._validated_step = -1
        self._losses: list[torch.Tensor] = []  # of the step's batches, if it has several

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_over(trainer):  # the run is resumed after its last step
            trainer.should_stop = True

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        batches = trainer.accumulate_grad_batches
        if batches > 1:
            self._losses.append(outputs["loss"])  # which Lightning has divided by `batches`
            if not is_step_end(trainer):
                return
            outputs = {"loss": torch.stack(self._losses).mean() * batches}
            self._losses.clear()
        if self._is_over(trainer):
            end_epoch(trainer)
        for observer in self._observers:
            observer.after_step(trainer, outputs)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for observer in self._observers:
            observer.before_validation(trainer)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated_step = trainer.global_step
        for observer in self._observers:
            observer.after_scoring(trainer)
        if not is_epoch_end(trainer):
            for observer in self._observers:
                observer.after_validation(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if is_epoch_end(trainer):
            validated = self._validated_step == trainer.global_step
            for observer in self._observers:
                observer.after_epoch(trainer, validated=validated)

    def _is_over(self, trainer: pl.Trainer) -> bool:
        return self._max_steps is not None and trainer.global_step >= self._max_steps


def epoch_number(trainer: pl.Trainer) -> int:
    """Return the number of the current epoch, from 1; 0 before the first step."""
    return trainer.current_epoch + 1 if trainer.global_step else 0


def steps_per_epoch(trainer: pl.Trainer) -> int:
    """Count the steps of an epoch."""
    return -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)


def is_step_end(trainer: pl.Trainer) -> bool:
    """Whether the newest batch is the last batch of its step."""
    return not trainer.fit_loop._should_accumulate()


def end_epoch(trainer: pl.Trainer) -> None:
    """End the run after the newest step, which then ends its epoch; Lightning validates, too."""
    trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
    trainer.should_stop = True


def is_epoch_end(trainer: pl.Trainer) -> bool:
    """Whether the newest step is the last step of its epoch."""
    return trainer.is_last_batch


def is_exact_point(trainer: pl.Trainer) -> bool:
    """Whether a run can be resumed exactly after the newest batch.

    It cannot within a step, whose gradients are not saved. It cannot if a validation or the end of
    the epoch comes next, which the resumed run would skip.
    """
    if is_epoch_end(trainer) or not is_step_end(trainer):
        return False
    loop = trainer.fit_loop.epoch_loop
    # this method of Lightning respects intervals, limits and epochs without validation
    follows = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
    return not follows


def keep_out_of_signals(trainer: pl.Trainer) -> None:
    """Stop Lightning from handling signals; `Interruption` handles them.

    Lightning would end a run with status 0. Under Slurm it could save in the middle of a step. Its
    broadcasts would disturb other messages between the processes.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


class OrderedDDP(DDPStrategy):
    """DDP strategy that sums gradients in a fixed order.

    After the first step, torch would sum them in the order in which they are ready. With three or
    more processes the sums would round differently, and a resumed run would not continue exactly.
    """

    @override
    def configure_ddp(self) -> None:
        super().configure_ddp()
        if self.world_size > 2 and isinstance(self.model, DistributedDataParallel):
            self.model.reducer._push_all_rebuilt_params()
            self.model.reducer._rebuild_buckets()
