"""like=RUN: the settings of a recorded run for a new run or sweep."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lyricgen.cli.typed_arguments import expand
from lyricgen.settings import complete, flatten
from tests.conftest import ROOT, SMALL, Train, copy_run, summary_of

ARCHIVE = ROOT / "tests/fixtures/old_runs.tar.xz"


@pytest.fixture
def recorded(trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with settings of several groups, among them some that its recipe has filled."""
    monkeypatch.chdir(tmp_path)
    small = [one for one in SMALL if one != "recipe=none"]
    typed = ("cell=lstm", "cell.forget_bias=2", "optimizer=adamw", "optimizer.lr=0.01", "name=a,b")
    run = copy_run(trained(*small, *typed[:-1], "name='a,b'"))
    assert run.directory is not None
    return run.directory


def unpack(directory: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11.4 was the first with a filter
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(directory, **safely)


def change(directory: Path, group: str, **settings: Any) -> None:
    """Change recorded options, as if an earlier version had had other defaults."""
    summary = summary_of(directory)
    summary["options"][group] |= settings
    (directory / "summary.json").write_text(json.dumps(summary), "utf-8")


def typed(*arguments: str) -> list[str]:
    return expand(list(arguments))


def test_typed_settings_come_back_and_filled_ones_do_not(recorded: Path) -> None:
    small = [one for one in SMALL if one != "recipe=none"]
    chosen = ["cell=lstm", "cell.forget_bias=2", "optimizer=adamw", "optimizer.lr=0.01"]
    expected = [*small, *chosen, "name='a,b'"]
    assert typed(f"like={recorded}") == expected
    assert typed("like=latest") == expected
    assert typed("like=latest", "-m", "seed=1,2") == ["-m", *expected, "seed=1,2"]
    assert "model.dropout" in summary_of(recorded)["filled"]


def test_what_is_typed_wins(recorded: Path) -> None:
    now = typed(f"like={recorded}", "hidden_size=8", "cell=gru", "trainer=gpu", "depth=deep")
    names = [one.partition("=")[0] for one in now]
    assert now[-4:] == ["hidden_size=8", "cell=gru", "trainer=gpu", "depth=deep"]
    assert "cell.forget_bias" not in names  # which cell=gru does not have
    assert names.count("hidden_size") == names.count("cell") == names.count("trainer") == 1
    assert "trainer.max_epochs=2" in now
    Path("mine.txt").write_text("text", "utf-8")
    own = typed(f"like={recorded}", "mine.txt")
    assert ("data=text" in own, own[-1]) == (True, "data.path='mine.txt'")
    assert "data.batch_size=4" in own
    other = typed(f"like={recorded}", "data=dino")
    assert [one for one in other if one.startswith("data")] == ["data=dino"]


def test_a_default_that_has_changed_keeps_its_recorded_value(recorded: Path) -> None:
    before = typed(f"like={recorded}")
    change(recorded, "loss", reduction="sum")
    change(recorded, "data", encoding="it's, [odd] ${x}")
    change(recorded, "callbacks", samples={"prefixes": ["分开", "it's"], "length": 12})
    change(recorded, "memory", kind="cache", scope="line", size=7)
    added = [one for one in typed(f"like={recorded}") if one not in before]
    assert added == [
        "memory=cache",
        "loss.reduction=sum",
        "memory.size=7",
        "memory.scope=line",
        r"data.encoding='it\'s, [odd] \${x}'",
        r"callbacks.samples.prefixes=['分开','it\'s']",
    ]
    # another model may need other defaults
    plain = [one for one in before if not one.startswith("cell")]
    assert typed(f"like={recorded}", "cell=gru") == [*plain, "cell=gru"]
    assert not [one for one in typed(f"like={recorded}", "loss.reduction=mean") if "sum" in one]


def test_a_new_run_has_the_options_of_the_recorded_one(recorded: Path, train: Train) -> None:
    change(recorded, "loss", reduction="sum")
    change(recorded, "data", encoding="latin-1")
    again = train(f"like={recorded}", "data.encoding=utf-8")
    assert again.status == 0, again.err
    options = summary_of(recorded)["options"]
    options["data"]["encoding"] = "utf-8"
    assert again.summary["options"] == options
    assert sorted(again.summary["filled"]) == sorted(summary_of(recorded)["filled"])


@pytest.mark.parametrize("name", ["lstm", "mixture", "sweep/0_seed=1"])
def test_old_runs_and_jobs_of_sweeps_are_taken(tmp_path: Path, train: Train, name: str) -> None:
    unpack(tmp_path)
    old = tmp_path / "old_runs" / name
    new = train(f"like={old}", "trainer.max_epochs=1")
    assert new.status == 0, new.err
    before = flatten(complete(summary_of(old)["options"]))
    now = flatten(new.summary["options"])
    differing = {key for key in before if now.get(key) != before[key]}
    assert differing <= {"trainer.max_epochs", "data.batch_size"}
    assert new.directory is not None
    assert new.directory.parent.parent == tmp_path / "outputs/runs"


def test_a_sweep_is_repeated_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    unpack(tmp_path)
    again = typed("like=old_runs/sweep", "layers=2")
    assert again[0] == "--multirun"
    assert again[-2:] == ["seed=1,2", "layers=2"]
    assert not [one for one in again if "sweep.dir" in one]
