"""Hydra's own options, and commands whose output has lost its reader."""

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lyricgen import dashboard, evaluate, export, generate, report, train
from lyricgen.cli.typed_arguments import expand
from tests.conftest import SMALL, Train


@pytest.mark.parametrize("kind", ["hydra", "all", "job"])
@pytest.mark.parametrize("resolve", [[], ["--resolve"]])
def test_a_configuration_is_shown_and_nothing_is_made(
    train: Train, tmp_path: Path, kind: str, resolve: list[str]
) -> None:
    done = train("--cfg", kind, *resolve, "cell=gru", "recipe=none")
    assert (done.status, done.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    shown = yaml.safe_load(done.out)
    assert ("hydra" in shown, "cell" in shown) == (kind != "job", kind != "hydra")
    assert ("${" in done.out) == (not resolve)
    if resolve and kind != "job":
        assert shown["hydra"]["run"]["dir"].endswith("_lyrics_gru_1x256")


def test_a_part_of_hydras_configuration_is_shown(train: Train) -> None:
    done = train("--cfg", "hydra", "--resolve", "--package", "hydra.run", "name=mine")
    assert (done.status, done.err) == (0, "")
    assert yaml.safe_load(done.out)["dir"].endswith("_mine")


def test_a_record_given_as_configuration_shows_how_to_repeat_the_run(train: Train) -> None:
    first = train(*SMALL, "trainer.max_epochs=1", "name=it's (1)")
    assert first.directory is not None
    for option in ("--config-path", "--config-dir"):
        refused = train(option, f"{first.directory}/.hydra", "--config-name", "config")
        assert refused.status == 2
        [line] = refused.err.splitlines()
        assert option in line
        assert shlex.split(line.rpartition(" type ")[2]) == [f"resume={first.directory}"]
    _, *words = shlex.split(line.partition("to repeat the run type ")[2].partition("; to go")[0])
    assert words[:2] == ["-m", "lyricgen.train"]
    again = train(*words[2:])
    assert again.status == 0, again.err
    assert again.summary["options"] == first.summary["options"]
    assert again.summary["train/loss"] == first.summary["train/loss"]


@pytest.fixture
def closed_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """Standard output is a pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    yield stream
    stream.close()  # fails if unwritten output is left


SHOWING = [
    *([command, "--help"] for command in (dashboard, evaluate, export, generate, report, train)),
    *([train, *options] for options in (["--hydra-help"], ["--info"], ["--info=defaults-tree"],
                                        ["--cfg=job"], ["--cfg=all", "--resolve"])),
]  # fmt: skip


@pytest.mark.parametrize("case", SHOWING, ids=lambda case: " ".join(map(str, case[1:])))
def test_a_reader_that_leaves_ends_a_command_quietly(
    case: list[Any],
    closed_output: io.TextIOWrapper,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    command, *options = case
    monkeypatch.setattr(sys, "argv", [command.__name__, *options])
    status = 0
    try:
        command.main() if command is train else command.main(options)
    except SystemExit as stop:
        status = int(stop.code or 0)
    closed_output.flush()  # the interpreter flushes at its end
    assert status == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("option", ["--help", "--cfg=job"])
def test_an_output_that_cannot_be_written_is_one_line(option: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lyricgen.train", option],
            check=False, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


def test_a_mistake_keeps_its_status_without_a_reader(
    closed_output: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", closed_output)
    for arguments in (["--nope"], ["nowhere"]):
        with pytest.raises(SystemExit) as stop:
            report.main(arguments)
        assert stop.value.code == 2


def test_warnings_of_matplotlib_about_its_cache_are_hidden(tmp_path: Path) -> None:
    program = "import logging; logging.basicConfig(); {}; import matplotlib as m; m.get_cachedir()"
    environment = {**os.environ, "MPLCONFIGDIR": "/proc/nowhere", "TMPDIR": str(tmp_path)}
    outputs = {}
    for before in ("pass", "import lyricgen.train", "from lyricgen.console import *;"
                   "prepare_streams()"):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", program.format(before)],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        outputs[before] = done.stderr
    loud, *quiet = outputs.values()
    assert "cache directory" in loud
    assert quiet == ["", ""]


def test_garbage_is_collected_after_the_imports(tmp_path: Path) -> None:
    program = (
        "import gc, runpy, sys; sys.argv = ['train', '--cfg=job']; "
        "runpy.run_module('lyricgen.train', run_name='__main__'); "
        "print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.endswith("\nTrue True\n")


def test_no_arguments_start_a_new_run() -> None:
    assert expand([]) == []
