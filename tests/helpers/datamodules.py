"""A stand-in for Lightning's Trainer."""

from types import SimpleNamespace

import torch

CPU = torch.device("cpu")


def stub_trainer() -> SimpleNamespace:
    """Trainer with only the attributes that the data module reads."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=0))
    return SimpleNamespace(
        current_epoch=0,
        strategy=SimpleNamespace(root_device=CPU),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
