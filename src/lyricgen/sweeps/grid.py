"""A sweep over every combination of values, with a record that can be resumed."""

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lyricgen.cli.composition import job_values
from lyricgen.cli.resume_arguments import without_resume
from lyricgen.cli.typed_values import as_typed
from lyricgen.console import progress, show
from lyricgen.options import Options, validate
from lyricgen.runs.directories import claimed
from lyricgen.sweeps.launch import check_launcher, launch
from lyricgen.sweeps.plan import PlannedJob, named_by, plan
from lyricgen.sweeps.sweep import Sweep


class GridOptions(Options):
    """Options of `hydra.sweeper.` where hydra/sweeper=grid."""

    jobs_at_a_time: int | None
    params: dict[str, Any]


def sweep_grid(sweeper: Any, arguments: list[str]) -> None:
    """Do every combination of values once.

    Args:
        sweeper: Hydra's plugin, with what Hydra has told it.
        arguments: overrides that were typed.

    Raises:
        UserError: another process is at this sweep, one is there and not to be resumed, or jobs
            cannot be done in such a number.
        UnfinishedJobsError: some have failed or were killed.
    """
    typed = without_resume(arguments)
    options: GridOptions = validate(GridOptions, sweeper.options, "hydra.sweeper.")
    at_a_time = options.jobs_at_a_time
    check_launcher(sweeper.launcher, at_a_time)
    params = [f"{name}={value}" for name, value in options.params.items()]
    wanted = _compose_jobs(sweeper, [*as_typed(params, multirun=True), *typed])
    sweep = Sweep(Path(sweeper.config.hydra.sweep.dir), typed, resume=typed != arguments)
    with claimed(sweep.directory):
        jobs = plan(sweep.directory, wanted)
        with sweep.conclusion():
            sweep.begin(OmegaConf.to_yaml(sweeper.config), jobs)
            done = sum(job.done for job in jobs)
            if done:
                show(f"{done} of {len(jobs)} jobs are done")
            left = [(job.number, sweep.arguments(job)) for job in jobs if not job.done]
            launch(sweeper.launcher, left, sweep.directory, at_a_time, jobs_in_all=len(jobs))


def _compose_jobs(sweeper: Any, overrides: list[str]) -> list[PlannedJob]:
    """Compose the configuration of every combination of the overrides' values."""
    parsed = OverridesParser.create(config_loader=sweeper.loader).parse_overrides(overrides)
    [combinations] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    left_out = sweeper.config.hydra.job.config.override_dirname.exclude_keys
    wanted = []
    with progress("composing the jobs", len(combinations)) as moved:
        for own, name in zip(combinations, named_by(combinations, left_out), strict=True):
            values = job_values(sweeper.loader, sweeper.config, own)
            wanted.append(PlannedJob(own, name, values))
            moved(len(wanted))
    return wanted
