"""A trained run, and the refusal of the generate command."""

import sys
from pathlib import Path

import pytest

from lyricgen import train as train_command
from tests.conftest import TINY, Printed, messages, newest_of


def trained(place: Path, *overrides: str) -> Path:
    """Train for an epoch below `place` and give the run's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYRICGEN_OUTPUTS", str(place))
        command = ["lyricgen.train", *TINY, "trainer.max_epochs=1", *overrides]
        patch.setattr(sys, "argv", command)
        train_command.main()
    return newest_of(place)


def refusal(printed: Printed) -> str:
    assert printed.status == 2
    assert printed.out == ""
    [line] = messages(printed.err)
    assert line.startswith("error: ")
    return line
