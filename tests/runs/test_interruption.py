"""Signals that come while Python would lose an exception, and terminals that close."""

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
from pathlib import Path
from typing import Any

import pytest

from lyricgen import train as command
from lyricgen.reporting import sweep_report
from lyricgen.runs.interruption import Interrupted, listening, raise_if_requested
from lyricgen.runs.run import Run
from lyricgen.sweeps import grid
from lyricgen.training import main as training
from tests.conftest import SMALL, Train, summary_of, sweep_of, until

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


@pytest.fixture(autouse=True)
def _signals_heard() -> Iterator[None]:
    """A shell that starts pytest in the background has Ctrl-C ignored, nohup SIGHUP."""
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
    """Something that can be freed."""


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
def test_a_signal_is_noted_where_its_exception_is_lost(
    moment: Callable[[int], None], number: int
) -> None:
    with listening() as interruption:
        moment(number)  # pytest would report an exception that was printed
        assert interruption.requested == number
        with pytest.raises(Interrupted) as stop:
            raise_if_requested()
        assert stop.value.code == STATUS[number]
    raise_if_requested()  # only while somebody listens


def once(function: Callable[..., Any], calls: int, action: Callable[[], None]) -> Any:
    """The function, with an action in place of so many calls later."""
    made: list[int] = []

    def changed(*arguments: Any, **named: Any) -> Any:
        made.append(1)
        if len(made) == calls:
            action()
        return function(*arguments, **named)

    return changed


class Job:
    """A job that does nothing but note its seed."""

    @staticmethod
    def end() -> None:
        """Its end, at which a test may send a signal."""


def note_jobs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the jobs of sweeps do nothing but note their seeds."""
    done: list[int] = []

    def note(values: dict[str, Any], run: Run) -> float:
        run.begin(values)
        run.finish({})
        done.append(values["seed"])
        Job.end()
        return 1.0

    monkeypatch.setattr(command, "do_job", note)
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "calls", "moment", "expected"),
    [
        (grid, "job_values", 1, in_collector, []),
        (command, "compose_run", 2, in_del, [1, 2]),
        (Job, "end", 1, in_collector, [1]),
        (Job, "end", 3, in_weak_reference, [1, 2, 3]),
        (sweep_report, "report_sweep", 1, in_collector, [1, 2, 3]),
    ],
)
def test_a_sweep_hears_signals_at_any_time(
    train: Train, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: int,
    moment: Callable[[int], None], expected: list[int],
) -> None:  # fmt: skip
    """While it starts, in a job, between two jobs, after the last one, and while it reports."""
    done = note_jobs(monkeypatch)
    with monkeypatch.context() as patch:
        action = lambda: moment(signal.SIGINT)  # noqa: E731
        patch.setattr(owner, name, once(getattr(owner, name), calls, action))
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
    monkeypatch.setattr(Job, "end", once(Job.end, 2, action))
    stopped = train(*SMALL, "sweep=optuna", "hydra.sweeper.n_trials=5")
    assert stopped.status == 143, stopped.err
    assert len(done) == 2
    assert summary_of(sweep_of())["status"] == "interrupted"


@pytest.mark.parametrize(("name", "begun"), [("prepare", False), ("train_and_evaluate", True)])
def test_a_run_hears_signals_before_it_trains(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str, begun: bool
) -> None:
    action = lambda: in_collector(signal.SIGHUP)  # noqa: E731
    monkeypatch.setattr(training, name, once(getattr(training, name), 1, action))
    stopped = train(*SMALL, "trainer.max_epochs=1000")
    assert (stopped.status, stopped.err) == (143, "")
    if begun:
        assert stopped.summary["status"] == "interrupted"
    else:
        assert stopped.directory is None


def test_a_closed_terminal_may_say_so_twice() -> None:
    with listening() as interruption:
        interruption.patient = True
        send(signal.SIGHUP)
        send(signal.SIGHUP)
        assert interruption.requested == signal.SIGHUP
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)


@pytest.mark.parametrize("number", STATUS)
def test_signals_that_are_ignored_stay_so(number: int) -> None:
    """As SIGHUP is under nohup, and Ctrl-C in the background."""
    signal.signal(number, signal.SIG_IGN)
    with listening() as interruption:
        send(number)
        assert interruption.requested is None


def test_a_block_within_another_shares_its_record() -> None:
    with listening() as outer:
        with listening() as inner:
            inner.patient = True
            send(signal.SIGINT)
        assert outer.requested == signal.SIGINT
        assert not outer.patient


TRAINING = ("trainer.max_epochs=100000", "callbacks.early_stopping.enabled=false")


def started_on_a_terminal(
    outputs: Path, *overrides: str, sweep: bool, nohup: bool
) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a run, or a sweep of two, and give its process and the end of its terminal."""
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
def test_a_terminal_that_closes(tmp_path: Path, sweep: bool, nohup: bool) -> None:
    process, master = started_on_a_terminal(tmp_path, *TRAINING, sweep=sweep, nohup=nohup)
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
def test_work_outlives_its_terminal_where_the_hangup_is_ignored(
    tmp_path: Path, sweep: bool
) -> None:
    longer = ("trainer.max_epochs=12", "callbacks.early_stopping.enabled=false")
    process, master = started_on_a_terminal(tmp_path, *longer, sweep=sweep, nohup=True)
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


def test_a_stream_that_is_closed_stays_away_from_other_files(tmp_path: Path) -> None:
    """Its number must not be given to the next file that is opened."""
    program = (
        "from lyricgen.console import leave_closed_terminal\n"
        "leave_closed_terminal()\n"
        "print(open('x', 'w').fileno() > 2)"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} 2>&-"
    done = subprocess.check_output(command, shell=True, cwd=tmp_path, text=True)
    assert done == "True\n"
