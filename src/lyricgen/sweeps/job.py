"""Processes of a sweep's jobs, which stop with the sweep."""

import gc
import importlib
import inspect
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
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
from lyricgen.runs.interruption import HANGUP, SIGNALS, Interrupted, Interruption, handle_signals
from lyricgen.threads import VARIABLES

SWEEP_POLL_SECONDS = 0.25  # between two looks at the sweep
SWEEP_STOP_SECONDS = 10.0  # time for a job of a killed sweep to stop after each of two signals
SWEEP = "LYRICGEN_SWEEP_PROCESS"  # environment variable: name of the sweep's process
# modules imported before a job is forked
PRELOADED = ["lyricgen.sweeps.task", "lyricgen.training.main", "lyricgen.training.results"]

_OWN_SIGNALS = tuple(signum for signum in SIGNALS if signum not in (signal.SIGINT, HANGUP))


def process_name() -> str:
    """Name this process by its host and pid."""
    return f"{socket.gethostname()}_{os.getpid()}"


def stop_file(sweep: Path, process: str) -> Path:
    """Return the path of the file that makes jobs on all machines stop.

    Args:
        sweep: directory of the sweep.
        process: name of the sweep's process.
    """
    return sweep / f".stop_{process}"


@contextmanager
def change_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Change environment variables until the block ends."""
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
    """Start the process from which jobs are forked, unless it runs already.

    The process imports the modules that every job needs. It has one thread, since other threads do
    not survive a fork. It blocks `SIGNALS`, which stay blocked in a job until the job can handle
    them.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # its start would unblock SIGINT and SIGTERM again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with change_environment(dict.fromkeys(VARIABLES, "1")):
            ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def create_job_process(
    launcher: Any, overrides: list[str], number: int, threads: int
) -> ForkServerProcess:
    """Create the process of a job without starting it; make sure that the fork server runs.

    Args:
        launcher: launcher with the configuration and the task.
        overrides: overrides of the job.
        number: number of the job.
        threads: number of threads of the job.
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
    """Run a job in its own new process, as Hydra's launcher does; an error is printed.

    Args:
        task: module and name of the function that runs a job.
        hydra: Hydra's context, configuration and singletons.
        job: overrides and number of the job.
        variables: environment of the process.
    """
    import torch  # noqa: PLC0415  only the process of a job needs it

    gc.freeze()  # a collection would copy the modules' pages, which all jobs share
    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(int(variables[VARIABLES[0]]))  # torch read the variable at its import
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
    except Exception as error:  # an error of the job itself is in its summary.json
        tell(f"job {number} did not begin: {reason(error)}")
        sys.exit(1)


def do_as_job(sweep: Path, job: Callable[[], float]) -> float:
    """Run a job of a sweep, in the sweep's own process or in another.

    A job in another process stops with the sweep and leaves the terminal to the sweep. It does not
    raise Interrupted, since a launcher would then stop the other jobs.

    Args:
        sweep: directory of the sweep.
        job: function that trains a model, and returns the figure by which the sweep compares jobs.

    Returns:
        The figure; infinity if the job was stopped, or did not begin because the sweep stops.

    Raises:
        Interrupted: a signal has stopped the sweep's own process.
    """
    parent = os.environ.get(SWEEP)
    if parent is None:
        return job()
    if stop_file(sweep, parent).exists():
        return math.inf
    get_console().quiet = True
    if threading.current_thread() is threading.main_thread():
        # the sweep answers Ctrl-C and a closed terminal, and stops its jobs
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if HANGUP is not None:
            signal.signal(HANGUP, lambda *_: leave_closed_terminal())
    try:
        with (
            handle_signals(_OWN_SIGNALS) as interruption,
            _watch_sweep(sweep, parent, interruption),
        ):
            return job()
    except Interrupted as stop:
        if _sweep_is_gone(parent):
            os._exit(143)  # a launcher's worker would wait for its next job
        _requeue(stop.number)
        return math.inf


@contextmanager
def _watch_sweep(sweep: Path, parent: str, interruption: Interruption) -> Iterator[None]:
    """Stop this process if the sweep stops while the block runs; a thread watches the sweep.

    If the sweep is gone and this process does not stop in time, the thread ends the process.

    Args:
        sweep: directory of the sweep.
        parent: name of the sweep's process.
        interruption: interruption of this process.
    """
    over = threading.Event()

    def stop_with_sweep() -> None:
        while not _sweep_is_gone(parent) and not stop_file(sweep, parent).exists():
            if over.wait(SWEEP_POLL_SECONDS):
                return
        if interruption.requested is None:  # a second signal would stop it at once
            os.kill(os.getpid(), signal.SIGTERM)
        while not _sweep_is_gone(parent):  # a living sweep stops its jobs itself
            if over.wait(SWEEP_POLL_SECONDS):
                return
        if not over.wait(SWEEP_STOP_SECONDS):
            os.kill(os.getpid(), signal.SIGTERM)
        if not over.wait(SWEEP_STOP_SECONDS):
            os._exit(143)

    thread = threading.Thread(target=stop_with_sweep, daemon=True)
    if HANGUP is not None:  # the sweep has started this process with blocked signals
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sweep_is_gone(parent: str) -> bool:
    """Whether the sweep's process has died; False on another machine and for jobs of Slurm."""
    process = multiprocessing.parent_process()
    # from the fork server, with a pipe to the sweep; loky's processes have no sentinel
    if process is not None and process.sentinel is not None:
        return not process.is_alive()
    host, _, pid = parent.rpartition("_")
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" or host != socket.gethostname():
        return False
    return not is_alive(int(pid))


def _requeue(signum: int) -> None:
    """Let submitit restart a job that has stopped after submitit's warning signal."""
    if signum == getattr(signal, "SIGUSR2", None) and callable(signal.getsignal(signum)):
        with suppress(Exception):  # submitit may refuse
            signal.raise_signal(signum)
