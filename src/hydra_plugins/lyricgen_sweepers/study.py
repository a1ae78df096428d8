"""A search: Optuna proposes the settings of the next jobs from what came of those before."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from lyricgen.sweeps.search.space import Space


class StudySweeper(Sweeper):
    """Sweeper that runs the trials of a study, alone or beside other processes, and resumes it.

    Args:
        options: conf/hydra/sweeper/study.yaml says what they mean.
    """

    def __init__(self, **options: Any) -> None:
        self.options: Any = OmegaConf.to_container(OmegaConf.create(options), resolve=True)
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra has."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Do all trials.

        Raises:
            UserError: Optuna is not there, or cannot do what is asked of it.
            UnfinishedJobsError: some have failed or were killed.
        """
        # Hydra imports this module at every start
        from lyricgen.cli.resume_arguments import without_resume
        from lyricgen.errors import UserError
        from lyricgen.sweeps.engines import check_engine, launch
        from lyricgen.sweeps.sweep import Sweep

        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise UserError(
                "hydra/sweeper=study searches with Optuna: pip install 'lyricgen[optuna]'"
            ) from error
        from lyricgen.cli.typed_values import as_typed
        from lyricgen.sweeps.search.carry_out import carry_out
        from lyricgen.sweeps.search.options import parse
        from lyricgen.sweeps.search.study import Study

        assert self.config is not None
        assert self.launcher is not None
        launcher = self.launcher
        options = parse(self.options)
        check_engine(launcher, options.jobs_at_a_time)
        typed = without_resume(arguments)
        again = typed != arguments
        params = [f"{name}={value}" for name, value in options.params.items()]
        space = self._space([*as_typed(params, multirun=True), *typed])
        sweep = Sweep(Path(self.config.hydra.sweep.dir), typed, resume=True)
        study = Study(options, sweep.directory, space)
        with sweep.concluded():
            with study.alone:
                if again or not study.jobs:
                    sweep.begin(OmegaConf.to_yaml(self.config), study.jobs)
            size = options.jobs_at_a_time

            def do(jobs: list[tuple[int, list[str]]]) -> None:
                launch(launcher, jobs, sweep.directory, size, jobs_in_all=size)

            carry_out(study, sweep, do, failed=again)

    def _space(self, overrides: list[str]) -> "Space":
        """Read the search space; one composed corner shows mistakes before any trial."""
        from lyricgen.cli.composition import job_values
        from lyricgen.sweeps.plan import EPOCHS, refuse_shorter_search
        from lyricgen.sweeps.search.space import read_space
        from lyricgen.training.options import parse

        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        space = read_space(parser.parse_overrides(overrides))
        values = job_values(loader, self.config, [*space.fixed, *space.corner])
        parse(values)
        if EPOCHS not in space.dimensions:
            directory = Path(self.config.hydra.sweep.dir)
            refuse_shorter_search(directory, values["trainer"]["max_epochs"])
        return space
