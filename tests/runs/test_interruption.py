"""Signals at moments when Python would lose an exception, and terminals that close."""

import fcntl
import gc
import os
import pty
import shlex
import signal
import subprocess
import sys
import termios
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lyricgen.reporting import sweep_report
from lyricgen.runs.interruption import Interrupted, handle_signals, raise_if_requested
from lyricgen.runs.run import Run
from lyricgen.sweeps import grid, task
from lyricgen.training import main as training
from lyricgen.training.callbacks.samples import Samples
from tests.conftest import SMALL, Train, summary_of, sweep_of, until

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


@pytest.fixture(autouse=True)
def _signals_heard() -> Iterator[None]:
    """Handle Ctrl-C and SIGHUP, which a shell in the background and nohup set to be ignored."""
    before = {number: signal.getsignal(number) for number in STATUS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def in_collector(number: int) -> None:
    """Send a signal that reaches this process in a callback of the garbage collector."""

    def callback(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(callback)
        send(number)

    gc.callbacks.append(callback)
    gc.collect()


class Object:
    """An object that can be freed."""


def in_del(number: int) -> None:
    """Send a signal that reaches this process in `__del__`."""

    class Last:
        def __del__(self) -> None:
            send(number)

    Last()


def in_weak_reference(number: int) -> None:
    """Send a signal that reaches this process in the callback of a weak reference."""
    held = Object()
    reference = weakref.ref(held, lambda _: send(number))
    del held
    assert reference() is None


MOMENTS = [in_collector, in_del, in_weak_reference]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", STATUS)
def test_a_signal_is_remembered_when_its_exception_is_lost(
    moment: Callable[[int], None], number: int
) -> None:
    with handle_signals() as interruption:
        moment(number)  # pytest would report an exception that was printed
        assert interruption.requested == number
        with pytest.raises(Interrupted) as stop:
            raise_if_requested()
        assert stop.value.code == STATUS[number]
    raise_if_requested()  # nothing is raised outside of the block


def act_at_call(function: Callable[..., Any], calls: int, action: Callable[[], None]) -> Any:
    """Return the function with an action before one of its calls, counted from 1."""
    made: list[int] = []

    def changed(*arguments: Any, **named: Any) -> Any:
        made.append(1)
        if len(made) == calls:
            action()
        return function(*arguments, **named)

    return changed


class Job:
    """A job that only notes its seed."""

    @staticmethod
    def end() -> None:
        """End the job; a test can send a signal here."""


def note_jobs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the jobs of sweeps by jobs that only note their seeds."""
    done: list[int] = []

    def note(values: dict[str, Any], run: Run) -> float:
        run.begin(values)
        run.finish({})
        done.append(values["seed"])
        Job.end()
        return 1.0

    monkeypatch.setattr(task, "do_job", note)
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "calls", "moment", "expected"),
    [
        (grid, "job_values", 1, in_collector, []),
        (task, "compose_run", 2, in_del, [1, 2]),
        (Job, "end", 1, in_collector, [1]),
        (Job, "end", 3, in_weak_reference, [1, 2, 3]),
        (sweep_report, "report_sweep", 1, in_collector, [1, 2, 3]),
    ],
)
def test_a_sweep_hears_signals_at_any_time(
    train: Train, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: int,
    moment: Callable[[int], None], expected: list[int],
) -> None:  # fmt: skip
    """The signal comes at the start, in a job, between jobs, after the last, in the report."""
    done = note_jobs(monkeypatch)
    with monkeypatch.context() as patch:
        action = lambda: moment(signal.SIGINT)  # noqa: E731
        patch.setattr(owner, name, act_at_call(getattr(owner, name), calls, action))
        stopped = train("-m", *SMALL, "seed=1,2,3")
    assert (stopped.status, stopped.err) == (130, "")
    assert done == expected
    sweep = sweep_of()
    assert summary_of(sweep)["status"] == "interrupted"
    assert f"to go on with the sweep: python -m lyricgen.train resume={sweep}" in stopped.out
    if expected == [1]:
        monkeypatch.setattr(sweep_report, "report_sweep", lambda directory: None)
        assert train(f"resume={sweep}").status == 0
        assert done == [1, 2, 3]
        assert summary_of(sweep)["status"] == "finished"


def test_a_search_hears_signals_between_trials(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    done = note_jobs(monkeypatch)
    action = lambda: in_collector(signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(Job, "end", act_at_call(Job.end, 2, action))
    stopped = train(*SMALL, "sweep=optuna", "hydra.sweeper.n_trials=5")
    assert stopped.status == 143, stopped.err
    assert len(done) == 2
    assert summary_of(sweep_of())["status"] == "interrupted"


@pytest.mark.parametrize(("name", "begun"), [("prepare", False), ("train_and_evaluate", True)])
def test_a_run_hears_signals_before_it_trains(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str, begun: bool
) -> None:
    action = lambda: in_collector(signal.SIGHUP)  # noqa: E731
    monkeypatch.setattr(training, name, act_at_call(getattr(training, name), 1, action))
    stopped = train(*SMALL, "trainer.max_epochs=1000")
    assert (stopped.status, stopped.err) == (143, "")
    if begun:
        assert stopped.summary["status"] == "interrupted"
    else:
        assert stopped.directory is None


def test_an_interrupt_that_a_library_replaces_is_no_failure(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        with suppress(Interrupted):
            send(signal.SIGTERM)
        raise TypeError("NumPy compares no arrays after a signal")  # and keeps no trace of it

    hook = act_at_call(Samples.on_train_start, 1, interrupt)
    monkeypatch.setattr(Samples, "on_train_start", hook)
    stopped = train(*SMALL, "callbacks.samples.every_n_epochs=1")
    assert (stopped.status, stopped.err) == (143, "")
    assert stopped.summary["status"] == "interrupted"


def test_a_second_hangup_of_a_terminal_changes_nothing() -> None:
    with handle_signals() as interruption:
        interruption.patient = True
        send(signal.SIGHUP)
        send(signal.SIGHUP)
        assert interruption.requested == signal.SIGHUP
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


@pytest.mark.parametrize("number", STATUS)
def test_ignored_signals_stay_ignored(number: int) -> None:
    """nohup ignores SIGHUP, and a shell ignores Ctrl-C in the background."""
    signal.signal(number, signal.SIG_IGN)
    with handle_signals() as interruption:
        send(number)
        assert interruption.requested is None


def test_nested_blocks_share_the_requested_signal() -> None:
    with handle_signals() as outer:
        with handle_signals() as inner:
            inner.patient = True
            send(signal.SIGINT)
        assert outer.requested == signal.SIGINT
        assert not outer.patient


TRAINING = ("trainer.max_epochs=100000", "callbacks.early_stopping.enabled=false")


def start_on_a_terminal(
    outputs: Path, *overrides: str, sweep: bool, nohup: bool
) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a run or a sweep of two; return its process and the master of its terminal."""
    master, slave = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "lyricgen.train", *SMALL, *overrides),
            *(["-m", "seed=1,2"] if sweep else []),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "LYRICGEN_OUTPUTS": str(outputs)},
        stdin=slave, stdout=slave, stderr=slave,
        preexec_fn=own_terminal,  # noqa: PLW1509
    )  # fmt: skip
    os.close(slave)
    return process, master


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [False, True])
@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_interrupts_unless_nohup(
    tmp_path: Path, sweep: bool, nohup: bool
) -> None:
    process, master = start_on_a_terminal(tmp_path, *TRAINING, sweep=sweep, nohup=nohup)
    try:
        [written] = until(lambda: list(tmp_path.glob("*/*/**/metrics.csv")))
        run = written.parent
        os.close(master)
        if nohup:
            size = written.stat().st_size
            until(lambda: written.stat().st_size > size)
            assert process.poll() is None
            process.terminate()
        assert process.wait(60) == 143
        assert summary_of(run)["status"] == "interrupted"
        assert (run / "checkpoints/last.ckpt").is_file()
        if sweep:
            assert summary_of(run.parent)["status"] == "interrupted"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [False, True])
def test_training_finishes_without_its_terminal_under_nohup(tmp_path: Path, sweep: bool) -> None:
    longer = ("trainer.max_epochs=12", "callbacks.early_stopping.enabled=false")
    process, master = start_on_a_terminal(tmp_path, *longer, sweep=sweep, nohup=True)
    try:
        [written] = until(lambda: list(tmp_path.glob("*/*/**/metrics.csv")))
        os.close(master)
        assert process.wait(120) == 0
        first = written.parent
        runs = sorted(first.parent.glob("[01]_*")) if sweep else [first]
        assert len(runs) == 1 + sweep
        for run in [*runs, first.parent] if sweep else runs:
            assert summary_of(run)["status"] == "finished"
    finally:
        process.kill()
        process.wait()


def test_the_number_of_a_closed_stream_is_not_reused(tmp_path: Path) -> None:
    """The next open file must not get the number of a closed stream."""
    program = (
        "from lyricgen.console import leave_closed_terminal\n"
        "leave_closed_terminal()\n"
        "print(open('x', 'w').fileno() > 2)"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} 2>&-"
    done = subprocess.check_output(command, shell=True, cwd=tmp_path, text=True)
    assert done == "True\n"
