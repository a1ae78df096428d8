"""Weights compared, and runs stopped by a signal."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lyricgen.training.recurrent_module import RecurrentModule


def weights(directory: Path | None, name: str = "last.ckpt") -> dict[str, Any]:
    assert directory is not None
    content = torch.load(directory / "checkpoints" / name, weights_only=True)
    state: dict[str, Any] = content["state_dict"]
    return state


def same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stop_at(
    monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None], hook: str = "batch"
) -> None:
    """Call `act` once, after a training step."""
    done = []
    original = RecurrentModule.on_train_batch_start

    def start(self: RecurrentModule, *arguments: Any) -> None:
        original(self, *arguments)
        if self.trainer.global_step == step and not done:
            done.append(step)
            act()

    monkeypatch.setattr(RecurrentModule, "on_train_batch_start", start)


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)
