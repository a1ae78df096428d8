"""Stopping after a number of optimizer steps."""

from typing import Any

import pytorch_lightning as pl


class MaxSteps(pl.Callback):
    """Ends the run after N steps, with all that belongs to the end of an epoch.

    It stands before the callbacks that look whether a batch is the epoch's last. Lightning's own
    max_steps would leave the validation of that epoch out, and with it a run that is resumed at
    the end of an epoch goes through that end twice.

    Args:
        max_steps: N.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop again where the run is resumed after its last step."""
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.max_steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """End the epoch here, and the run; Lightning then validates, too."""
        if trainer.global_step >= self.max_steps:
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
            trainer.should_stop = True
