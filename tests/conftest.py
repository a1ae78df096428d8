"""What several test files share: small runs through the real command."""

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

from lyricgen import train as command
from lyricgen.data.options import PUBLISHED
from lyricgen.reporting import sweep_report
from lyricgen.training.callbacks.checkpoints import Checkpoints
from tests.helpers.processes import started

ROOT = Path(__file__).parents[1]

# Small enough for a second, and still everything that a run does.
TINY = (
    "trainer=cpu",
    "hidden_size=16",
    "data.max_chars=1500",
    "data.batch_size=4",
    "data.num_steps=10",
    "trainer.max_epochs=2",
    "callbacks.samples.every_n_epochs=1",
    "callbacks.samples.length=12",
)
# Smaller yet, for what happens around runs.
SMALL = (*TINY, "callbacks.samples.every_n_epochs=0", "callbacks.baseline.enabled=false")

Found = TypeVar("Found")


def pytest_configure() -> None:
    # a test's own directory holds its outputs, whatever the shell has set
    os.environ.pop("LYRICGEN_OUTPUTS", None)
    # each core has a process of tests; the processes that these start share it
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # the longest tests come first, so that all processes of tests end at about the same time
    items.sort(key=lambda item: item.path.parent.name != "system")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _hears_ctrl_c() -> None:
    # a shell that starts pytest in the background has Ctrl-C ignored
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_handlers_left() -> Iterator[None]:
    """Hydra's handlers keep the streams of a test, which are closed after it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _no_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    # which main() asks Hydra for: the processes that a test starts are not to inherit it
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def summary_of(directory: Path) -> dict[str, Any]:
    """What a run or a sweep says of itself, in strict JSON."""

    def never(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    text = (directory / "summary.json").read_text("utf-8")
    summary: dict[str, Any] = json.loads(text, parse_constant=never)
    return summary


def newest_of(outputs: str | Path = "outputs") -> Path:
    """The directory of the run or sweep that latest.txt names."""
    outputs = Path(outputs)
    return (outputs / (outputs / "latest.txt").read_text("utf-8").strip()).resolve()


def sweep_of(outputs: str | Path = "outputs") -> Path:
    """The only sweep that is there."""
    [found] = Path(outputs).glob("sweeps/*/*")
    return found.resolve()


@dataclass(frozen=True)
class Finished:
    """A run of the train command that has ended."""

    status: int
    out: str
    err: str
    directory: Path | None

    @property
    def summary(self) -> dict[str, Any]:
        assert self.directory is not None, self.err
        return summary_of(self.directory)


Train = Callable[..., Finished]


def until(look: Callable[[], Found], seconds: float = 120, every: float = 0.05) -> Found:
    """Look again and again, until there is something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(every)
    return found


def hear_ctrl_c() -> None:
    """As preexec_fn of a process: pytest in the background ignores it, and so would the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores


def killed_after(checkpoints: int, outputs: Path, *arguments: str) -> None:
    """Run the train command in a process that is killed before the next checkpoint after those."""
    environment = {"OMP_NUM_THREADS": "1", "LYRICGEN_OUTPUTS": str(outputs)}
    printed = outputs.with_name(f"{outputs.name}.log")
    process = started(
        _train_until_killed, checkpoints, arguments, output=printed, environment=environment
    )
    process.join()
    assert process.exitcode == -signal.SIGKILL, printed.read_text("utf-8")


def _train_until_killed(checkpoints: int, arguments: tuple[str, ...]) -> None:
    """Train, and die in place of the next checkpoint: all else that it tells of is written."""
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
class Printed:
    """What one of the ordinary commands has left on the terminal."""

    status: int
    out: str
    err: str

    @property
    def texts(self) -> list[str]:
        assert self.status == 0, self.err
        return self.out.removesuffix("\n").split("\n")


Main = Callable[[list[str]], None]


def messages(err: str) -> list[str]:
    """The lines on standard error, without the one that says which run is the newest."""
    lines = err.splitlines()
    return lines[1:] if lines and lines[0].startswith("from ") else lines


def refusal(printed: Printed) -> str:
    """The one line of an error that ends a command with status 2."""
    assert (printed.status, printed.out) == (2, "")
    [line] = messages(printed.err)
    assert line.startswith("error: ")
    assert line.isprintable()
    return line


def printed(main: Main, capture: pytest.CaptureFixture[str], *arguments: str | Path) -> Printed:
    """Run an ordinary command in this process."""
    capture.readouterr()  # what came before, a training say, is not the command's
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capture.readouterr()
    return Printed(status, captured.out, captured.err)


def _train(*overrides: str) -> tuple[int, Path | None]:
    """Run the train command; give its exit status and the directory that it has made."""
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

    def run(*overrides: str) -> Finished:
        status, directory = _train(*overrides)
        captured = capfd.readouterr()
        return Finished(status, captured.out, captured.err, directory)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train each command line once for all tests, which may only read the run."""
    home = tmp_path_factory.mktemp("trained")

    @functools.cache
    def run(*overrides: str) -> Finished:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(home)
            patch.delenv("LYRICGEN_OUTPUTS", raising=False)
            status, directory = _train(*overrides)
        return Finished(status, out.getvalue(), err.getvalue(), directory)

    return run


def copied(run: Finished, outputs: str = "outputs") -> Finished:
    """A copy of a run that a test may change: the newest run below other outputs."""
    assert run.directory is not None, run.err
    relative = Path(*run.directory.parts[-3:])  # runs/<date>/<time>_<name>
    directory = Path(outputs).absolute() / relative
    shutil.copytree(run.directory, directory)
    (Path(outputs) / "latest.txt").write_text(f"{relative}\n", "utf-8")
    return replace(run, directory=directory)


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sweeps make no report at their end, where a test looks at their jobs alone."""
    monkeypatch.setattr(sweep_report, "report_sweep", lambda directory: None)


def need_published(kind: str) -> None:
    """Skip a test on a published text where LYRICGEN_DATA does not have its file."""
    directory = os.environ.get("LYRICGEN_DATA")
    if not directory or not (Path(directory) / PUBLISHED[kind].file_name).exists():
        pytest.skip(f"the published file of data={kind} is not in LYRICGEN_DATA={directory}")


def _directories() -> set[Path]:
    outputs = Path(os.environ.get("LYRICGEN_OUTPUTS", "outputs"))
    found = {path.parent for path in outputs.resolve().rglob("summary.json")}
    return {path for path in found if not (path / "multirun.yaml").exists()}  # not of sweeps
