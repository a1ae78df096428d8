"""Every command of the README works as it stands there, one after the other in one folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lyricgen.runs.resume import EVENTS
from tests.conftest import ROOT, readme_commands, until
from tests.helpers.dashboards import showing

TRAIN = "python -m lyricgen.train"
DASHBOARD = "python -m lyricgen.dashboard"
TAKEN = r"from outputs/\S+: .* old\n"  # said where a command takes the newest run
PROGRESS = r".*: \d+ %\n"  # of what takes long


def in_two_epochs(command: str) -> str | None:
    """A command as it is run here, without pip; None for those that have tests of their own."""
    command = re.sub(r"^pip install .* && ", "", command)
    if command in ("pytest", DASHBOARD):
        return None
    if "lyricgen.train" in command and "--cfg" not in command:
        command = re.sub(r" trainer\.max_epochs=\d+", "", command) + " trainer.max_epochs=2"
    return command


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("readme")
    shutil.copy(ROOT / "README.md", directory)
    shutil.copy(ROOT / ".gitignore", directory)
    (directory / "outputs").mkdir()
    shutil.copy(ROOT / "outputs/.gitignore", directory / "outputs")
    yield directory


def _run(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",  # two threads spin while they wait for other tests
    }
    environment.pop("LYRICGEN_OUTPUTS", None)
    return subprocess.run(
        command,
        check=False,
        cwd=directory,
        env=environment,
        shell=True,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_all_commands_from_top_to_bottom(workplace: Path) -> None:
    commands = [one for one in map(in_two_epochs, readme_commands()) if one is not None]
    assert len(commands) > 20
    for command in commands:
        done = _run(command, workplace)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        names_a_run = "outputs/" in command or ".safetensors " in command
        takes_the_newest = "resume=latest" in command or (
            re.search(r"lyricgen\.(generate|evaluate|export)", command) and not names_a_run
        )
        expected = TAKEN if takes_the_newest else ""
        assert re.fullmatch(f"{expected}(?:{PROGRESS})*", done.stderr), f"{command}\n{done.stderr}"
        if "--cfg" in command:
            assert "label_smoothing" in done.stdout
        elif "lyricgen.train" in command:
            ends = ("best checkpoint", "is finished", "report.html")
            assert any(end in done.stdout for end in ends), command
        else:
            assert done.stdout.strip(), command
    _check_that_git_ignores_all(workplace)


def _check_that_git_ignores_all(workplace: Path) -> None:
    _run("git init --quiet", workplace)
    found = _run("git status --porcelain --untracked-files=all", workplace).stdout.split()
    assert found == ["??", ".gitignore", "??", "README.md", "??", "outputs/.gitignore"]


@pytest.mark.slow
def test_the_dashboard_shows_the_runs(workplace: Path) -> None:
    assert DASHBOARD in readme_commands()
    assert _run(f"{TRAIN} trainer.max_epochs=1 hidden_size=16", workplace).returncode == 0
    outputs = workplace / "outputs"
    runs = {str(path.parent.relative_to(outputs)) for path in outputs.rglob(EVENTS)}
    assert runs
    with showing(outputs) as board:
        until(lambda: set(board.get("runs")) == runs, 20)
        assert board.stop(signal.SIGTERM) == (0, "")


def test_the_readme_has_the_two_commands_of_the_start() -> None:
    """CI runs them as they stand, in a new environment."""
    commands = readme_commands()
    assert f"pip install -c constraints.txt -e . && {TRAIN}" in commands
    assert "pip install -c constraints.txt -e '.[dev]' && pytest" in commands


def test_pip_finds_what_the_readme_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = (ROOT / "README.md").read_text("utf-8")
    extras = set(re.findall(r"(?:lyricgen|\.)\[(\w+)\]", text))
    assert {"dev", "rhyme"} <= extras <= project["optional-dependencies"].keys()
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    names = {re.split(r"[<>=\[ ]", one)[0].lower() for one in project["dependencies"]}
    assert names <= {one.lower() for one in pinned}  # pip makes no difference


@pytest.mark.slow
def test_pytest_finds_the_tests() -> None:
    done = _run("pytest --collect-only --quiet tests/system/test_readme.py", ROOT)
    assert done.returncode == 0, done.stderr
    assert "test_pip_finds_what_the_readme_names" in done.stdout


def test_git_ignores_the_files_that_the_readme_names() -> None:
    options = r" --(?:out|png|heat|gates) (\S+)"
    files = {file for command in readme_commands() for file in re.findall(options, command)}
    assert {"lyrics.safetensors", "heat.html", "gates.png"} <= files
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "outputs/runs/x/summary.json", *files],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 128:
        pytest.skip("this is no checkout of git")
    assert set(done.stdout.split()) == {"outputs/runs/x/summary.json", *files}


def test_the_readme_links_to_what_is_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert "docs/tensorboard.png" in links
    assert [link for link in links if not (ROOT / link).is_file()] == []
