"""A sweep's job in a process of its own, which is not the one that the user has started."""

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich import get_console

from lyricgen.console import leave_closed_terminal
from lyricgen.runs.interruption import (
    HANGUP,
    SIGNALS,
    Interrupted,
    Interruption,
    listening,
)
from lyricgen.runs.listing import is_alive

log = logging.getLogger(__name__)

TICK = 1.0  # seconds between two looks at the sweep
_SWEEP = "LYRICGEN_SWEEP_PROCESS"  # whose job this is
_VISIBLE = "LYRICGEN_CUDA_VISIBLE_DEVICES"  # what submitit hides
HANDED_ON = (_SWEEP, _VISIBLE)
_OWN_SIGNALS = tuple(number for number in SIGNALS if number not in (signal.SIGINT, HANGUP))


def this_process() -> str:
    """Its host and number."""
    return f"{socket.gethostname()}_{os.getpid()}"


def stop_file(sweep: Path, process: str) -> Path:
    """File that tells the jobs of a sweep's process to stop, wherever they run."""
    return sweep / f".stop_{process}"


@contextmanager
def job_environment() -> Iterator[None]:
    """Let processes that are started meanwhile know whose they are, and which GPUs to see."""
    told = {_SWEEP: this_process()}
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        told[_VISIBLE] = os.environ["CUDA_VISIBLE_DEVICES"]
    os.environ.update(told)
    try:
        yield
    finally:
        for name in told:
            del os.environ[name]


def as_job(sweep: Path, job: Callable[[], float]) -> float:
    """Do a job of a sweep, in whatever process this is.

    In another one than the sweep's, it stops when the sweep does, leaves the terminal to it, and
    raises nothing: an engine would take other jobs with it.

    Args:
        sweep: its directory.
        job: returns the figure that is compared.

    Returns:
        That figure; infinity where the job was stopped.
    """
    parent = os.environ.get(_SWEEP)
    if parent is None:
        return job()
    if stop_file(sweep, parent).exists():
        return math.inf
    get_console().quiet = True
    if threading.current_thread() is threading.main_thread():
        _leave_terminal_to_sweep()
    _show_devices()
    try:
        with listening(_OWN_SIGNALS) as interruption, _following(sweep, parent, interruption):
            return job()
    except Interrupted as stop:
        if _gone(parent):
            os._exit(143)  # the pool of cpus would wait for the next job
        _requeue(stop.number)
        return math.inf


def _leave_terminal_to_sweep() -> None:
    """The sweep answers Ctrl-C and a terminal that closes, and tells its jobs to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if HANGUP is not None:  # blocked where the sweep has started this process
        signal.signal(HANGUP, lambda *_: leave_closed_terminal())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {HANGUP})


def _show_devices() -> None:
    """Show the GPUs again, all of which submitit hides on one machine unless asked for some."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "local" and not os.environ["CUDA_VISIBLE_DEVICES"]:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if _VISIBLE in os.environ:
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[_VISIBLE]


@contextmanager
def _following(sweep: Path, parent: str, interruption: Interruption) -> Iterator[None]:
    """Meanwhile, send this process SIGTERM when the sweep is to stop, or is gone."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(TICK):
            if _gone(parent) or stop_file(sweep, parent).exists():
                if interruption.requested is None:  # a second signal would stop it at once
                    os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _gone(parent: str) -> bool:
    """Whether the sweep's process has died; jobs of Slurm go on without it."""
    host, _, number = parent.rpartition("_")
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" or host != socket.gethostname():
        return False
    return not is_alive(int(number))


def _requeue(number: int) -> None:
    """Pass submitit's warning on once the run can be resumed; submitit may restart it."""
    if number == getattr(signal, "SIGUSR2", None) and callable(signal.getsignal(number)):
        with suppress(Exception):  # it was not to be started again
            signal.raise_signal(number)
