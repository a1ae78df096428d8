"""The public functions that train, small and quiet, for the examples of pages and docstrings."""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import pytest

import lyricgen

# each function, with the number of arguments that stand before its settings
TRAINING = {"fit": 0, "fit_sweep": 1, "resume": 1}


def train_small(patch: pytest.MonkeyPatch, settings: Sequence[str]) -> None:
    """Let the functions print nothing, and all but `resume` take settings before their own."""
    for name, first in TRAINING.items():
        given = () if name == "resume" else settings
        patch.setattr(lyricgen, name, _quiet(getattr(lyricgen, name), first, given))


def _quiet(function: Callable[..., Any], first: int, settings: Sequence[str]) -> Callable[..., Any]:
    def train(*given: Any, **named: Any) -> Any:
        with redirect_stdout(io.StringIO()):
            return function(*given[:first], *settings, *given[first:], **named)

    return train
