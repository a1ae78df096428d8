"""Launch of a sweep's jobs by one of Hydra's launchers."""

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
from lyricgen.runs.summary import score
from lyricgen.sweeps.job import SWEEP, change_environment, process_name, start_fork_server
from lyricgen.sweeps.sweep import find_failure, jobs_in, stopped_by
from lyricgen.sweeps.watch import Jobs, JobWatch, LauncherWatch, ProcessWatch, SlurmWatch
from lyricgen.threads import cores, threads_of_each

log = logging.getLogger(__name__)


def check_launcher(launcher: Any, at_a_time: int | None) -> None:
    """Check that a launcher works on this machine, and start the fork server if it needs one.

    Args:
        launcher: launcher of Hydra.
        at_a_time: number of jobs at a time; None for the launcher's own number.

    Raises:
        UserError: the launcher needs Slurm, which is missing, or the launcher's own number of jobs
            is wrong.
    """
    jobs_at_a_time(launcher, at_a_time, 1)
    kind = type(launcher).__name__
    if kind == "SlurmLauncher" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=slurm: this machine has no Slurm (srun is not found): start the "
            "sweep where it is, or choose hydra/launcher=processes"
        )
    if kind == "ProcessLauncher":
        start_fork_server()


def jobs_at_a_time(launcher: Any, at_a_time: int | None, jobs: int) -> int:
    """Count the jobs of a sweep that run at the same time on this machine, at most one a core.

    Args:
        launcher: launcher of Hydra.
        at_a_time: number of jobs at a time; None for the launcher's own number, else one a core.
        jobs: number of all jobs.

    Raises:
        UserError: the launcher's own number of jobs is wrong.
    """
    kind = type(launcher).__name__
    if kind == "ProcessLauncher" and at_a_time is None:
        at_a_time = launcher.n_jobs
        if not isinstance(at_a_time, int) or isinstance(at_a_time, bool):
            raise UserError(f"hydra.launcher.n_jobs={at_a_time}: choose a whole number")
        if at_a_time == 0:
            raise UserError("hydra.launcher.n_jobs=0: choose 1 or more, or -1 for one job a core")
        if at_a_time < 0:  # -1 means all cores, -2 all but one
            at_a_time = max(1, cores() + 1 + at_a_time)
    return 1 if kind == "BasicLauncher" else min(at_a_time or cores(), cores(), jobs)


def launch(
    launcher: Any,
    jobs: Jobs,
    sweep: Path,
    at_a_time: int | None = None,
    *,
    sharing: int = 0,
    fail_fast: bool = False,
) -> None:
    """Run jobs; if the launcher allows it, a job that fails or is killed stops no other job.

    Args:
        launcher: launcher of Hydra.
        jobs: number and overrides of each job.
        sweep: directory of the sweep.
        at_a_time: number of jobs at a time for processes, Ray and Slurm; None for the launcher's
            own number, or all jobs on Ray.
        sharing: number of all jobs of the sweep, so that the rest of a resumed grid, or the last
            trials of a search, get no more threads each than the jobs before them.
        fail_fast: whether the first job that fails, is killed or does not begin stops all jobs.

    Raises:
        Interrupted: Ctrl-C or another signal came; all jobs have stopped.
        UserError: the launcher's own number of jobs is wrong, or the sweep's directory is gone.
        UnfinishedJobsError: with `fail_fast`, a job has stopped all jobs.
    """
    raise_if_requested()
    if not jobs:
        return
    kind = type(launcher).__name__
    local = jobs_at_a_time(launcher, at_a_time, max(sharing, len(jobs)))
    if kind == "BasicLauncher":
        _launch_here(launcher, jobs, sweep, fail_fast=fail_fast)
        return
    with change_environment({SWEEP: process_name()}):
        batches = 1  # at a time
        if kind == "ProcessLauncher":
            batches = local
            watch: JobWatch = ProcessWatch(launcher, jobs, sweep, threads_of_each(local))
        elif kind == "RayLauncher":  # Ray forgets the rest of a batch of which it loses a job
            _start_ray(launcher)
            batches = min(at_a_time or len(jobs), len(jobs))
            watch = LauncherWatch(launcher, [[job] for job in jobs], sweep)
        elif kind == "SlurmLauncher":
            if at_a_time is not None:
                launcher.params["array_parallelism"] = at_a_time
            watch = SlurmWatch(launcher, [jobs], sweep)
        else:
            watch = LauncherWatch(launcher, [jobs], sweep)
        watch.run(batches, fail_fast=fail_fast)


def _start_ray(launcher: Any) -> None:
    import ray  # noqa: PLC0415  an extra

    if not ray.is_initialized():  # once, before several threads would do it
        with terminal_signals_blocked():
            options: Any = OmegaConf.to_container(launcher.ray_cfg.init, resolve=True)
            ray.init(**options)


def launch_and_score(
    launcher: Any, job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Run jobs for a sweeper of another package; their numbers start at `first`.

    Returns:
        A JobReturn for each job with its perplexity as value, or infinity if it has none.

    Raises:
        Interrupted: Ctrl-C or another signal came; all jobs have stopped.
        UserError: the launcher's own number of jobs is wrong.
    """
    sweep = Path(launcher.config.hydra.sweep.dir)
    sweep.mkdir(parents=True, exist_ok=True)
    launch(launcher, list(enumerate(map(list, job_overrides), first)), sweep)
    done = jobs_in(sweep)
    numbers = range(first, first + len(job_overrides))
    scores = [score(done[number][1]) if number in done else math.inf for number in numbers]
    returned = [JobReturn(status=JobStatus.COMPLETED) for _ in scores]
    for each, value in zip(returned, scores, strict=True):
        each.return_value = value
    return returned


def _launch_here(launcher: Any, jobs: Jobs, sweep: Path, *, fail_fast: bool) -> None:
    """Run jobs one by one in the main thread, which gets the signals.

    The launcher is called for each job by itself, since it keeps the results of all jobs of a call.
    """
    for number, overrides in jobs:
        check_there(sweep)
        failure = None
        try:
            launcher.launch([overrides], number)
        except Exception as error:  # an error of the job itself is in its summary.json
            raise_if_requested()  # a signal may have kept the job from beginning
            failure = f"job {number} did not begin: {reason(error)}"
            log.warning("%s", failure)
        raise_if_requested()
        if fail_fast and (failure := failure or find_failure(sweep, number)):
            raise stopped_by(failure)
