"""Sweepers and a launcher for Hydra.

Hydra imports this module at every start, so the methods import `lyricgen.sweeps` when they need it.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class OptionsSweeper(Sweeper):
    """Sweeper that keeps its own options as plain values, and what Hydra gives it.

    Args:
        options: settings of conf/hydra/sweeper/.
    """

    config: Any

    def __init__(self, **options: Any) -> None:
        self.options: Any = OmegaConf.to_container(OmegaConf.create(options), resolve=True)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the configuration and Hydra's loader of configurations, and build the launcher."""
        self.loader = hydra_context.config_loader
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )


class Grid(OptionsSweeper):
    """Sweeper that runs every combination of values once, and resumes a stopped sweep."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all jobs and return the directory; see `sweep_grid`, also for its errors."""
        from lyricgen.sweeps.grid import sweep_grid

        sweep_grid(self, arguments)
        return self.config.hydra.sweep.dir


class StudySweeper(OptionsSweeper):
    """Sweeper that runs or resumes the trials of a study; several processes may share a study."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all trials and return the directory; see `sweep_study`, also for its errors.

        Raises:
            UserError: Optuna is not installed.
        """
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            from lyricgen.errors import UserError

            raise UserError(
                "hydra/sweeper=study searches with Optuna: pip install 'lyricgen[optuna]'"
            ) from error
        from lyricgen.sweeps.search.study import sweep_study

        sweep_study(self, arguments)
        return self.config.hydra.sweep.dir


class ProcessLauncher(Launcher):
    """Launcher that runs jobs side by side, each in a fresh process of this machine.

    Args:
        n_jobs: number of jobs at a time, at most one a core; -1: all cores, -2: all cores but one.
    """

    def __init__(self, n_jobs: int = -1) -> None:
        self.n_jobs = n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep Hydra's context, the task and the configuration."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs for a sweeper of another package; see `launch_and_score`, also for errors."""
        from lyricgen.sweeps.launch import launch_and_score

        return launch_and_score(self, job_overrides, initial_job_idx)
