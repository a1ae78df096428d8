"""Headings of models side by side."""

from pathlib import Path
from typing import Any

import pytest

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.generation.output import headings
from lyricgen.models.network import LanguageModel
from lyricgen.models.trained_model import TrainedModel
from tests.helpers.networks import architecture

NETWORK = LanguageModel(architecture("gru", vocabulary_size=2, start_symbol=False))


def model_of(options: dict[str, Any]) -> TrainedModel:
    return TrainedModel(NETWORK, Vocabulary("ab"), "stream", False, options)


def options_of(cell: str = "gru", **changed: Any) -> dict[str, Any]:
    """Some of the options of a run."""
    plain = {
        "name": "x", "seed": 1, "layers": 1, "cell": {"kind": cell, f"of_{cell}": True},
        "optimizer": {"kind": "adamw", "lr": 0.003}, "trainer": {"devices": 1, "max_epochs": 9},
        "model": {"kind": "recurrent", "dropout": None},
    }  # fmt: skip
    return plain | changed


A, B = "outputs/runs/2026-01-01/1_a/checkpoints/best.ckpt", "outputs/runs/2026-01-01/2_b"
LAST = A.replace("best", "last")


@pytest.mark.parametrize(
    ("paths", "options", "expected"),
    [
        ([A, B], [options_of(), options_of("lstm")], ["cell=gru", "cell=lstm"]),
        ([A, B], [options_of(), options_of(name="y", seed=2)], ["seed=1", "seed=2"]),
        ([A, B], [options_of(layers=2), options_of("lstm")],
         ["layers=2, cell=gru", "layers=1, cell=lstm"]),
        ([A, B], [options_of(), options_of(model={"kind": "recurrent", "dropout": 0.5})],
         ["model.dropout=null", "model.dropout=0.5"]),
        ([A, B], [options_of(callbacks={"average": {"decay": decay}, "progress": {"on": decay}})
                  for decay in (0.9, 0.98)],
         ["callbacks.average.decay=0.9", "callbacks.average.decay=0.98"]),
        ([A, B, A], [options_of(), options_of(seed=2), options_of()],
         ["seed=1, 1_a/checkpoints/best.ckpt, 1", "seed=2",
          "seed=1, 1_a/checkpoints/best.ckpt, 3"]),
        ([A, B], [options_of(), options_of(model={"kind": "ngram", "order": 5})],
         ["model=recurrent", "model=ngram"]),
        ([A, LAST], [options_of(), options_of()], ["best.ckpt", "last.ckpt"]),
        ([A, A], [options_of(), options_of()], ["1", "2"]),
        ([A, B], [options_of(), {}], ["1_a/checkpoints/best.ckpt", "2_b"]),
        (["a.safetensors", "b.safetensors"], [{}, {}], ["a.safetensors", "b.safetensors"]),
    ],
)  # fmt: skip
def test_headings_say_what_differs(
    paths: list[str], options: list[dict[str, Any]], expected: list[str]
) -> None:
    found = headings(list(map(Path, paths)), list(map(model_of, options)))
    assert found == expected
