"""A trial as the job that carries it out sees it: what it searches, and whether it goes on."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict, Field

from lyricgen.runs.directories import number_of
from lyricgen.runs.record_files import RecordError, check
from lyricgen.runs.run import Run
from lyricgen.sweeps.search.options import StudyOptions, parse
from lyricgen.sweeps.search.space import describe
from lyricgen.sweeps.search.storage import build_pruner, open_storage, study_name

log = logging.getLogger(__name__)

# attributes of a trial: the number of its job, that one's directory, its overrides of its own
JOB, DIRECTORY, OVERRIDES = "job", "directory", "overrides"


def newest_trials(study: optuna.Study) -> dict[int, FrozenTrial]:
    """The trial of every job, by its number; the newest, where a failed one was repeated."""
    found = {}
    for trial in study.get_trials(deepcopy=False):
        if JOB in trial.user_attrs:  # else its process was killed before it said so
            try:
                found[check(_Attributes, trial.user_attrs).job] = trial
            except RecordError as error:
                _warn_of_trial(study.study_name, trial.number, str(error))
    return found


class _Attributes(BaseModel):
    model_config = ConfigDict(strict=True)

    job: int = Field(ge=0)
    directory: str = Field(pattern=r"^[0-9]+_[^/\x00]*$", max_length=255)
    overrides: list[str]


@cache
def _warn_of_trial(study: str, trial: int, why: str) -> None:
    log.warning("trial %d of %s is left out: %s", trial, study, why)


def trial_of(run: Run) -> "JobTrial":
    """The trial that a run is; the run then tells in its summary.json what is searched.

    Raises:
        UserError: the study cannot be reached.
    """
    number = number_of(run.directory)
    if run.search is None or run.sweep is None or number is None:
        raise ValueError(f"{run.directory} is no trial of a search")
    trial = JobTrial(parse(run.search), run.sweep, number)
    run.search_space = trial.search_space
    return trial


class JobTrial:
    """The trial of a job.

    Args:
        options: of the search.
        sweep: its directory.
        job: its number.
    """

    def __init__(self, options: StudyOptions, sweep: Path, job: int) -> None:
        self._storage = open_storage(options, sweep)
        self._study = optuna.load_study(
            study_name=study_name(options, sweep),
            storage=self._storage,
            sampler=RandomSampler(),  # proposes nothing here
            pruner=build_pruner(options.pruner),
        )
        self._id = newest_trials(self._study)[job]._trial_id

    @property
    def search_space(self) -> dict[str, dict[str, Any]]:
        """Description of the search, for summary.json."""
        return describe(self._now().distributions)

    def report(self, epoch: int, value: float) -> None:
        """Tell the study an epoch's value, once: after a resume it may be there already."""
        trial = self._now()
        if epoch not in trial.intermediate_values and not trial.state.is_finished():
            self._storage.set_trial_intermediate_value(self._id, epoch, value)

    def should_stop(self) -> bool:
        """Whether the pruner gives the trial up at the newest epoch that was reported."""
        return self._study.pruner.prune(self._study, self._now())

    def _now(self) -> FrozenTrial:
        return self._storage.get_trial(self._id)
