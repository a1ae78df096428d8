"""Jobs of a sweep, done by one of Hydra's launchers: one after another or side by side."""

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from lyricgen.errors import UserError, reason
from lyricgen.runs.directories import check_there
from lyricgen.runs.interruption import raise_if_requested, terminal_signals_blocked
from lyricgen.sweeps.job import SWEEP, changed_environment, process_name, start_fork_server
from lyricgen.sweeps.plan import jobs_in
from lyricgen.sweeps.watch import Batch, JobWatch
from lyricgen.training.threads import cores, threads_of_each

log = logging.getLogger(__name__)


def check_launcher(launcher: Any, wanted: int | None) -> None:
    """Check that a launcher can work here, before a sweep begins; it may already prepare.

    Args:
        launcher: Hydra's.
        wanted: jobs at a time; None for one a core.

    Raises:
        UserError: it cannot.
    """
    jobs_at_a_time(launcher, wanted, 1)
    kind = type(launcher).__name__
    if kind == "SlurmLauncher" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=slurm: this machine has no Slurm (srun is not found): start the "
            "sweep where it is, or choose hydra/launcher=processes"
        )
    if kind == "ProcessLauncher":
        start_fork_server()


def jobs_at_a_time(launcher: Any, wanted: int | None, jobs: int) -> int:
    """How many jobs run at the same time on this machine.

    Args:
        launcher: Hydra's.
        wanted: by the user; None for one a core.
        jobs: that there are.

    Raises:
        UserError: none is wanted.
    """
    kind = type(launcher).__name__
    if kind == "ProcessLauncher" and wanted is None:
        wanted = launcher.n_jobs
        if not isinstance(wanted, int) or isinstance(wanted, bool):
            raise UserError(f"hydra.launcher.n_jobs={wanted}: choose a whole number")
        if wanted < 0:  # counted down from all cores, which are -1
            wanted = max(1, cores() + 1 + wanted)
    if wanted is not None and wanted < 1:
        raise UserError(f"{wanted} jobs at a time: choose 1 or more, or leave it to the engine")
    if kind == "BasicLauncher":
        return 1
    return min(wanted or cores(), cores(), jobs)


def launch(
    launcher: Any,
    jobs: Batch,
    sweep: Path,
    wanted: int | None = None,
    jobs_in_all: int = 0,
) -> None:
    """Do jobs; one that fails or is killed stops no other where the launcher can help it.

    Args:
        launcher: Hydra's.
        jobs: of each its number and overrides.
        sweep: its directory.
        wanted: jobs at a time; None for one a core of this machine, on Ray for all, and on Slurm
            for as many as the launcher has.
        jobs_in_all: how many jobs the sweep has, so that a resumed one gives each as many threads
            as before.

    Raises:
        Interrupted: by Ctrl-C or another signal; all jobs have stopped.
        UserError: jobs cannot be done in such a number.
    """
    raise_if_requested()
    if not jobs:
        return
    kind = type(launcher).__name__
    local = jobs_at_a_time(launcher, wanted, max(jobs_in_all, len(jobs)))
    if kind == "BasicLauncher":
        _launch_here(launcher, jobs, sweep)
        return
    each = [[job] for job in jobs]  # since a launcher that loses one job forgets the others
    with changed_environment({SWEEP: process_name()}):
        if kind == "ProcessLauncher":
            JobWatch(launcher, each, sweep, threads_of_each(local)).run(local)
        elif kind == "RayLauncher":  # it has a queue and cores of its own
            _start_ray(launcher)
            JobWatch(launcher, each, sweep).run(min(wanted or len(jobs), len(jobs)))
        else:
            if kind == "SlurmLauncher" and wanted is not None:
                launcher.params["array_parallelism"] = wanted
            JobWatch(launcher, [jobs], sweep).run(1)


def launch_and_score(
    launcher: Any, job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Do jobs for a sweeper of another package, as Hydra's launchers do.

    Args:
        launcher: Hydra's.
        job_overrides: of each job.
        first: number of the first job.

    Returns:
        One float for each job; infinity for one that has no figure.
    """
    from lyricgen.training.results import score  # noqa: PLC0415  torch, which no other sweep needs

    sweep = Path(launcher.config.hydra.sweep.dir)
    sweep.mkdir(parents=True, exist_ok=True)
    launch(launcher, list(enumerate(map(list, job_overrides), first)), sweep)
    done = jobs_in(sweep)
    numbers = range(first, first + len(job_overrides))
    scores = [score(done[number][1]) if number in done else math.inf for number in numbers]
    return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in scores]


def _launch_here(launcher: Any, jobs: Batch, sweep: Path) -> None:
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
    """Start Ray once, before several threads ask the launcher to."""
    import ray  # noqa: PLC0415  an extra

    if not ray.is_initialized():
        with terminal_signals_blocked():
            options: Any = OmegaConf.to_container(launcher.ray_cfg.init, resolve=True)
            ray.init(**options)
