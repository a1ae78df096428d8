"""Where the figures of an epoch meet: what one callback records, the others read."""

import pytorch_lightning as pl
import torch


def record(trainer: pl.Trainer, figures: dict[str, float]) -> None:
    """Put figures among the epoch's metrics, which early stopping, checkpoints and logs read."""
    trainer.callback_metrics.update(
        {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}
    )
