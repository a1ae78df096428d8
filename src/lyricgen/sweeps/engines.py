"""Engines: a sweep's jobs done by one of Hydra's launchers, one after another or side by side."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from lyricgen.errors import UserError, reason
from lyricgen.runs.interruption import raise_if_requested, terminal_signals_blocked
from lyricgen.runs.listing import check_there
from lyricgen.sweeps.job_process import job_environment
from lyricgen.sweeps.job_watch import JobWatch
from lyricgen.training.threads import cores, shared_by

log = logging.getLogger(__name__)


def launch(
    launcher: Any,
    jobs: Sequence[tuple[int, list[str]]],
    sweep: Path,
    at_a_time: int | None = None,
    jobs_in_all: int = 0,
) -> None:
    """Do jobs; one that fails or is killed stops no other where the engine can help it.

    Args:
        launcher: Hydra's; its class tells the engine.
        jobs: of each its number and overrides.
        sweep: its directory.
        at_a_time: how many jobs are to run side by side; None for one a core of this machine, on
            Ray for all, and on Slurm for as many as the launcher has.
        jobs_in_all: how many jobs the sweep has, so that a resumed one gives each as many threads
            as before.

    Raises:
        Interrupted: by Ctrl-C or another signal; all jobs have stopped.
        UserError: jobs cannot be done in such a number.
    """
    raise_if_requested()
    if not jobs:
        return
    engine, wanted = type(launcher).__name__, at_a_time
    at_a_time = side_by_side(launcher, wanted, max(jobs_in_all, len(jobs)))
    if engine == "JoblibLauncher":
        launcher.joblib["n_jobs"] = at_a_time
    if engine == "SlurmLauncher" and wanted is not None:
        launcher.params["array_parallelism"] = wanted
    if at_a_time == 1 and engine in ("BasicLauncher", "JoblibLauncher"):
        _do_here(launcher, jobs, sweep)
        return
    if engine == "RayLauncher":
        at_a_time = min(wanted or len(jobs), len(jobs))  # Ray has a queue and cores of its own
        _start_ray(launcher)
    # one by one, since a launcher that loses one job forgets the others
    each = engine in ("LocalLauncher", "RayLauncher")
    batches = [[job] for job in jobs] if each else [list(jobs)]
    with ExitStack() as stack:
        if engine in ("JoblibLauncher", "LocalLauncher"):
            stack.enter_context(shared_by(at_a_time))
        stack.enter_context(job_environment())
        JobWatch(launcher, batches, sweep).carry_out(at_a_time if each else 1)


def check_engine(launcher: Any, wanted: int | None) -> None:
    """See that an engine can work here, before a sweep begins.

    Args:
        launcher: Hydra's.
        wanted: jobs at a time; None for one a core.

    Raises:
        UserError: it cannot.
    """
    side_by_side(launcher, wanted, 1)
    if type(launcher).__name__ == "SlurmLauncher" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=slurm: this machine has no Slurm (srun is not found): start the "
            "sweep where it is, or choose hydra/launcher=processes"
        )


def side_by_side(launcher: Any, wanted: int | None, jobs: int) -> int:
    """How many jobs an engine runs at the same time on this machine.

    Args:
        launcher: Hydra's.
        wanted: by the user; None for one a core.
        jobs: that there are.

    Raises:
        UserError: none is wanted.
    """
    engine = type(launcher).__name__
    if engine == "JoblibLauncher" and wanted is None:
        wanted = launcher.joblib["n_jobs"]
        if wanted < 0:  # counted down from all cores, which are -1
            wanted = max(1, cores() + 1 + wanted)
    if wanted is not None and wanted < 1:
        raise UserError(f"{wanted} jobs at a time: choose 1 or more, or leave it to the engine")
    if engine == "BasicLauncher":
        return 1
    return min(wanted or cores(), cores(), jobs)


def _do_here(launcher: Launcher, jobs: Sequence[tuple[int, list[str]]], sweep: Path) -> None:
    """Do jobs in this thread, which alone has signals; one by one, so that no result is kept."""
    for number, overrides in jobs:
        check_there(sweep)
        try:
            launcher.launch([overrides], number)
        except Exception as error:  # what the job itself did is in its summary.json
            raise_if_requested()  # which may be what has kept the job from beginning
            log.warning("job %d did not begin: %s", number, reason(error))
        raise_if_requested()


def _start_ray(launcher: Any) -> None:
    """Once, before several threads ask the launcher to; with what the sweep hands on."""
    import ray  # noqa: PLC0415  an extra

    if not ray.is_initialized():
        with job_environment(), terminal_signals_blocked():
            options: Any = OmegaConf.to_container(launcher.ray_cfg.init, resolve=True)
            ray.init(**options)
