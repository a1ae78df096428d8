"""Fixtures and functions of several test files: small runs through the real command."""

import functools
import io
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
import torch

from lyricgen import evaluate as evaluate_command
from lyricgen import train as command
from lyricgen.data.options import PUBLISHED
from lyricgen.reporting import sweep_report
from lyricgen.training.callbacks.checkpoints import Checkpoints
from tests.helpers.processes import start_process

ROOT = Path(__file__).parents[1]

# A run of about a second that still does everything.
TINY = (
    "recipe=none",
    "trainer=cpu",
    "hidden_size=16",
    "data.max_chars=1500",
    "data.batch_size=4",
    "data.num_steps=10",
    "trainer.max_epochs=2",
    "callbacks.samples.every_n_epochs=1",
    "callbacks.samples.length=12",
)
# A still smaller run, for tests of what surrounds a run.
SMALL = (*TINY, "callbacks.samples.every_n_epochs=0", "callbacks.baseline.enabled=false")

Found = TypeVar("Found")


def pytest_configure() -> None:
    # a test's own directory holds its outputs, whatever the shell has set
    os.environ.pop("LYRICGEN_OUTPUTS", None)
    # each core runs one process of tests, which shares it with the processes that it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # the longest tests start first, so that all processes of tests end at about the same time
    items.sort(key=lambda item: item.path.parent.name != "system")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _restore_ctrl_c() -> None:
    # a process that a shell starts in the background ignores Ctrl-C
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _remove_handlers() -> Iterator[None]:
    """Remove Hydra's handlers after a test: they keep its streams, which are closed by then."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _unset_full_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    # main() sets this variable; processes that a test starts must not inherit it
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def summary_of(directory: Path) -> dict[str, Any]:
    """Summary of a run or a sweep, read as strict JSON."""

    def refuse_constant(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    text = (directory / "summary.json").read_text("utf-8")
    summary: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    return summary


def newest_of(outputs: str | Path = "outputs") -> Path:
    """Directory of the run or sweep that latest.txt names."""
    outputs = Path(outputs)
    return (outputs / (outputs / "latest.txt").read_text("utf-8").strip()).resolve()


def sweep_of(outputs: str | Path = "outputs") -> Path:
    """Directory of the only sweep of the outputs."""
    [found] = Path(outputs).glob("sweeps/*/*")
    return found.resolve()


@dataclass(frozen=True)
class TrainingResult:
    """Result of the train command: status, output and directory."""

    status: int
    out: str
    err: str
    directory: Path | None

    @property
    def summary(self) -> dict[str, Any]:
        assert self.directory is not None, self.err
        return summary_of(self.directory)


Train = Callable[..., TrainingResult]


def until(look: Callable[[], Found], seconds: float = 120, every: float = 0.05) -> Found:
    """Call `look` until its result is true; return the result."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "no result in time"
        time.sleep(every)
    return found


def hear_ctrl_c() -> None:
    """Restore Ctrl-C, as preexec_fn of a process: a pytest in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup


def train_until_killed(checkpoints: int, outputs: Path, *arguments: str) -> None:
    """Run the train command in a process that is killed before checkpoint `checkpoints` + 1."""
    environment = {"OMP_NUM_THREADS": "1", "LYRICGEN_OUTPUTS": str(outputs)}
    printed = outputs.with_name(f"{outputs.name}.log")
    process = start_process(
        _train_with_kill, checkpoints, arguments, output=printed, environment=environment
    )
    process.join()
    assert process.exitcode == -signal.SIGKILL, printed.read_text("utf-8")


def _train_with_kill(checkpoints: int, arguments: tuple[str, ...]) -> None:
    """Train, and die instead of writing the next checkpoint; its other files are written."""
    save, left = Checkpoints._save, checkpoints

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        save(*arguments, **named)

    Checkpoints._save = counted  # type: ignore[method-assign]
    sys.argv = ["lyricgen.train", *arguments]
    command.main()


@dataclass(frozen=True)
class CommandOutput:
    """Status and output of a command other than train."""

    status: int
    out: str
    err: str

    @property
    def texts(self) -> list[str]:
        assert self.status == 0, self.err
        return self.out.removesuffix("\n").split("\n")


Main = Callable[[list[str]], None]
Evaluate = Callable[..., CommandOutput]


def messages(err: str) -> list[str]:
    """Lines of standard error, without the line that names the newest run."""
    lines = err.splitlines()
    return lines[1:] if lines and lines[0].startswith("from ") else lines


def refusal(printed: CommandOutput) -> str:
    """The single error line of a command that ended with status 2."""
    assert (printed.status, printed.out) == (2, "")
    [line] = messages(printed.err)
    assert line.startswith("error: ")
    assert line.isprintable()
    return line


def run_main(
    main: Main, capture: pytest.CaptureFixture[str], *arguments: str | Path
) -> CommandOutput:
    """Run a command other than train in this process."""
    capture.readouterr()  # earlier output, of a training for example, is not the command's
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capture.readouterr()
    return CommandOutput(status, captured.out, captured.err)


def _train(*overrides: str) -> tuple[int, Path | None]:
    """Run the train command; return its exit status and the directory that it made."""
    before = _directories()
    status = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lyricgen.train", *overrides])
        patch.setenv("COLUMNS", "200")
        try:
            command.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
    made = _directories() - before
    return status, made.pop() if len(made) == 1 else None


@pytest.fixture
def train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Train:
    """Run `python -m lyricgen.train` in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*overrides: str) -> TrainingResult:
        status, directory = _train(*overrides)
        captured = capfd.readouterr()
        return TrainingResult(status, captured.out, captured.err, directory)

    return run


@pytest.fixture
def evaluate(capfd: pytest.CaptureFixture[str]) -> Evaluate:
    """Run `python -m lyricgen.evaluate` in this process."""
    return functools.partial(run_main, evaluate_command.main, capfd)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train each command line once for all tests; tests must not change its run."""
    home = tmp_path_factory.mktemp("trained")

    @functools.cache
    def run(*overrides: str) -> TrainingResult:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(home)
            patch.delenv("LYRICGEN_OUTPUTS", raising=False)
            status, directory = _train(*overrides)
        return TrainingResult(status, out.getvalue(), err.getvalue(), directory)

    return run


def directory_of(trained: Train, *overrides: str) -> Path:
    """Return the directory of a tiny run, which tests must not change."""
    done = trained(*TINY, *overrides)
    assert done.directory is not None, done.err
    return done.directory


def copy_run(run: TrainingResult, outputs: str = "outputs") -> TrainingResult:
    """Copy a run for a test that changes it; make it the newest run of other outputs."""
    assert run.directory is not None, run.err
    relative = Path(*run.directory.parts[-3:])  # runs/<date>/<time>_<name>
    directory = Path(outputs).absolute() / relative
    shutil.copytree(run.directory, directory)
    (Path(outputs) / "latest.txt").write_text(f"{relative}\n", "utf-8")
    return replace(run, directory=directory)


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps make no report, for tests that only look at their jobs."""
    monkeypatch.setattr(sweep_report, "report_sweep", lambda directory: None)


def need_published(kind: str) -> None:
    """Skip the test if LYRICGEN_DATA lacks the file of a published text."""
    directory = os.environ.get("LYRICGEN_DATA")
    if not directory or not (Path(directory) / PUBLISHED[kind].file_name).exists():
        pytest.skip(f"the published file of data={kind} is not in LYRICGEN_DATA={directory}")


def _directories() -> set[Path]:
    outputs = Path(os.environ.get("LYRICGEN_OUTPUTS", "outputs"))
    found = {path.parent for path in outputs.resolve().rglob("summary.json")}
    return {path for path in found if not (path / "multirun.yaml").exists()}  # sweeps have it
