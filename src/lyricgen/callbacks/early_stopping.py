"""Stopping when the monitored loss no longer falls, also across a resume."""

from typing import Any

import pytorch_lightning as pl


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's, which forgets on a resume that it has stopped the run already."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count, but keep the patience that was asked for now."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop again."""
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True
