"""CONTRIBUTING: every addition of the page is made in a copy of the tree and trains a model."""

import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.helpers.additions import PAGE, Addition, add, additions, copy_tree, run

KINDS = ["cell", "sampler", "corpus", "callback", "optimizer", "schedule", "logger", "experiment"]
ADDITIONS = additions()
SMALL = ["hidden_size=8", "data.max_chars=3000", "trainer.max_epochs=1", "trainer=cpu"]


class TrainedRun(NamedTuple):
    directory: Path
    summary: dict[str, Any]


def train_with(addition: Addition, directory: Path) -> TrainedRun:
    """Make an addition in a copy of the tree and run its commands there."""
    copy_tree(directory)
    add(addition, directory)
    statuses, text = run(addition.commands, SMALL, directory)
    assert statuses == [0] * len(addition.commands), text
    [path] = directory.glob("outputs/runs/*/*/summary.json")
    return TrainedRun(path.parent, json.loads(path.read_text("utf-8")))


def test_the_page_has_the_tour_the_rules_and_every_kind_of_addition() -> None:
    page = PAGE.read_text("utf-8")
    assert re.findall(r"^## (?:Add an? )?(.*)", page, re.M) == ["Where things are", "Rules", *KINDS]
    assert len(page[: page.index("## Add a")].splitlines()) <= 70  # one page
    assert set(ADDITIONS) == set(KINDS)
    for addition in ADDITIONS.values():
        assert addition.commands[-1].startswith("python -m lyricgen.train")
        assert any(path.startswith("conf/") for path in addition.files) or addition.changes


@pytest.mark.parametrize("kind", KINDS)
def test_every_addition_fits_the_tree(kind: str, tmp_path: Path) -> None:
    copy_tree(tmp_path)
    add(ADDITIONS[kind], tmp_path)
    for path in {*ADDITIONS[kind].files, *(path for path, _ in ADDITIONS[kind].changes)}:
        if path.endswith(".py"):
            compile((tmp_path / path).read_text("utf-8"), path, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_addition_trains(kind: str, tmp_path: Path) -> None:
    trained = train_with(ADDITIONS[kind], tmp_path)
    assert trained.summary["status"] == "finished"
    options = trained.summary["options"]
    found = {
        "cell": options["cell"]["kind"] == "irnn",
        "sampler": options["sampler"]["kind"] == "anywhere",
        "corpus": options["data"]["kind"] == "poems",
        "callback": "train/weight_norm" in _columns(trained.directory),
        "optimizer": options["optimizer"]["kind"] == "rmsprop",
        "schedule": options["scheduler"]["kind"] == "linear",
        "logger": "val/loss" in (trained.directory / "metrics.jsonl").read_text("utf-8")
        if kind == "logger"
        else False,
        "experiment": options["cell"]["kind"] == "gru",
    }
    assert found[kind]


@pytest.mark.slow
def test_a_logger_gets_the_figures_of_ngrams(tmp_path: Path) -> None:
    ngrams = ADDITIONS["logger"]._replace(
        commands=["python -m lyricgen.train logger=json_lines model=ngram"]
    )
    trained = train_with(ngrams, tmp_path)
    assert "val/loss" in (trained.directory / "metrics.jsonl").read_text("utf-8")


def _columns(directory: Path) -> list[str]:
    with (directory / "metrics.csv").open(encoding="utf-8") as stream:
        return next(csv.reader(stream))
