"""A search with Optuna: the study proposes trials and learns their results."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import check_distribution_compatibility
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from lyricgen.cli.composition import job_values
from lyricgen.console import format_figure, show
from lyricgen.errors import UserError
from lyricgen.runs.directories import LOCK, job_directory
from lyricgen.runs.interruption import raise_if_requested
from lyricgen.runs.summary import RunSummary, SweepSummary, perplexity_name, score
from lyricgen.settings import flatten
from lyricgen.sweeps.launch import check_launcher, launch
from lyricgen.sweeps.search.space import Space, read_space
from lyricgen.sweeps.search.storage import (
    DIRECTORY,
    JOB,
    OVERRIDES,
    ProposalOptions,
    StudyOptions,
    newest_trials,
    open_storage,
    parse,
)
from lyricgen.sweeps.sweep import (
    DONE,
    EPOCHS,
    Job,
    Sweep,
    jobs_in,
    read_arguments,
    refuse_fewer_epochs,
)
from lyricgen.sweeps.watch import POLL_SECONDS
from lyricgen.training import options as training


def sweep_study(sweeper: Any, arguments: list[str]) -> None:
    """Run the trials of a search until the study is complete.

    Args:
        sweeper: Hydra's sweeper, with its options.
        arguments: overrides of the command line.

    Raises:
        UserError: an option or the search space is wrong, the study does not fit the directory or
            the space, the storage cannot be used, or the end of the sweep cannot be recorded.
        OSError: the directory cannot be used, or the jobs cannot be recorded.
        HydraException: an override cannot be read, or a trial cannot be composed.
        UnfinishedJobsError: some trials failed or were killed; with `fail_fast` at the first.
        Interrupted: Ctrl-C or another signal came; all jobs have stopped.
    """
    options = parse(sweeper.options)
    size, fail_fast = options.jobs_at_a_time, options.fail_fast
    check_launcher(sweeper.launcher, size)
    typed, overrides, resume = read_arguments(arguments, options.params)
    parser = OverridesParser.create(config_loader=sweeper.loader)
    space = read_space(parser.parse_overrides(overrides))
    _check_settings(sweeper, space)
    sweep = Sweep(Path(sweeper.config.hydra.sweep.dir), typed, resume=True)
    study = Study(options, sweep.directory, space)

    def do_batch(batch: list[Job]) -> None:
        jobs = [(job.number, sweep.arguments(job)) for job in batch]
        launch(sweeper.launcher, jobs, sweep.directory, size, sharing=size, fail_fast=fail_fast)

    with sweep.conclusion():
        with study.lock:
            if resume or not study.jobs:
                sweep.begin(OmegaConf.to_yaml(sweeper.config), study.jobs)
        run_trials(study, sweep, do_batch, repeat_failed=resume)


def _check_settings(sweeper: Any, space: Space) -> None:
    """Check the settings of one trial, and the number of epochs of a resumed search.

    Raises:
        UserError: a setting is wrong, or earlier trials had more epochs.
    """
    values = job_values(sweeper.loader, sweeper.config, [*space.fixed, *space.corner])
    training.parse(values)
    epochs = values["trainer"]["max_epochs"]
    if isinstance(epochs, int) and EPOCHS not in space.dimensions:  # neither auto nor searched
        there = jobs_in(Path(sweeper.config.hydra.sweep.dir)).values()
        lengths = (flatten(summary.options or {}).get(EPOCHS) for _, summary in there)
        begun = max((each for each in lengths if isinstance(each, int)), default=0)
        advice = f"choose {begun} or more, or start a new sweep"
        refuse_fewer_epochs(epochs, begun, "the trials so far were begun for", advice)


def run_trials(
    study: "Study", sweep: Sweep, do_batch: Callable[[list[Job]], None], *, repeat_failed: bool
) -> None:
    """Run trials until the study is complete; trials of other processes count.

    Args:
        study: study that proposes the trials.
        sweep: sweep that records the trials.
        do_batch: function that runs some jobs, and returns when they have ended.
        repeat_failed: whether to run failed trials again.

    Raises:
        UserError: the storage lacks the study, or the sweep's directory is gone.
        OSError: the jobs cannot be recorded.
        Interrupted: Ctrl-C or another signal came; this process has released its trials.
    """
    waiting: list[int] = []
    jobs = study.resume_trials(failed=repeat_failed)
    try:
        while True:
            raise_if_requested()
            jobs = jobs or study.ask() or study.resume_trials(failed=False)
            if jobs:
                size = study.options.jobs_at_a_time
                batch, jobs = jobs[:size], jobs[size:]
                with study.lock:
                    sweep.add(study.jobs)
                do_batch(batch)
                study.tell(batch)
            elif unfinished := study.unfinished:
                if unfinished != waiting:
                    show(f"waiting for other processes with job {', '.join(map(str, unfinished))}")
                waiting = unfinished
                time.sleep(POLL_SECONDS)
            else:
                break
    finally:
        with study.lock:  # record the trials of other processes, too
            sweep.add(study.jobs)
        study.release()
    study.show_end()


class Study:
    """Optuna's study of a sweep; several processes may work on it.

    A process holds a lock for each of its trials. The system releases the lock when the process
    ends, even by a kill. So a running trial without a lock was abandoned. A process holds `lock`
    while it chooses trials.

    Args:
        options: options of the search.
        directory: directory of the sweep.
        space: settings to search.

    Raises:
        UserError: the storage cannot be opened, the study lacks the earlier trials of the
            directory, or the study has searched another space.
    """

    def __init__(self, options: StudyOptions, directory: Path, space: Space) -> None:
        self.options = options
        self.directory = directory
        self.space = space
        self.lock = FileLock(directory / ".study.lock")
        self._held: dict[int, FileLock] = {}
        with self.lock:
            self._study = optuna.create_study(
                study_name=options.study_name(directory),
                storage=open_storage(options, directory),
                direction=StudyDirection.MINIMIZE,
                pruner=options.pruner.build(),
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
        """Newest trial of every job, by the job's number."""
        return newest_trials(self._study)

    @property
    def jobs(self) -> list[Job]:
        """All jobs so far."""
        return [self._job(trial) for trial in self.trials.values()]

    @property
    def unfinished(self) -> list[int]:
        """Numbers of the jobs whose trials have not ended."""
        return [n for n, trial in self.trials.items() if not trial.state.is_finished()]

    def resume_trials(self, *, failed: bool) -> list[Job]:
        """Claim the jobs that dead processes left, and, if `failed` is true, the failed jobs.

        Returns:
            The claimed jobs that have to run. A claimed job that is done is reported to Optuna
            instead.
        """
        found = []
        with self.lock:
            for number, trial in self.trials.items():
                repeat = failed and trial.state == TrialState.FAIL
                if not (repeat or trial.state == TrialState.RUNNING) or not self._claim(number):
                    continue
                if repeat:  # by a new trial, since Optuna cannot run a failed trial again
                    self._study.add_trial(
                        create_trial(
                            state=TrialState.RUNNING,
                            params=trial.params,
                            distributions=trial.distributions,
                            user_attrs=trial.user_attrs,
                            intermediate_values=trial.intermediate_values,
                        )
                    )
                job = self._job(trial)
                if job.done:
                    self._tell(number)
                else:
                    found.append(job)
        return found

    def ask(self) -> list[Job]:
        """Propose the next jobs that run at the same time; none if the study has all its trials."""
        with self.lock:
            first, options = len(self.trials), self.options
            end = min(first + options.jobs_at_a_time, options.n_trials)
            return [self._ask(number) for number in range(first, end)]

    def tell(self, jobs: Iterable[Job]) -> None:
        """Tell Optuna the results of jobs, and release their trials."""
        with self.lock:
            for job in jobs:
                self._tell(job.number)

    def release(self) -> None:
        """Release the unfinished trials of this process."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()

    def show_end(self) -> None:
        """Show the number of trials in each state, and the best trial."""
        trials = self.trials.values()
        states = Counter(trial.state.name.lower() for trial in trials)
        counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
        show(f"{len(trials)} trials: {counts}")
        complete = [
            (trial.value, trial)
            for trial in trials
            if trial.state == TrialState.COMPLETE and trial.value is not None
        ]
        if complete:
            value, best = min(complete, key=lambda each: each[0])
            overrides = ", ".join(self.space.write_overrides(best.params))
            number = best.user_attrs[JOB]
            summary = self._summary(best)
            name = perplexity_name({} if summary is None else summary.metrics).replace("_", "-")
            show(f"the best is job {number}, {name} {format_figure(value)}: {overrides}")

    def _ask(self, number: int) -> Job:
        self._study.sampler = build_sampler(self.options.sampler, number)
        trial = self._study.ask(self.space.distributions)
        name = job_directory(number, self.space.label(trial.params))
        trial.set_user_attr(OVERRIDES, self.space.write_overrides(trial.params))
        trial.set_user_attr(DIRECTORY, name)
        trial.set_user_attr(JOB, number)
        self._claim(number)
        return self._job(self.trials[number])

    def _job(self, trial: FrozenTrial) -> Job:
        own, summary = trial.user_attrs, self._summary(trial)
        done = summary is not None and summary.status in DONE
        overrides = self.space.complete(own[OVERRIDES])
        return Job(own[JOB], overrides, own[DIRECTORY], summary is not None, done)

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
        """Lock a trial; return False if another process works on it or on its run."""
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
    """Build the sampler that proposes the settings of a job.

    The seed depends on the job's number. With one generator for all jobs, a resumed study would
    propose its first settings again.
    """
    seed = int(np.random.SeedSequence(options.seed, spawn_key=(number,)).generate_state(1)[0])
    if options.kind == "random":
        return RandomSampler(seed)
    return TPESampler(n_startup_trials=options.startup_trials, seed=seed)


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
