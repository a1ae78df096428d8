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
from typing import Any

from rich import get_console

from lyricgen.errors import UserError
from lyricgen.interruption import Interrupted
from lyricgen.runs import is_alive, read_summary

log = logging.getLogger(__name__)

TICK = 1.0  # seconds between two looks at the sweep
_VISIBLE = "LYRICGEN_CUDA_VISIBLE_DEVICES"


def stop_file(sweep: Path) -> Path:
    """What tells the jobs of a sweep, wherever they run, that it is to stop."""
    return sweep / ".stop"


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
    record = _record(sweep)
    if record is None or record["process"] == os.getpid():
        return job()
    if stop_file(sweep).exists():
        return math.inf
    get_console().quiet = True
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to answer
    _show_devices()
    with _following(sweep, record):
        try:
            return job()
        except Interrupted as stop:
            if _gone(record):
                os._exit(143)  # the pool of cpus would wait for the next job
            _requeue(stop.number)
            return math.inf


@contextmanager
def handed_on_devices() -> Iterator[None]:
    """Let processes started meanwhile know which GPUs the user wants seen."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        os.environ[_VISIBLE] = visible
    try:
        yield
    finally:
        os.environ.pop(_VISIBLE, None)


def _show_devices() -> None:
    """Show the GPUs again, all of which submitit hides on one machine unless asked for some."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "local" and not os.environ["CUDA_VISIBLE_DEVICES"]:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if _VISIBLE in os.environ:
            os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[_VISIBLE]


def _record(sweep: Path) -> dict[str, Any] | None:
    with suppress(UserError):
        return read_summary(sweep)
    return None


@contextmanager
def _following(sweep: Path, record: dict[str, Any]) -> Iterator[None]:
    """Meanwhile, send this process SIGTERM when the sweep is to stop, or is gone."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(TICK):
            if _gone(record) or stop_file(sweep).exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _gone(record: dict[str, Any]) -> bool:
    """Whether the sweep has died; jobs of Slurm go on without it."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" or record["host"] != socket.gethostname():
        return False
    return not is_alive(record["process"])


def _requeue(number: int) -> None:
    """Hand submitit's warning on, now that the run can be gone on with; it may start it again."""
    if number == getattr(signal, "SIGUSR2", None) and callable(signal.getsignal(number)):
        with suppress(Exception):  # it was not to be started again
            signal.raise_signal(number)
