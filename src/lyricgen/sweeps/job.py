"""The job's side of a sweep: a process that is not the one that the user has started."""

import gc
import importlib
import inspect
import math
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from omegaconf import open_dict
from rich import get_console

from lyricgen.console import leave_closed_terminal, tell
from lyricgen.errors import reason
from lyricgen.runs.directories import is_alive
from lyricgen.runs.interruption import (
    HANGUP,
    SIGNALS,
    Interrupted,
    Interruption,
    listening,
)
from lyricgen.training.threads import VARIABLES

TICK = 0.25  # seconds between two looks at the sweep
PATIENCE = 10.0  # seconds that a job of a killed sweep has to stop, then to stop at once
SWEEP = "LYRICGEN_SWEEP_PROCESS"  # variable that tells whose job a process is
# what every job imports; the command itself is imported by each, as multiprocessing has it
PRELOADED = [
    *("lyricgen.sweeps.sweep", "lyricgen.cli.errors", "lyricgen.cli.resume_arguments"),
    *("lyricgen.training.main", "lyricgen.training.results"),
]

_OWN_SIGNALS = tuple(number for number in SIGNALS if number not in (signal.SIGINT, HANGUP))


def process_name() -> str:
    """Host and number of this process."""
    return f"{socket.gethostname()}_{os.getpid()}"


def stop_file(sweep: Path, process: str) -> Path:
    """File that tells the jobs of a sweep's process to stop, wherever they run."""
    return sweep / f".stop_{process}"


@contextmanager
def changed_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change variables that processes started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def start_fork_server() -> None:
    """Start the process that jobs are forked from, which then imports what every job needs.

    It runs no thread beside its own, since none survives a fork, and leaves all signals to the
    sweep: they stay blocked in a job, too, until it can answer them.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with changed_environment(dict.fromkeys(VARIABLES, "1")):
            ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def create_job_process(
    launcher: Any, overrides: list[str], number: int, threads: int
) -> ForkServerProcess:
    """Fresh process for one job, not yet started.

    Args:
        launcher: Hydra's; it holds the configuration and the task.
        overrides: of the job.
        number: of the job.
        threads: that it may use.
    """
    start_fork_server()
    task = launcher.task_function
    return multiprocessing.get_context("forkserver").Process(
        target=_run_task,
        args=(
            (task.__module__, task.__qualname__),
            (launcher.hydra_context, launcher.config, Singleton.get_state()["instances"]),
            (overrides, number),
            os.environ | dict.fromkeys(VARIABLES, str(threads)),
        ),
    )


def _run_task(
    task: tuple[str, str],
    hydra: tuple[Any, Any, Any],
    job: tuple[list[str], int],
    variables: dict[str, str],
) -> None:
    """Do a job in its fresh process, as Hydra's own launcher does."""
    import torch  # noqa: PLC0415  the sweep's own process, which imports this module, needs none

    gc.freeze()  # the modules: a collection would copy their pages, which all jobs share
    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(int(variables[VARIABLES[0]]))  # which has read the variable long ago
    context, config, singletons = hydra
    overrides, number = job
    try:
        setup_globals()
        task_function = inspect.unwrap(getattr(importlib.import_module(task[0]), task[1]))
        Singleton.set_state(Singleton.get_state() | {"instances": singletons})
        composed = context.config_loader.load_sweep_config(config, overrides)
        with open_dict(composed):
            composed.hydra.job.id = composed.hydra.job.num = number
        HydraConfig.instance().set_config(composed)
        run_job(
            task_function=task_function,
            config=composed,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=context,
        )
    except Exception as error:  # what the job itself did is in its summary.json
        tell(f"job {number} did not begin: {reason(error)}")


def do_as_job(sweep: Path, job: Callable[[], float]) -> float:
    """Do a job of a sweep, in whatever process this is.

    A process other than the sweep's stops when the sweep does, leaves the terminal to it, and
    raises nothing: a launcher would take other jobs with it.

    Args:
        sweep: its directory.
        job: returns the figure that is compared.

    Returns:
        That figure; infinity where the job was stopped.
    """
    parent = os.environ.get(SWEEP)
    if parent is None:
        return job()
    if stop_file(sweep, parent).exists():
        return math.inf
    get_console().quiet = True
    if threading.current_thread() is threading.main_thread():
        _leave_terminal_to_sweep()
    try:
        with listening(_OWN_SIGNALS) as interruption, _watching_sweep(sweep, parent, interruption):
            return job()
    except Interrupted as stop:
        _requeue(stop.number)
        return math.inf


def _leave_terminal_to_sweep() -> None:
    """Leave Ctrl-C and a terminal that closes to the sweep, which tells its jobs to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if HANGUP is not None:
        signal.signal(HANGUP, lambda *_: leave_closed_terminal())


@contextmanager
def _watching_sweep(sweep: Path, parent: str, interruption: Interruption) -> Iterator[None]:
    """Send this process SIGTERM when the sweep is to stop, or is gone; end it if need be."""
    over = threading.Event()

    def follow() -> None:
        while not _sweep_is_gone(parent) and not stop_file(sweep, parent).exists():
            if over.wait(TICK):
                return
        if interruption.requested is None:  # a second signal would stop it at once
            os.kill(os.getpid(), signal.SIGTERM)
        while not _sweep_is_gone(parent):  # else it ends jobs that do not stop
            if over.wait(TICK):
                return
        if not over.wait(PATIENCE):
            os.kill(os.getpid(), signal.SIGTERM)
        if not over.wait(PATIENCE):
            os._exit(143)

    thread = threading.Thread(target=follow, daemon=True)
    if HANGUP is not None:  # blocked where the sweep has started this process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sweep_is_gone(parent: str) -> bool:
    """Whether the sweep's process has died; jobs of Slurm go on without it."""
    process = multiprocessing.parent_process()
    if process is not None:  # of a fork server; it knows by a pipe
        return not process.is_alive()
    host, _, number = parent.rpartition("_")
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" or host != socket.gethostname():
        return False
    return not is_alive(int(number))


def _requeue(number: int) -> None:
    """Pass submitit's warning on once the run can be resumed; submitit may restart it."""
    if number == getattr(signal, "SIGUSR2", None) and callable(signal.getsignal(number)):
        with suppress(Exception):  # it was not to be started again
            signal.raise_signal(number)
