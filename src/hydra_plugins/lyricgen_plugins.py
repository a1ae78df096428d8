"""Plugins of lyricgen for Hydra, which finds them by this place and imports them at every start.

Each leaves its work to `lyricgen.sweeps`, which is imported where it is needed.
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
    """Sweeper that holds what Hydra has, and its own options as plain values.

    Args:
        options: conf/hydra/sweeper/ says what they mean.
    """

    def __init__(self, **options: Any) -> None:
        self.options: Any = OmegaConf.to_container(OmegaConf.create(options), resolve=True)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra has."""
        self.loader = hydra_context.config_loader
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )


class Grid(OptionsSweeper):
    """Sweeper that does every combination of values once, and resumes a sweep that has stopped."""

    def sweep(self, arguments: list[str]) -> None:
        """Do all jobs; see `sweep_grid`."""
        from lyricgen.sweeps.grid import sweep_grid

        sweep_grid(self, arguments)


class StudySweeper(OptionsSweeper):
    """Sweeper that runs the trials of a study, alone or beside other processes, and resumes it."""

    def sweep(self, arguments: list[str]) -> None:
        """Do all trials; see `sweep_study`.

        Raises:
            UserError: Optuna is not there.
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


class ProcessLauncher(Launcher):
    """Launcher that does jobs side by side, each in a fresh process of this machine.

    Args:
        n_jobs: jobs at a time; -1 for one a core, -2 for all cores but one.
    """

    def __init__(self, n_jobs: int = -1) -> None:
        self.n_jobs = n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra has."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Do jobs for a sweeper of another package; see `launch_and_score`."""
        from lyricgen.sweeps.launch import launch_and_score

        return launch_and_score(self, job_overrides, initial_job_idx)
