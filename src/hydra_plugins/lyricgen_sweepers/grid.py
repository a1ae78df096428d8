"""A sweep over every combination of values: Hydra's own, with a record that can be resumed."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from lyricgen.sweeps.plan import PlannedJob


class Grid(BasicSweeper):
    """Does every combination of values once, and goes on with a sweep that has stopped."""

    def __init__(self, params: dict[str, str], jobs_at_a_time: int | None) -> None:
        super().__init__(max_batch_size=None, params=dict(params))
        self.jobs_at_a_time = jobs_at_a_time

    def sweep(self, arguments: list[str]) -> None:
        """Do all jobs.

        Raises:
            UserError: another process is at this sweep, one is there and not to be resumed, or
                jobs cannot be done in such a number.
            UnfinishedJobsError: some have failed or were killed.
        """
        # Hydra imports this module at every start
        from lyricgen.cli.resume_arguments import without_resume
        from lyricgen.cli.typed_values import as_typed
        from lyricgen.console import show
        from lyricgen.runs.lock import claimed
        from lyricgen.sweeps.engines import check_engine, launch
        from lyricgen.sweeps.plan import plan
        from lyricgen.sweeps.sweep import Sweep

        assert self.config is not None
        assert self.launcher is not None
        typed = without_resume(arguments)
        check_engine(self.launcher, self.jobs_at_a_time)
        params = as_typed(self._parse_config(), multirun=True)
        wanted = self._compose(self._combinations([*params, *typed]))
        sweep = Sweep(Path(self.config.hydra.sweep.dir), typed, resume=typed != arguments)
        with claimed(sweep.directory):
            jobs = plan(sweep.directory, wanted)
            with sweep.concluded():
                sweep.begin(OmegaConf.to_yaml(self.config), jobs)
                done = sum(job.done for job in jobs)
                if done:
                    show(f"{done} of {len(jobs)} jobs are done")
                left = [(job.number, sweep.arguments(job)) for job in jobs if not job.done]
                number = self.jobs_at_a_time
                launch(self.launcher, left, sweep.directory, number, jobs_in_all=len(jobs))

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        [combinations] = self.split_arguments(parser.parse_overrides(arguments), None)
        return combinations

    def _compose(self, combinations: list[list[str]]) -> "list[PlannedJob]":
        from lyricgen.cli.composition import job_values
        from lyricgen.console import progress
        from lyricgen.sweeps.plan import PlannedJob, named_by

        assert self.config is not None
        assert self.hydra_context is not None
        left_out = self.config.hydra.job.config.override_dirname.exclude_keys
        names = named_by(combinations, left_out)
        wanted = []
        with progress("composing the jobs", len(combinations)) as moved:
            for overrides, name in zip(combinations, names, strict=True):
                values = job_values(self.hydra_context.config_loader, self.config, overrides)
                wanted.append(PlannedJob(overrides, name, values))
                moved(len(wanted))
        return wanted
