"""Options that decide whether checkpoints compare."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lyricgen.data.options import DataOptions
from lyricgen.errors import UserError
from lyricgen.evaluation.scores import check_same_settings
from lyricgen.settings import DECIDING, SPLITTING, complete


def test_all_options_of_the_text_decide_except_those_of_batches_and_size() -> None:
    """Batches are cut from the training split; max_bytes only refuses."""
    assert set(DECIDING) == set(DataOptions.model_fields) - {"batch_size", "num_steps", "max_bytes"}


@pytest.mark.parametrize("names", [DECIDING, SPLITTING])
@pytest.mark.parametrize("name", sorted(DataOptions.model_fields))
def test_each_deciding_option_is_reported(name: str, names: tuple[str, ...]) -> None:
    same: Any = dict.fromkeys(DataOptions.model_fields, "a")
    first: Any = SimpleNamespace(**same)
    other: Any = SimpleNamespace(**same | {name: "b"})
    if name not in names:
        check_same_settings(Path("x.ckpt"), first, other, names)
        return
    with pytest.raises(UserError, match=rf"'x.ckpt' has data.{name}=b, the first checkpoint a: "):
        check_same_settings(Path("x.ckpt"), first, other, names)


@pytest.mark.parametrize(
    ("cell", "kernel"), [("lstm", "torch"), ("gru", "torch"), ("lstm_coupled", "fused")]
)
def test_older_runs_had_one_kernel(cell: str, kernel: str) -> None:
    """An LSTM with coupled gates has always been one operation, the other cells torch's layers."""
    assert complete({"cell": {"kind": cell}})["cell"]["kernel"] == kernel
    recorded = {"cell": {"kind": cell, "kernel": "fused"}}
    assert complete(recorded) == recorded
