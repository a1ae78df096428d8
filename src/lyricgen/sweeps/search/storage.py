"""Options, storage and trials of a search."""

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from lyricgen.data.options import Seed
from lyricgen.errors import UserError
from lyricgen.files import NOT_ORDINARY, expand_home
from lyricgen.options import Options, validate
from lyricgen.runs.directories import STUDY, read_number
from lyricgen.runs.record_files import RecordError, check
from lyricgen.runs.run import Run
from lyricgen.sweeps.search.space import describe

log = logging.getLogger(__name__)

# attributes of a trial: the number of its job, the job's directory and overrides
JOB, DIRECTORY, OVERRIDES = "job", "directory", "overrides"


class ProposalOptions(Options):
    """Options of the sampler, `hydra.sweeper.sampler.`, which proposes the settings of a trial."""

    kind: Literal["tpe", "random"]
    seed: Seed
    startup_trials: NonNegativeInt


class PrunerOptions(Options):
    """Options of the pruner, `hydra.sweeper.pruner.`, which stops trials early."""

    enabled: bool
    startup_trials: NonNegativeInt
    warmup_epochs: NonNegativeInt

    def build(self) -> BasePruner:
        """Build the median pruner, or a pruner that stops nothing if `enabled` is false.

        The steps of the pruner are epochs, counted from 1.
        """
        if not self.enabled:
            return NopPruner()
        return MedianPruner(self.startup_trials, n_warmup_steps=self.warmup_epochs + 1)


class StudyOptions(Options):
    """Options of `hydra.sweeper.` with hydra/sweeper=study."""

    n_trials: PositiveInt
    jobs_at_a_time: PositiveInt
    fail_fast: bool
    storage: str | None = Field(min_length=1)
    sampler: ProposalOptions
    pruner: PrunerOptions
    params: dict[str, Any]

    def study_name(self, sweep: Path) -> str:
        """Name the study; use the name of the directory if the storage may hold other studies."""
        return "study" if self.storage is None else sweep.name


def parse(values: dict[str, Any]) -> StudyOptions:
    """Check the options of a search.

    Raises:
        UserError: an option is wrong; the message names the first wrong option.
    """
    options: StudyOptions = validate(StudyOptions, values, "hydra.sweeper.")
    return options


class JournalLock(JournalFileOpenLock):
    """Lock of a journal; the system releases it when the process ends, even by a kill.

    Optuna's own locks remain after a kill, and keep other processes waiting for 30 seconds.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._lock = FileLock(journal.with_name(f".{journal.name}.lock"))

    def acquire(self) -> bool:
        """Wait for the lock; then remove a line that a killed process left incomplete."""
        self._lock.acquire()
        with self._journal.open("rb+") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            if stream.read() not in (b"", b"\n"):
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


def open_storage(options: StudyOptions, sweep: Path) -> BaseStorage:
    """Open the storage of a sweep's study, or create it if there is none.

    Raises:
        UserError: the storage cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where = options.storage
    try:
        if where is not None and "://" in where:
            return get_storage(where)
        journal = (sweep / STUDY if where is None else expand_home(where)).resolve()
        if journal.exists() and not journal.is_file():
            raise ValueError(NOT_ORDINARY)
        journal.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(journal), JournalLock(journal)))
    except Exception as error:  # each database has its own errors
        raise UserError(
            f"hydra.sweeper.storage={where}: it cannot be opened as a study's storage "
            f"({type(error).__name__}: {error}): name a file, or a URL as sqlite:///study.db"
        ) from error


class _Attributes(BaseModel):
    model_config = ConfigDict(strict=True)

    job: int = Field(ge=0)
    directory: str = Field(pattern=r"^[0-9]+_[^/\x00]*$", max_length=255)
    overrides: list[str]


def newest_trials(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Find the newest trial of every job, by the job's number.

    A trial with damaged attributes is left out, and a warning names it.

    Raises:
        UserError: the storage lacks the study.
    """
    found = {}
    try:
        trials = study.get_trials(deepcopy=False)
    except KeyError as error:
        raise _missing_study_error(study.study_name) from error
    for trial in trials:
        if JOB in trial.user_attrs:  # missing if the process was killed before it set the number
            try:
                found[check(_Attributes, trial.user_attrs).job] = trial
            except RecordError as error:
                _warn_of_trial(study.study_name, trial.number, str(error))
    return found


def _missing_study_error(study: str, job: int | None = None) -> UserError:
    trial = "" if job is None else f"the trial of job {job} of "
    return UserError(
        f"{trial}the study {study!r} is not in its storage: bring the storage back, or start a new "
        "sweep"
    )


@cache
def _warn_of_trial(study: str, trial: int, why: str) -> None:
    log.warning("trial %d of %s is left out: %s", trial, study, why)


class JobTrial:
    """Trial of one job in the study of a search.

    Args:
        options: options of the search.
        sweep: directory of the sweep.
        job: number of the job.

    Raises:
        UserError: the storage cannot be opened, or it lacks the study or the trial; also by each
            method, if the trial is gone from the storage.
    """

    def __init__(self, options: StudyOptions, sweep: Path, job: int) -> None:
        self._storage = open_storage(options, sweep)
        self._name, self._job = options.study_name(sweep), job
        try:
            self._study = optuna.load_study(
                study_name=self._name,
                storage=self._storage,
                sampler=RandomSampler(),  # unused: the trial has its settings
                pruner=options.pruner.build(),
            )
            number = newest_trials(self._study)[job].number
            study = self._storage.get_study_id_from_name(self._name)
            self._id = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        except KeyError as error:
            raise _missing_study_error(self._name, job) from error

    @property
    def search_space(self) -> dict[str, dict[str, Any]]:
        """Description of the search space, for summary.json."""
        return describe(self._read_trial().distributions)

    def report(self, epoch: int, value: float) -> None:
        """Report the value of an epoch, unless it was reported before or the trial has ended."""
        trial = self._read_trial()
        if epoch not in trial.intermediate_values and not trial.state.is_finished():
            self._storage.set_trial_intermediate_value(self._id, epoch, value)

    def should_stop(self) -> bool:
        """Whether the pruner stops the trial at the last reported epoch."""
        return self._study.pruner.prune(self._study, self._read_trial())

    def _read_trial(self) -> FrozenTrial:
        try:
            return self._storage.get_trial(self._id)
        except KeyError as error:
            raise _missing_study_error(self._name, self._job) from error


def find_trial(run: Run) -> JobTrial:
    """Find the trial of a run.

    Raises:
        UserError: an option of the search is wrong, the storage cannot be opened, or it lacks the
            trial.
        ValueError: the run is not a trial.
    """
    number = read_number(run.directory)
    if run.search is None or run.sweep is None or number is None:
        raise ValueError(f"{run.directory} is no trial of a search")
    return JobTrial(parse(run.search), run.sweep, number)
