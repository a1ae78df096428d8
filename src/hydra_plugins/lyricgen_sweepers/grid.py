"""A sweep over every combination of values: Hydra's own, with a record that can be resumed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from lyricgen.sweep import Wanted


@dataclass
class GridConfig:
    """Options of `hydra/sweeper=grid`.

    Attributes:
        params: keys and their values, as in "1,2,3"; what is typed wins.
        jobs_at_a_time: side by side on this machine; null: one a core.
    """

    _target_: str = "hydra_plugins.lyricgen_sweepers.grid.Grid"
    params: dict[str, str] = field(default_factory=dict)
    jobs_at_a_time: int | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", node=GridConfig, provider="lyricgen"
)


class Grid(BasicSweeper):
    """Does every combination of values once, and goes on with a sweep that has stopped."""

    def __init__(self, params: dict[str, str], jobs_at_a_time: int | None) -> None:
        super().__init__(max_batch_size=None, params=dict(params))
        self.jobs_at_a_time = jobs_at_a_time

    def sweep(self, arguments: list[str]) -> None:
        """Do all jobs.

        Raises:
            UserError: another process is at this sweep, or one is there and not to be resumed.
            UnfinishedJobsError: some have failed or were killed.
        """
        # Hydra imports this module at every start
        from lyricgen.engines import launch
        from lyricgen.resume_arguments import key
        from lyricgen.sweep import Sweep

        assert self.config is not None
        assert self.launcher is not None
        resume = any(key(one) == "resume" for one in arguments)
        typed = [one for one in arguments if key(one) != "resume"]
        wanted = self._compose(self._combinations([*self._parse_config(), *typed]))
        sweep = Sweep(Path(self.config.hydra.sweep.dir), typed, resume=resume)
        with sweep.claimed():
            jobs = sweep.plan(wanted)
            sweep.begin(OmegaConf.to_yaml(self.config), jobs)
            with sweep.concluded():
                left = [(job.number, sweep.arguments(job)) for job in jobs if not job.done]
                here = self.jobs_at_a_time
                launch(self.launcher, left, sweep.directory, here, of=len(jobs))

    def _combinations(self, arguments: list[str]) -> list[list[str]]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        [combinations] = self.split_arguments(parser.parse_overrides(arguments), None)
        return combinations

    def _compose(self, combinations: list[list[str]]) -> "list[Wanted]":
        from lyricgen.composition import job_values
        from lyricgen.console import progress
        from lyricgen.sweep import Wanted, named_by

        assert self.config is not None
        assert self.hydra_context is not None
        left_out = self.config.hydra.job.config.override_dirname.exclude_keys
        names = named_by(combinations, [*left_out, "resume"])
        wanted = []
        with progress("composing the jobs", len(combinations)) as moved:
            for overrides, name in zip(combinations, names, strict=True):
                values = job_values(self.hydra_context.config_loader, self.config, overrides)
                wanted.append(Wanted(overrides, name, values))
                moved(len(wanted))
        return wanted
