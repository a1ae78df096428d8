"""README and docs/: commands work, links have targets, tables are complete."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import lyricgen
import lyricgen.data
from lyricgen.__main__ import COMMANDS
from lyricgen.cli.known_settings import default_choices, group_choices
from lyricgen.list_runs import ACTIONS
from lyricgen.runs.directories import EVENTS, TRASH
from tests.conftest import ROOT, Train, need_published, run_main, until
from tests.helpers import slurm
from tests.helpers.dashboards import run_dashboard
from tests.helpers.documents import (
    CONTRIBUTING,
    DOCS,
    OWN_TEXTS,
    PAGES,
    README,
    anchors,
    blocks,
    commands,
    commands_of,
    links,
    shell_words,
    tables,
    text_of,
)
from tests.helpers.small_training import train_small

TRAIN = "python -m lyricgen.train"
PYTHON = "docs/python.md"
COMPLETION = 'eval "$(lyricgen train -sc install=bash)"'
DASHBOARD = "python -m lyricgen.dashboard"
START = f"pip install -c constraints.txt -e . && {TRAIN}"
TESTS = "pip install -c constraints.txt -e '.[dev]' && pytest"
SLURM = (
    f"{TRAIN} -m hydra/launcher=slurm hydra.launcher.partition=gpu "
    "hydra.launcher.gpus_per_node=1 seed=1,2,3"
)
TO_CONTRIBUTE = (
    "pip install -c constraints.txt -e '.[dev]' && pre-commit install",
    "pytest",
    "ruff check . && ruff format --check . && mypy && lint-imports",
    "sphinx-build -W --keep-going docs build/site",
)
RAY = f"{TRAIN} -m hydra/launcher=ray seed=1,2 +hydra.launcher.ray.remote.num_cpus=4"

# Commands of the pages that no test runs unchanged, with the reason.
IN_CI = dict.fromkeys([START, TESTS, *TO_CONTRIBUTE], ".ci/run runs it in a new environment")
NOT_RUN = {
    **IN_CI,
    DASHBOARD: "it runs until Ctrl-C; a test of its own starts and stops it",
    RAY: "its launcher needs an environment of its own",
    COMPLETION: "tests/cli/test_completion.py runs it in bash",
}
# Experiments that fetch a text; they run if LYRICGEN_DATA has it.
FETCHED = {"notebook/lyrics_rnn_random": "jaychou", "notebook/dino_exact": "coursera_dino"}
# Runs that the pages share.
SHARED = (
    f"{TRAIN} data=dino cell=gru name=dinosaurs",
    f"{TRAIN} cell=lstm layers=2 name=songs",
)
# Settings that make every training small; a resumed run gets more epochs.
SMALL = (
    *("hidden_size=16", "data.max_chars=6000"),
    *("trainer.max_epochs=2", "callbacks.samples.count=1"),
)
# Commands with jobs in processes, which must find a main module.
IN_PROCESSES = ("trainer=ddp", "hydra/launcher=")

NEWEST_RUN = r"from outputs/\S+: .* old\n"  # printed if a command takes the newest run
PROGRESS = r"(?:.*: \d+ %\n)*"  # printed by a slow command
BEST = r"(?:best of \d+ finished runs? by .*\n)?"  # printed with --best
ENSEMBLE = r"(?:ensemble of \d+ models, .*\n)?"  # printed if several checkpoints are joined


class Result(NamedTuple):
    status: int
    out: str
    err: str


@dataclass
class Workplace:
    """A directory like the root of a checkout, with the commands that have written files there."""

    directory: Path
    done: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return prepare_workplace(tmp_path_factory.mktemp("checkout"))


def prepare_workplace(directory: Path) -> Workplace:
    for name in (README, ".gitignore", "outputs/.gitignore"):
        (directory / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, directory / name)
    return Workplace(directory)


@pytest.fixture
def run_in(
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path, str], Result]:
    """Run a command of a page in a directory, in this process if possible."""

    def run(directory: Path, command: str) -> Result:
        monkeypatch.chdir(directory)
        words = shell_words(_with_module(command), directory)
        assert words[:2] == ["python", "-m"]
        name, arguments = words[2], words[3:]
        if name == "lyricgen.train":
            arguments = _make_small(arguments)
        if any(part in command for part in IN_PROCESSES):
            cluster = tmp_path_factory.mktemp("cluster")
            programs = slurm.install(cluster) if command == SLURM else None
            return _run_process([sys.executable, "-m", name, *arguments], directory, programs)
        if name == "lyricgen.train":
            finished = train(*arguments)
            return Result(finished.status, finished.out, finished.err)
        done = run_main(import_module(name).main, capfd, *arguments)
        return Result(done.status, done.out, done.err)

    return run


@pytest.fixture
def run(workplace: Workplace, run_in: Callable[[Path, str], Result]) -> Callable[[str], Result]:
    """Run a command in the workplace that pages share."""
    return partial(run_in, workplace.directory)


def _make_small(arguments: list[str]) -> list[str]:
    if any("resume=" in one for one in arguments):
        return [re.sub(r"(max_epochs)=\d+", r"\1=3", one) for one in arguments]
    return arguments if "--cfg" in arguments else [*arguments, *SMALL]


def _run_process(command: list[str], directory: Path, programs: Path | None) -> Result:
    """Run a command that finds programs in one more directory, if it is given."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if programs is not None:
        environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_the_readme_works_from_top_to_bottom(
    tmp_path: Path, run_in: Callable[[Path, str], Result]
) -> None:
    directory = prepare_workplace(tmp_path).directory
    for command in commands(README):
        if command == START:
            _check(TRAIN, run_in(directory, TRAIN))
        elif command not in NOT_RUN:
            _check(command, run_in(directory, command))
    assert _untracked_files(directory) == {".gitignore", README, "outputs/.gitignore"}


def _untracked_files(directory: Path) -> set[str]:
    """Files of a new repository in a directory that git does not ignore."""
    subprocess.run(["git", "init", "--quiet"], cwd=directory, check=True)
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    return {line.removeprefix("?? ") for line in done.stdout.splitlines()}


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in DOCS if page != OWN_TEXTS])
def test_every_command_works(page: str, workplace: Workplace, run: Callable[[str], Result]) -> None:
    for command in dict.fromkeys([*SHARED, *commands(page)]):
        resumes = "resume=" in command
        if command in NOT_RUN or command in workplace.done:
            continue
        for experiment, kind in FETCHED.items():
            if f"experiment={experiment}" in command:
                need_published(kind)
        _check(command, run(command))
        if not resumes and re.search(r"lyricgen[. ](train|export)", command):
            workplace.done.append(command)  # it has written its files


def _with_module(command: str) -> str:
    """Replace lyricgen COMMAND by python -m and the module of the command."""
    name = re.match(r"lyricgen (\w+)", command)
    if name is None:
        return command
    return f"python -m lyricgen.{COMMANDS[name[1]][0]}{command[name.end() :]}"


def _check(command: str, done: Result) -> None:
    command = _with_module(command)
    assert done.status == 0, f"{command}\n{done.err}"
    expected = BEST + (NEWEST_RUN if _takes_newest_run(command) else "") + PROGRESS
    expected += ENSEMBLE + PROGRESS
    assert re.fullmatch(expected, done.err), f"{command}\n{done.err}"
    if "--cfg" in command:
        assert "label_smoothing" in done.out
    elif "lyricgen.train" in command:
        ends = ("best checkpoint", "is finished", "report.html", "find_lr.png")
        assert any(end in done.out for end in ends), f"{command}\n{done.out}"
    else:
        assert done.out, command


def _takes_newest_run(command: str) -> bool:
    names_a_model = re.search(r"outputs/|\.safetensors |first_run", command)
    of_a_model = re.search(r"lyricgen\.(generate|evaluate|export)", command)
    return "resume=latest" in command or (of_a_model is not None and names_a_model is None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in (README, *DOCS) if blocks(page, "python") and page != PYTHON]
)
def test_the_python_of_a_page_works(
    page: str, workplace: Workplace, run: Callable[[str], Result], capfd: pytest.CaptureFixture[str]
) -> None:
    if SHARED[1] not in workplace.done:
        assert run(SHARED[1]).status == 0
        workplace.done.append(SHARED[1])
    [checkpoint] = workplace.directory.glob("outputs/runs/*/*_songs/checkpoints/best.ckpt")
    [program] = blocks(page, "python")
    program = program.replace("outputs/runs/…/checkpoints/best.ckpt", str(checkpoint))
    assert "lyricgen.load" in program and "…" not in program
    exec(compile(program, page, "exec"), {"lyricgen": lyricgen})
    assert capfd.readouterr().out.startswith("分开")


@pytest.mark.slow
def test_the_page_on_python_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its programs run one after the other, with smaller networks and texts."""
    monkeypatch.chdir(tmp_path)
    small = ("hidden_size=16", "data.max_chars=3000", "data.batch_size=32", "trainer=cpu")
    train_small(monkeypatch, small)
    names: dict[str, object] = {}
    for number, program in enumerate(blocks(PYTHON, "python")):
        exec(compile(program, f"{PYTHON}, program {number}", "exec"), names)
    assert Path("curves.png").stat().st_size > 10_000
    listed = set(re.findall(r"`lyricgen\.(\w+)", text_of(PYTHON)))
    assert set(lyricgen.__all__) - {"TrainedModel", "__version__", "Runs"} <= listed


@pytest.mark.slow
def test_the_dashboard_shows_the_runs(workplace: Workplace, run: Callable[[str], Result]) -> None:
    assert DASHBOARD in commands(README)
    assert run(TRAIN).status == 0
    outputs = workplace.directory / "outputs"
    kept = (path for path in outputs.rglob(EVENTS) if TRASH not in path.parts)
    runs = {str(path.parent.relative_to(outputs)) for path in kept}
    assert runs
    with run_dashboard(outputs) as board:
        until(lambda: set(board.get("runs")) == runs, 20)
        assert board.stop(signal.SIGTERM) == (0, "")


def test_every_command_that_is_not_run_stands_on_a_page() -> None:
    every = {command for page in PAGES for command in commands(page)}
    assert set(NOT_RUN) <= every
    for experiment in FETCHED:
        assert f"{TRAIN} experiment={experiment}" in every


def test_no_command_is_left_out() -> None:
    """Those of all other pages run above, or with their page's own tests."""
    first, _, additions = text_of(CONTRIBUTING).partition("\n## Add a")
    assert set(commands_of(first)) == set(TO_CONTRIBUTE)
    assert not set(commands_of(additions)) & set(NOT_RUN)
    taken = [one for _, one in re.findall(r"""grep -m1 -xE (["'])(.*?)\1""", text_of(".ci/run"))]
    for command in IN_CI:
        assert command == "pytest" or any(re.fullmatch(one, command) for one in taken), command


def test_slurm_is_composed(train: Train) -> None:
    words = shell_words(SLURM, ROOT)[4:]  # after -m, which does not go with --cfg
    done = train(*words[:-1], "--cfg", "hydra")
    assert done.status == 0, done.err
    assert "partition: gpu" in done.out


def test_the_readme_is_short_and_has_the_two_commands_of_the_start() -> None:
    """CI runs both commands unchanged in a new environment."""
    assert len(text_of(README).splitlines()) <= 200
    assert commands(README)[0] == START
    assert commands(README)[1].startswith("python -m lyricgen.generate")
    assert TESTS in commands(README)


def test_extras_and_pins_of_the_pages_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    text = "".join(map(text_of, PAGES))
    extras = set(re.findall(r"(?:lyricgen|\.)\[(\w+)\]", text))
    assert {"dev", "rhyme"} <= extras <= project["optional-dependencies"].keys()
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    names = {re.split(r"[<>=\[ ]", one)[0].lower() for one in project["dependencies"]}
    assert names <= {one.lower() for one in pinned}  # pip ignores case


def test_git_ignores_the_files_that_the_readme_names() -> None:
    options = r" --(?:out|png|heat|gates) (\S+)"
    files = {file for page in PAGES for one in commands(page) for file in re.findall(options, one)}
    assert {"lyrics.safetensors", "heat.html", "gates.png"} <= files
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "outputs/runs/x/summary.json", *files],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 128:
        pytest.skip("this is no checkout of git")
    assert set(done.stdout.split()) == {"outputs/runs/x/summary.json", *files}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), link


def test_the_readme_links_to_every_page_and_picture() -> None:
    linked = {link.partition("#")[0] for link in links(README)}
    assert set(PAGES) - {README} <= linked
    pictures = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.png")}
    shown = {f"docs/{link}" for page in DOCS for link in links(page)} | linked
    assert pictures <= shown


@pytest.mark.parametrize("page", PAGES)
def test_tables_have_as_many_cells_in_every_row(page: str) -> None:
    for table in tables(page):
        assert {len(row) for row in table} == {len(table[0])}, table[0]
        assert all(re.fullmatch(r":?-+:?", cell) for cell in table[1]), table[0]


@pytest.mark.parametrize("page", [README, "docs/train.md"])
def test_the_pages_list_the_groups_of_conf(page: str) -> None:
    [table] = [table for table in tables(page) if table[0][0] == "group"]
    listed = {re.findall(r"`(\w+)`", row[0])[0]: row[1] for row in table[2:]}
    assert set(listed) == set(default_choices())
    for group, default in (default_choices() | {"sampler": "consecutive"}).items():
        choices = {re.sub(r"^notebook/.*", "notebook/…", one) for one in group_choices(group)}
        assert set(re.findall(r"`([\w/…]+)`", listed[group])) == choices, group
        assert re.findall(r"\*\*`(\w+)`\*\*", listed[group]) == [default] * bool(default), group


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "train"])
def test_the_pages_name_every_option(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    page = {"export": "files", "dashboard": "files"}.get(command, command)
    main = import_module(f"lyricgen.{COMMANDS[command][0]}").main
    shown = "".join(
        run_main(main, capfd, *action, "--help").out
        for action in ([], *([one] for one in ACTIONS if command == "runs"))
    )
    options = set(re.findall(r"--[a-z][a-z-]*", shown)) - {"--help", "--debug"}
    assert len(options) > 1
    assert {one for one in options if one not in text_of(f"docs/{page}.md")} == set()


def test_the_tour_of_the_data_names_every_module() -> None:
    named = re.findall(r"`(\w+)`", lyricgen.data.__doc__ or "")
    modules = {path.stem for path in (ROOT / "src/lyricgen/data").glob("*.py")} - {"__init__"}
    assert set(named) == modules
