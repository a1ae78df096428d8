"""Options of `hydra.sweeper.` where hydra/sweeper=study."""

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from lyricgen.data.options import Seed
from lyricgen.options import Options, validate


class ProposalOptions(Options):
    """Options of `hydra.sweeper.sampler.`: who proposes the settings of a trial."""

    kind: Literal["tpe", "random"]
    seed: Seed
    startup_trials: NonNegativeInt


class PrunerOptions(Options):
    """Options of `hydra.sweeper.pruner.`: which trials are stopped early."""

    enabled: bool
    startup_trials: NonNegativeInt
    warmup_epochs: NonNegativeInt


class StudyOptions(Options):
    """Options of `hydra.sweeper.`."""

    n_trials: PositiveInt
    jobs_at_a_time: PositiveInt
    storage: str | None = Field(min_length=1)
    sampler: ProposalOptions
    pruner: PrunerOptions
    params: dict[str, Any]


def parse(values: dict[str, Any]) -> StudyOptions:
    """Check the options of a search.

    Raises:
        UserError: the first wrong one, and what is wrong with it.
    """
    options: StudyOptions = validate(StudyOptions, values, "hydra.sweeper.")
    return options
