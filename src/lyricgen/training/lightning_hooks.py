"""Lightning's hooks as three moments, and the private parts of Lightning and torch.

Lightning calls the hooks of a training in this order, each first on the callbacks, then on the
module:

    on_load_checkpoint (of a resumed run), on_fit_start, on_train_start
    for each epoch:
        on_train_epoch_start
        for each batch:
            on_train_batch_start, training_step, on_train_batch_end       → after_step
            where a validation is due: on_validation_start, its batches,
                on_validation_epoch_end, on_validation_end                → after_validation
        on_train_epoch_end                                                → after_epoch
    on_train_end

The validation at the end of an epoch comes before `on_train_epoch_end`: it belongs to after_epoch.
If early stopping ends the run at a validation within an epoch, this epoch has no after_epoch.
"""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override


class Observer(pl.Callback):
    """Callback that observes the moments of a training, and Lightning's other hooks if need be.

    Each moment calls the observers in the order of their list. Where n-grams are counted, `trainer`
    is a `counting.Counting`, which has the attributes of a Trainer that its class lists.
    """

    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        """Act after a step.

        `outputs["loss"]` is the result of `training_step` in this process; `outputs` is None where
        n-grams are counted.
        """

    def after_validation(self, trainer: pl.Trainer) -> None:
        """Act after a validation within an epoch."""

    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        """Act after an epoch; `validated` says whether a validation followed its last step."""


class Moments(pl.callbacks.Checkpoint):
    """Calls the observers at each moment, and ends the run after a number of steps.

    Lightning calls a `Checkpoint` after all other callbacks, and at the end of an epoch after the
    module, too. After `max_steps` the run ends as at the end of an epoch. Lightning's max_steps
    would leave out the validation of that epoch, and would repeat the end of an epoch in a run that
    is resumed there.
    """

    def __init__(self, observers: Sequence[Observer], max_steps: int | None = None) -> None:
        self._observers = observers
        self._max_steps = max_steps
        self._validated_step = -1

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
        if self._is_over(trainer):
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
            trainer.should_stop = True  # Lightning then validates, too
        for observer in self._observers:
            observer.after_step(trainer, outputs)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        self._validated_step = trainer.global_step
        if not ends_epoch(trainer):
            for observer in self._observers:
                observer.after_validation(trainer)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if ends_epoch(trainer):
            validated = self._validated_step == trainer.global_step
            for observer in self._observers:
                observer.after_epoch(trainer, validated=validated)

    def _is_over(self, trainer: pl.Trainer) -> bool:
        return self._max_steps is not None and trainer.global_step >= self._max_steps


def ends_epoch(trainer: pl.Trainer) -> bool:
    """Whether the step just made is the last of its epoch."""
    return trainer.is_last_batch


def is_exact_point(trainer: pl.Trainer) -> bool:
    """Whether neither a validation nor the end of the epoch follows the step just made.

    Lightning would skip these in a run that is resumed from a point before them.
    """
    if ends_epoch(trainer):
        return False
    loop = trainer.fit_loop.epoch_loop
    # Lightning's answer knows of intervals, limits and epochs without validation
    follows = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
    return not follows


def keep_out_of_signals(trainer: pl.Trainer) -> None:
    """Leave signals to `Interruption`; `Checkpoints` passes them to all processes.

    Lightning's handlers would end a run with status 0, save within a handler if Slurm may requeue
    it, and broadcast in the middle of other messages between the processes.
    """
    trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    pass


class OrderedDDP(DDPStrategy):
    """Lightning's strategy, with gradients summed in a fixed order.

    After the first step torch would change to the order in which gradients are ready. Three or more
    processes would then round differently, so a resumed run would not continue exactly.
    """

    @override
    def configure_ddp(self) -> None:
        super().configure_ddp()
        if self.world_size > 2 and isinstance(self.model, DistributedDataParallel):
            self.model.reducer._push_all_rebuilt_params()
            self.model.reducer._rebuild_buckets()
