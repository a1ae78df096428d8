"""Options that decide whether checkpoints compare."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lyricgen.data.options import DataOptions
from lyricgen.errors import UserError
from lyricgen.evaluation.scores import check_same_settings
from lyricgen.settings import (
    DECIDING,
    SPLITTING,
    complete,
    list_auto,
    replace_auto,
    restore_auto,
)


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


def test_a_whole_configuration_of_an_older_run_had_no_recipe() -> None:
    added = {"recipe": "none", "effort": "normal", "memory": {"kind": "none"}, "find_lr": False}
    assert complete({"seed": 1}) == {"seed": 1, **added}
    recorded = {"seed": 1, "recipe": "auto", "effort": "high", "memory": {"kind": "cache"}}
    assert complete(recorded) == {**recorded, "find_lr": False}
    assert "recipe" not in complete({"cell": {"kind": "gru"}})  # of a network


def test_a_group_within_a_group_is_completed() -> None:
    recorded = {"callbacks": {"checkpoint": {"enabled": True, "keep_best": 3}}}
    checkpoint = {"enabled": True, "keep_best": 3, "every_n_epochs": 1}
    assert complete(recorded)["callbacks"]["checkpoint"] == checkpoint
    chosen = {"logger": {"mlflow": {"uri": None}, "wandb": None}}
    assert complete(chosen) == chosen
    damaged = {"callbacks": {"checkpoint": None, "average": 3}}
    assert complete(damaged) == damaged


GAPS = {
    "seed": 1,
    "recipe": "auto",
    "name": "auto",
    "hidden_size": "auto",
    "data": {"kind": "text", "path": "auto", "batch_size": 4, "num_steps": "auto"},
    "cell": {"kind": "gru", "kernel": "auto"},
    "optimizer": {"kind": "sgd", "lr": 1.0},
    "trainer": {"accelerator": "auto", "max_steps": "auto"},
}


def test_settings_that_say_auto_are_filled_and_emptied_again() -> None:
    names = ["hidden_size", "data.num_steps", "cell.kernel", "trainer.max_steps"]
    assert list_auto(GAPS) == names
    known = {
        "name": "b",
        "hidden_size": 8,
        "data": {"path": "b", "batch_size": 9, "num_steps": 5},
        "optimizer": {"lr": 0.5, "weight_decay": 0.1},
        "trainer": {"accelerator": "gpu", "max_steps": None},
    }
    filled = replace_auto(GAPS, known)
    assert list_auto(filled) == ["cell.kernel"]
    assert filled == GAPS | {
        "hidden_size": 8,
        "data": {"kind": "text", "path": "auto", "batch_size": 4, "num_steps": 5},
        "trainer": {"accelerator": "auto", "max_steps": None},
    }
    assert restore_auto(filled, names) == GAPS
    assert restore_auto({"cell": {"kind": "rnn"}}, ["cell.kernel", "layers"]) == {
        "cell": {"kind": "rnn"}
    }


@pytest.mark.parametrize(
    ("unit", "carry_state", "expected"),
    [
        ("text", "auto", {"kind": "consecutive", "drop_last": False, "carry_state": True}),
        ("text", False, {"kind": "consecutive", "drop_last": False, "carry_state": False}),
        ("line", "auto", {"kind": "lines", "shuffle": "each_epoch", "seed": None}),
        ("document", True, {"kind": "lines", "carry_state": True}),
    ],
)
def test_the_sampler_follows_the_unit(
    unit: str, carry_state: object, expected: dict[str, object]
) -> None:
    sampler = {"kind": "auto", "drop_last": "auto", "carry_state": carry_state}
    values = {"data": {"kind": "text", "unit": "auto"}, "sampler": sampler}
    names = list_auto(values)
    filled = replace_auto(values, {"data.unit": unit})
    assert filled["sampler"].items() >= expected.items()
    assert restore_auto(filled, names) == values
    assert replace_auto(values, {"seed": 1}) == values  # the unit is not known yet


def test_a_setting_that_the_sampler_of_the_unit_lacks_is_refused() -> None:
    sampler = {"kind": "auto", "drop_last": True, "carry_state": "auto"}
    values = {"data": {"unit": "auto"}, "sampler": sampler}
    with pytest.raises(UserError, match=r"^sampler.drop_last: with data.unit=document the sampler"):
        replace_auto(values, {"data.unit": "document"})
