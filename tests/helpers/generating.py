"""A short training, for tests that need a run."""

import sys
from pathlib import Path

import pytest

from lyricgen import train as train_command
from tests.conftest import TINY, newest_of


def train_run(place: Path, *overrides: str) -> Path:
    """Train for an epoch below `place`; return the run's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYRICGEN_OUTPUTS", str(place))
        command = ["lyricgen.train", *TINY, "trainer.max_epochs=1", *overrides]
        patch.setattr(sys, "argv", command)
        train_command.main()
    return newest_of(place)
