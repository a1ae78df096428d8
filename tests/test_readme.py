"""Every command of the README works as it stands there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lyricgen.rewind import EVENTS
from tests.conftest import readme_commands, until
from tests.test_dashboard import showing

ROOT = Path(__file__).parents[1]
DASHBOARD = "python -m lyricgen.dashboard"
# Those that open a server, and those that CI runs from the README itself.
ELSEWHERE = ("pip install", DASHBOARD)


def _runnable() -> list[str]:
    return [command for command in readme_commands() if not command.startswith(ELSEWHERE)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with one small run, so that commands on the newest run find one."""
    directory = tmp_path_factory.mktemp("readme")
    shutil.copy(ROOT / "README.md", directory)
    small = "python -m lyricgen.train trainer.max_epochs=1 hidden_size=16"
    _run(small, directory)
    yield directory


def _run(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
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


def test_the_readme_has_the_two_commands_of_the_start() -> None:
    commands = readme_commands()
    assert "pip install -c constraints.txt -e . && python -m lyricgen.train" in commands
    assert "pip install -c constraints.txt -e '.[dev]' && pytest" in commands


@pytest.mark.slow
@pytest.mark.parametrize("command", _runnable())
def test_command(workplace: Path, command: str) -> None:
    if "lyricgen.train" in command and "max_epochs" not in command and "--cfg" not in command:
        command += " trainer.max_epochs=2"  # the same command, for two epochs
    done = _run(command, workplace)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if "lyricgen.train" in command and "--cfg" not in command:
        ends = ("best checkpoint", "is finished", "report.html")
        assert any(end in done.stdout for end in ends)
    elif "--cfg" in command:
        assert "label_smoothing" in done.stdout
    else:
        assert done.stdout.strip()


@pytest.mark.slow
def test_the_dashboard_shows_the_runs(workplace: Path) -> None:
    assert DASHBOARD in readme_commands()
    outputs = workplace / "outputs"
    runs = {str(path.parent.relative_to(outputs)) for path in outputs.rglob(EVENTS)}
    assert runs
    with showing(outputs) as board:
        until(lambda: set(board.get("runs")) == runs, 20)
        assert board.stop(signal.SIGTERM) == (0, "")


def test_the_readme_links_to_what_is_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert "docs/tensorboard.png" in links
    assert [link for link in links if not (ROOT / link).is_file()] == []
