"""Completion by the tab key in bash, and the command lyricgen."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from lyricgen import generate
from lyricgen.cli.named_runs import complete_words, list_references
from tests.conftest import ROOT

# the function that pip writes for an entry of [project.scripts]
SCRIPT = """#!{python}
import sys
from lyricgen.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""
# completes the command line $1 by the function that bash calls, and prints its words
COMPLETE = """
COMP_LINE=$1 COMP_POINT=${#1}
read -ra COMP_WORDS <<<"$1"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
declare -F | grep -q hydra_bash_completion
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables of a shell that finds the command; the outputs hold three runs."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "bin/lyricgen"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(python=sys.executable), "utf-8")
    script.chmod(0o755)
    for second, name in enumerate(("songs", "sonnets", "$(touch hacked) `touch hacked`")):
        run = tmp_path / f"outputs/runs/2026-01-02/10-00-0{second}.000000_{name}"
        run.mkdir(parents=True)
        (run / "summary.json").write_text('{"status": "finished"}', "utf-8")
    return {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}


def bash(program: str, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        ["bash", "-c", program, "bash", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_bash_completes_commands_options_settings_and_runs(environment: dict[str, str]) -> None:
    install = 'eval "$(lyricgen train -sc install=bash)"\n'
    registered = bash(f"{install} complete -p lyricgen", environment).split()
    assert registered[-3:] == ["-F", "hydra_bash_completion", "lyricgen"]
    script = bash("lyricgen train -sc install=bash", environment)

    def complete(line: str) -> list[str]:
        return bash(script + COMPLETE, environment, line).split()

    assert complete("lyricgen ex") == ["export"]
    assert complete("lyricgen generate --pre") == ["--prefix"]
    assert complete("lyricgen generate --run song") == ["songs"]
    assert complete("lyricgen train cell=gr") == ["cell=gru", "cell=gru_scratch"]
    assert complete("lyricgen train like=songs data=di") == ["data=dino"]
    assert complete("lyricgen train li") == ["like="]
    assert {"layers=", "like="} <= set(complete("lyricgen train "))
    assert complete("lyricgen train like=s") == ["like=songs", "like=sonnets"]
    ids = complete("lyricgen runs show ")
    assert {"latest", "songs", "sonnets"} <= set(ids)
    assert len(ids) == 6  # with the three ids, but not the name that bash would run
    assert complete(f"lyricgen runs diff songs {ids[-1]}") == [ids[-1]]
    assert not Path("hacked").exists()


def test_completion_is_removed_as_a_whole(environment: dict[str, str]) -> None:
    both = (
        'eval "$(lyricgen train -sc install=bash)"; eval "$(lyricgen train -sc uninstall=bash)";'
        "complete -p lyricgen 2>/dev/null || declare -F hydra_bash_completion || echo none"
    )
    assert bash(both, environment) == "none\n"


def test_words_that_may_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = import_module("lyricgen.list_runs")
    references = list_references()
    assert references == ["latest"]
    assert complete_words([], "", runs) == ["show", "diff", "note", "tag", "rm"]
    assert complete_words(["show"], "", runs) == references
    assert complete_words(["outputs"], "", runs) == []  # bash completes names of files
    assert "--yes" in complete_words(["rm", "x"], "--", runs)
    assert "--jobs" in complete_words([], "--j", runs)
    assert complete_words(["--run"], "", generate) == references
    assert complete_words(["--run", "x"], "", generate) == references
    assert complete_words(["--run", "x", "--prefix"], "", generate) == []
    assert "--beams" in complete_words(["--run", "x"], "-", generate)


def test_completion_imports_no_torch(environment: dict[str, str]) -> None:
    program = "import sys; from lyricgen.__main__ import main; main(); exit('torch' in sys.modules)"
    for line in ("lyricgen generate --p", "lyricgen evaluate --run ", "lyricgen runs show "):
        done = subprocess.run(
            [sys.executable, "-c", program, "-sc", "query=bash"],
            env={**environment, "COMP_LINE": line}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()


def test_the_package_declares_the_command(environment: dict[str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, function = project["scripts"]["lyricgen"].partition(":")
    assert callable(getattr(import_module(module), function))
    shown = bash("lyricgen runs --json", environment)
    assert shown.count('"status": "finished"') == 3


@pytest.mark.slow
def test_jobs_in_processes_start_from_the_command(environment: dict[str, str]) -> None:
    words = (
        "lyricgen train -m seed=1,2 hydra/launcher=processes recipe=none trainer=cpu "
        "hidden_size=16 data.max_chars=1500 data.batch_size=4 data.num_steps=10 "
        "trainer.max_epochs=1 callbacks.samples.every_n_epochs=0 callbacks.baseline.enabled=false"
    )
    bash(f"{words} >printed 2>&1", {**environment, "OMP_NUM_THREADS": "1"})
    printed = Path("printed").read_text("utf-8")
    assert "report.html" in printed, printed
    assert len(list(Path("outputs").glob("sweeps/*/*/*/checkpoints/best.ckpt"))) == 2, printed
