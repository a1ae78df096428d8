"""A trainer that stands in for Lightning's."""

from types import SimpleNamespace

import torch

CPU = torch.device("cpu")


def stub_trainer() -> SimpleNamespace:
    """As much of a Trainer as the data module asks for."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=0))
    return SimpleNamespace(
        current_epoch=0,
        strategy=SimpleNamespace(root_device=CPU),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
