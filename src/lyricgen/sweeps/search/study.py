"""The study of a sweep: which trials are to be done, by whom, and what came of them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import check_distribution_compatibility
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from lyricgen.errors import UserError
from lyricgen.runs.listing import job_directory
from lyricgen.runs.lock import LOCK
from lyricgen.runs.summary import RunSummary, SweepSummary
from lyricgen.sweeps.plan import DONE, Job
from lyricgen.sweeps.search.options import ProposalOptions, StudyOptions
from lyricgen.sweeps.search.space import Space
from lyricgen.sweeps.search.storage import build_pruner, open_storage, study_name
from lyricgen.sweeps.search.trial import DIRECTORY, JOB, OVERRIDES, newest_trials
from lyricgen.training.results import score


class Study:
    """Optuna's study of a sweep, on which several processes may work.

    Whoever works on a trial holds a lock of its own, which the system frees when the process
    ends, however it does: a trial that is running and not locked was left behind. What is to be
    done is decided while `alone`.

    Args:
        options: of the search.
        directory: of the sweep.
        space: that is searched.

    Raises:
        UserError: no such storage, or the study has searched another space so far.
    """

    def __init__(self, options: StudyOptions, directory: Path, space: Space) -> None:
        self.options = options
        self.directory = directory
        self.space = space
        self.alone = FileLock(directory / ".study.lock")
        self._held: dict[int, FileLock] = {}
        with self.alone:
            self._study = optuna.create_study(
                study_name=study_name(options, directory),
                storage=open_storage(options, directory),
                direction=StudyDirection.MINIMIZE,
                pruner=build_pruner(options.pruner),
                load_if_exists=True,
            )
        trials = self._study.get_trials(deepcopy=False)
        earlier = SweepSummary.read_earlier(directory)
        if not trials and earlier is not None and earlier.jobs:
            raise UserError(
                f"{str(directory)!r} holds a sweep that this study knows nothing of: leave "
                "hydra.sweep.dir out, or give the hydra.sweeper.storage that it was begun with"
            )
        for trial in trials:
            _check_space(trial, space)

    @property
    def trials(self) -> dict[int, FrozenTrial]:
        """The trial of every job, by its number."""
        return newest_trials(self._study)

    @property
    def jobs(self) -> list[Job]:
        """All jobs so far."""
        return [self._job(trial) for trial in self.trials.values()]

    @property
    def best(self) -> FrozenTrial | None:
        """The trial of the lowest perplexity, once there is one."""
        done = [one for one in self.trials.values() if one.state == TrialState.COMPLETE]
        return min(done, key=lambda trial: trial.value or 0.0, default=None)

    @property
    def under_way(self) -> list[int]:
        """The numbers of the jobs that others work on."""
        return [n for n, trial in self.trials.items() if not trial.state.is_finished()]

    def take_up(self, *, failed: bool) -> list[Job]:
        """Jobs that others have left behind, and failed ones too if they are to be repeated."""
        found = []
        with self.alone:
            for number, trial in self.trials.items():
                repeat = failed and trial.state == TrialState.FAIL
                if not (repeat or trial.state == TrialState.RUNNING) or not self._claim(number):
                    continue
                if repeat:
                    self._study.add_trial(_repetition(trial))
                job = self._job(trial)
                if job.done:
                    self._tell(number)
                else:
                    found.append(job)
        return found

    def ask(self) -> list[Job]:
        """New jobs, one for each worker of this process, until the study has its trials."""
        with self.alone:
            there = len(self.trials)
            wanted = min(self.options.jobs_at_a_time, self.options.n_trials - there)
            return [self._ask(there + index) for index in range(wanted)]

    def tell(self, jobs: Iterable[Job]) -> None:
        """Tell Optuna what has come of jobs; the trials are then no longer this process's."""
        with self.alone:
            for job in jobs:
                self._tell(job.number)

    def release(self) -> None:
        """Leave what this process was at to others."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()

    def _ask(self, number: int) -> Job:
        self._study.sampler = build_sampler(self.options.sampler, number)
        trial = self._study.ask(self.space.distributions)
        name = job_directory(number, self.space.label(trial.params))
        trial.set_user_attr(OVERRIDES, self.space.searched(trial.params))
        trial.set_user_attr(DIRECTORY, name)
        trial.set_user_attr(JOB, number)
        self._claim(number)
        return self._job(self.trials[number])

    def _job(self, trial: FrozenTrial) -> Job:
        told, summary = trial.user_attrs, self._summary(trial)
        done = summary is not None and summary.status in DONE
        overrides = self.space.complete(told[OVERRIDES])
        return Job(told[JOB], overrides, told[DIRECTORY], summary is not None, done)

    def _summary(self, trial: FrozenTrial) -> RunSummary | None:
        return RunSummary.read_earlier(self.directory / trial.user_attrs[DIRECTORY])

    def _tell(self, job: int) -> None:
        trial = self.trials[job]
        summary = self._summary(trial)
        if summary is not None and summary.status == "finished":
            self._study.tell(trial.number, score(summary))
        else:
            pruned = summary is not None and summary.status == "pruned"
            self._study.tell(trial.number, state=TrialState.PRUNED if pruned else TrialState.FAIL)
        self._held.pop(job).release()

    def _claim(self, number: int) -> bool:
        """Take a trial, unless another process is at it, or its job goes on without one."""
        directory = self.directory / self.trials[number].user_attrs[DIRECTORY]
        lock = FileLock(self.directory / f".{number}.lock", blocking=False)
        try:
            lock.acquire()
            if directory.is_dir():
                with FileLock(directory / LOCK, blocking=False):
                    pass
        except Timeout:
            lock.release()
            return False
        self._held[number] = lock
        return True


def build_sampler(options: ProposalOptions, number: int) -> BaseSampler:
    """Who proposes the settings of a job: a pure function of the seed, its number and the past.

    With one generator for all, a resumed study would propose its first settings again.
    """
    seed = int(np.random.SeedSequence(options.seed, spawn_key=(number,)).generate_state(1)[0])
    if options.kind == "random":
        return RandomSampler(seed)
    return TPESampler(n_startup_trials=options.startup_trials, seed=seed)


def _repetition(trial: FrozenTrial) -> FrozenTrial:
    """A trial of the same job; Optuna keeps a failed one as it is."""
    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        intermediate_values=trial.intermediate_values,
    )


def _check_space(trial: FrozenTrial, space: Space) -> None:
    for name, distribution in space.distributions.items():
        if name in trial.distributions:
            try:
                check_distribution_compatibility(trial.distributions[name], distribution)
            except ValueError as error:
                raise UserError(
                    f"{space.dimensions[name].key}: the study has searched other values so far "
                    f"({error}): start a new sweep"
                ) from error
