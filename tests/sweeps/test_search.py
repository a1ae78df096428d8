"""Searches with Optuna: space, study, pruning, and several processes with one study."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from compare_runs import differences
from filelock import FileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from lyricgen import train as command
from lyricgen.errors import UserError
from lyricgen.reporting import sweep_report
from lyricgen.runs.directories import is_alive
from lyricgen.runs.run import Run
from lyricgen.runs.state import RunState
from lyricgen.sweeps import task
from lyricgen.sweeps.search.space import Space, describe, read_space
from lyricgen.sweeps.search.storage import JobTrial, JournalLock, StudyOptions, open_storage, parse
from lyricgen.sweeps.search.study import Study, build_sampler
from lyricgen.training import main as training
from lyricgen.training.callbacks.stopping import Pruning
from tests.conftest import SMALL, Train, messages, summary_of, sweep_of, train_until_killed, until
from tests.helpers.processes import start_process
from tests.helpers.workers import fork_workers

SEARCH = (*SMALL, "sweep=optuna", "hydra.sweeper.n_trials=3")
EARLY = ("hydra.sweeper.pruner.startup_trials=1", "hydra.sweeper.pruner.warmup_epochs=1")


def space_of(*overrides: str) -> Space:
    return read_space(OverridesParser.create().parse_overrides(list(overrides)))


def trials_of(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    """Read the trials with nothing but Optuna."""
    storage = JournalStorage(JournalFileBackend(str(sweep / "study.log")))
    return optuna.load_study(study_name=None, storage=storage).trials


def jobs_of(sweep: Path) -> list[Path]:
    return sorted(sweep.glob("[0-9]*_*"))


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("x=interval(1,5)", FloatDistribution(1.0, 5.0)),
        ("x=int(interval(1,5))", IntDistribution(1, 5)),
        ("x=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("x=tag(log,int(interval(8,512)))", IntDistribution(8, 512, log=True)),
        ("x=range(64,512,step=64)", IntDistribution(64, 512, step=64)),
        ("x=range(1,10,4)", IntDistribution(1, 9, step=4)),
        ("x=range(5,1,-2)", IntDistribution(1, 5, step=2)),
        ("x=range(0,1,0.25)", FloatDistribution(0.0, 1.0, step=0.25)),
        ("x=range(0,1,0.3)", FloatDistribution(0.0, 0.9, step=0.3)),
        ("x=shuffle(range(1,3))", IntDistribution(1, 3)),
        ("x=rnn,gru", CategoricalDistribution(["rnn", "gru"])),
        ("x=choice(1,2.5,true,a,'b c')", CategoricalDistribution([1, 2.5, True, "a", "b c"])),
        ("x=[1],[2]", CategoricalDistribution(["[1]", "[2]"])),
        ("+x=1,null", CategoricalDistribution([1, None])),
    ],
)
def test_the_grammar_of_a_space(override: str, distribution: Any) -> None:
    space = space_of("y=2", override, "cell=gru")
    assert space.distributions == {"x": distribution}
    assert space.fixed == ["y=2", "cell=gru"]


def test_values_survive_as_overrides() -> None:
    """Hydra reads from the overrides of a trial exactly the values that Optuna proposed."""
    space = space_of("a=tag(log,interval(1e-9,1))", "b=range(1,9)", "c='1',2,null,'b, c'")
    study = optuna.create_study(sampler=build_sampler(options().sampler, 0))
    parser = OverridesParser.create()
    for _ in range(20):
        params = study.ask(space.distributions).params
        read = [one.value() for one in parser.parse_overrides(space.write_overrides(params))]
        assert read == list(params.values())
        assert [type(one) for one in read] == [type(one) for one in params.values()]


def test_a_directory_is_named_after_the_searched_values(tmp_path: Path) -> None:
    space = space_of("y=1", "lr=interval(0.123456,0.123456)", "h=range(8,8)", "c=0.123456,0.1")
    [job] = Study(options(), tmp_path, space).ask()
    assert job.name.startswith("0_lr=0.1235,h=8,c=0.1")
    assert job.overrides[:3] == ["y=1", "lr=0.123456", "h=8"]


def test_a_resumed_trial_keeps_its_searched_values(tmp_path: Path) -> None:
    """The search is resumed with other overrides; a trial keeps only its searched values."""
    study = Study(options(), tmp_path, space_of("a=1", "x=interval(0,1)", "cell=rnn,gru"))
    [job] = study.ask()
    study.release()
    [again] = Study(
        options(), tmp_path, space_of("a=2", "cell=lstm", "x=interval(0,2)")
    ).resume_trials(failed=False)
    assert again.overrides == ["a=2", *job.overrides[1:]]


def test_the_last_override_of_a_key_counts() -> None:
    assert space_of("x=1,2", "y=3,4", "x=5").fixed == ["x=5"]
    assert space_of("x=5", "+x=1,2").distributions == {"x": CategoricalDistribution([1, 2])}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("x=5", "nothing is searched"),
        ("x=interval(5,1)", r"x=interval\(5,1\): .*low"),
        ("x=tag(log,interval(0,1))", r"x=tag\(log,interval\(0,1\)\): .*low"),
        ("x=tag(log,range(1,5))", "only an interval can be logarithmic"),
        ("x=tag(fine,interval(1,5))", "the only tag"),
        ("x=range(1,5,0)", "step is 0"),
    ],
)
def test_a_wrong_space_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        space_of(override)


def test_a_space_as_plain_values() -> None:
    space = space_of("lr=tag(log,interval(1e-4,1e-2))", "h=range(64,512,step=64)", "cell=rnn,gru")
    assert describe(dict(space.distributions)) == {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "h": {"low": 64, "high": 512, "step": 64, "log": False},
        "cell": {"choices": ["rnn", "gru"]},
    }


def options(**changed: Any) -> StudyOptions:
    plain: dict[str, Any] = {
        "n_trials": 3,
        "jobs_at_a_time": 1,
        "fail_fast": False,
        "storage": None,
        "sampler": {"kind": "tpe", "seed": 1, "startup_trials": 2},
        "pruner": {"enabled": True, "startup_trials": 1, "warmup_epochs": 1},
        "params": {},
    }
    return parse(plain | changed)


def finish(sweep: Path, job: Any, status: str = "finished", perplexity: float = 1.0) -> None:
    """Write the directory and summary of a job that has ended."""
    (sweep / job.name).mkdir(exist_ok=True)
    summary = {"status": status, "val/perplexity": perplexity}
    (sweep / job.name / "summary.json").write_text(json.dumps(summary), "utf-8")


def work(study: Study, count: int) -> list[str]:
    """Do trials whose perplexity is a function of their value; return the values."""
    done = []
    for _ in range(count):
        [job] = study.ask()
        x = float(job.overrides[-1].partition("=")[2])
        finish(study.directory, job, perplexity=100 + (x - 0.3) ** 2)
        study.tell([job])
        done.append(job.overrides[-1])
    return done


def test_a_study_is_a_function_of_its_seed(tmp_path: Path) -> None:
    """Another process continues the study, after random trials and after trials of TPE."""
    space = space_of("x=interval(0,1)")
    values = {}
    for split in (0, 1, 5, 8):
        directory = tmp_path / str(split)
        directory.mkdir()
        first = work(Study(options(n_trials=8), directory, space), split)
        values[split] = first + work(Study(options(n_trials=8), directory, space), 8 - split)
    assert values[0] == values[1] == values[5] == values[8]
    assert len(set(values[0])) == 8
    other = tmp_path / "other"
    other.mkdir()
    sampler = {"kind": "tpe", "seed": 2, "startup_trials": 2}
    assert work(Study(options(sampler=sampler), other, space), 3) != values[0][:3]


def test_a_study_starts_no_more_than_its_trials(tmp_path: Path) -> None:
    space = space_of("x=interval(0,1)")
    one, two = Study(options(jobs_at_a_time=2), tmp_path, space), Study(options(), tmp_path, space)
    jobs = one.ask()
    assert [job.number for job in jobs] == [0, 1]
    assert [job.number for job in two.ask()] == [2]
    assert one.ask() == two.ask() == []
    assert one.unfinished == [0, 1, 2]


def test_the_trial_of_a_dead_process_is_resumed(tmp_path: Path) -> None:
    """It keeps its number, overrides and reported values; trials of live processes are left."""
    space = space_of("x=interval(0,1)")
    dead, alive, third = (Study(options(), tmp_path, space) for _ in range(3))
    [left], [kept] = dead.ask(), alive.ask()
    JobTrial(options(), tmp_path, 0).report(1, 5.0)
    assert third.resume_trials(failed=True) == []
    dead.release()  # the system does this for a killed process
    assert third.resume_trials(failed=True) == [left]
    assert alive.resume_trials(failed=True) == []
    finish(tmp_path, left, perplexity=7.0)
    third.tell([left])
    assert trials_of(tmp_path)[0].value == 7.0
    assert trials_of(tmp_path)[0].intermediate_values == {1: 5.0}
    assert third.unfinished == [kept.number]


def test_a_job_that_outlives_its_search_is_not_done_twice(tmp_path: Path) -> None:
    """A job's process can outlive the search that launched it."""
    space = space_of("x=interval(0,1)")
    first = Study(options(), tmp_path, space)
    [job] = first.ask()
    first.release()
    (tmp_path / job.name).mkdir()
    again = Study(options(), tmp_path, space)
    with FileLock(tmp_path / job.name / ".lock"):
        assert again.resume_trials(failed=False) == []
    finish(tmp_path, job, perplexity=3.0)
    assert again.resume_trials(failed=False) == []  # only its result is recorded
    assert trials_of(tmp_path)[0].value == 3.0


def test_a_failed_trial_is_repeated_when_asked(tmp_path: Path) -> None:
    space = space_of("x=interval(0,1)")
    study = Study(options(), tmp_path, space)
    [job] = study.ask()
    JobTrial(options(), tmp_path, 0).report(1, 5.0)
    finish(tmp_path, job, "failed")
    study.tell([job])
    assert study.resume_trials(failed=False) == []
    [again] = study.resume_trials(failed=True)
    assert (again.number, again.name, again.overrides) == (0, job.name, job.overrides)
    finish(tmp_path, again)
    study.tell([again])
    states = [(trial.number, trial.state.name) for trial in trials_of(tmp_path)]
    assert states == [(0, "FAIL"), (1, "COMPLETE")]
    assert trials_of(tmp_path)[1].intermediate_values == {1: 5.0}  # not reported again
    # the failed trial and its repetition count once
    assert [job.number for job in study.ask()] == [1]


def test_a_study_keeps_its_choices(tmp_path: Path) -> None:
    study = Study(options(), tmp_path, space_of("cell=rnn,gru"))
    study.ask()
    with pytest.raises(UserError, match="cell: the study has searched other values"):
        Study(options(), tmp_path, space_of("cell=rnn,lstm"))


def test_a_torn_line_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    study = Study(options(), tmp_path, space_of("x=interval(0,1)"))
    study.ask()
    with (tmp_path / "study.log").open("ab") as stream:
        stream.write(b'{"op_code":4,"wor')
    study.ask()
    assert [trial.number for trial in trials_of(tmp_path)] == [0, 1]


def test_a_killed_process_does_not_keep_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "study.log"
    journal.touch()
    script = (
        "import sys, time; from pathlib import Path; "
        "from lyricgen.sweeps.search.storage import JournalLock; "
        "JournalLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, journal], stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.kill()
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    assert JournalLock(journal).acquire()


def trainer_at(epoch: int, **changed: Any) -> Any:
    plain = {
        "current_epoch": epoch - 1,
        "max_epochs": 5,
        "should_stop": False,
        "is_global_zero": True,
        "strategy": SimpleNamespace(broadcast=lambda value: value),
    }
    return SimpleNamespace(**(plain | changed))


class PrunedTrial:
    """A trial that is always pruned."""

    def __init__(self) -> None:
        self.values: list[tuple[int, float]] = []

    def report(self, epoch: int, value: float) -> None:
        self.values.append((epoch, value))

    def should_stop(self) -> bool:
        return True


def test_a_run_that_ends_by_itself_is_not_pruned() -> None:
    trial = PrunedTrial()
    state = RunState()
    pruning = Pruning(state, trial, "val")
    for trainer, metrics in (
        (trainer_at(5), {"val/perplexity": 4.0}),  # the last epoch
        (trainer_at(4, should_stop=True), {"val/perplexity": 3.0}),  # early stopping, for example
        (trainer_at(3), {"train/perplexity": 2.0}),  # no validation
    ):
        before, state.metrics = trainer.should_stop, metrics
        pruning.after_epoch(trainer, validated=True)
        assert (state.pruned, trainer.should_stop) == (None, before)
    assert trial.values == [(5, 4.0), (4, 3.0)]
    state.metrics = {"val/perplexity": 3.5}
    pruning.after_validation(trainer_at(3))  # the epoch continues
    pruning.after_validation(trainer_at(4, should_stop=True))  # early stopping ends the epoch
    assert trial.values[2:] == [(4, 3.5)]
    trainer, state.metrics = trainer_at(2), {"val/pseudo_perplexity": 9.0}
    pruning.after_epoch(trainer, validated=True)
    assert trainer.should_stop
    assert str(state.pruned).startswith("pruned at epoch 2: its best val/pseudo_perplexity")
    resumed = trainer_at(3)
    Pruning(state, trial, "val").on_train_start(resumed, None)  # type: ignore[arg-type]
    assert resumed.should_stop


def test_an_epoch_is_reported_once(tmp_path: Path) -> None:
    study = Study(options(), tmp_path, space_of("x=interval(0,1)"))
    [job] = study.ask()
    trial = JobTrial(options(), tmp_path, 0)
    trial.report(1, 5.0)
    JobTrial(options(), tmp_path, 0).report(1, 6.0)  # the same epoch, after a resume
    finish(tmp_path, job)
    study.tell([job])
    trial.report(2, 4.0)  # from a process that outlived the search
    assert trials_of(tmp_path)[0].intermediate_values == {1: 5.0}


@pytest.mark.parametrize("storage", [None, "sqlite:///study.db"])
def test_a_deleted_study_is_an_error_in_one_line(
    tmp_path: Path, storage: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = options(storage=storage)
    name = given.study_name(tmp_path)
    lost = f"the study '{name}' is not in its storage: bring the storage back, or start a new sweep"
    study = Study(given, tmp_path, space_of("x=interval(0,1)"))
    lacks_the_trial = pytest.raises(UserError, match=f"^the trial of job 0 of {lost}$")
    with lacks_the_trial:
        JobTrial(given, tmp_path, 0)
    study.ask()
    trial = JobTrial(given, tmp_path, 0)
    optuna.delete_study(study_name=name, storage=open_storage(given, tmp_path))
    with lacks_the_trial:
        JobTrial(given, tmp_path, 0)
    with pytest.raises(UserError, match=f"^{lost}$"):
        study.ask()
    if storage is not None:  # a journal keeps the trials of a deleted study
        for use in (trial.should_stop, lambda: trial.search_space, lambda: trial.report(1, 5.0)):
            with lacks_the_trial:
                use()


def median_pruning(
    values: dict[int, float], others: list[dict[int, float]], last: int
) -> int | None:
    """Return the epoch at which the median rule prunes, with 1 trial and 1 epoch of warm-up."""
    for epoch in sorted(values):
        there = [other[epoch] for other in others if epoch in other]
        best = min(value for at, value in values.items() if at <= epoch)
        if 1 < epoch < last and there and best > np.median(there):
            return epoch
    return None


def pruned_epochs(sweep: Path, last: int) -> dict[int, int]:
    """Return the epochs of pruned trials by number; check each against the median rule."""
    complete: list[dict[int, float]] = []
    pruned = {}
    for trial, directory in zip(trials_of(sweep), jobs_of(sweep), strict=True):
        job = summary_of(directory)
        lines = (directory / "metrics.csv").read_text("utf-8").splitlines()
        column = lines[0].split(",").index("val/perplexity")
        rows = {n: float(line.split(",")[column]) for n, line in enumerate(lines[1:], 1)}
        assert trial.intermediate_values == rows
        assert job["options"]["optimizer"]["lr"] == trial.params["optimizer.lr"]
        assert job["search_space"] == {"optimizer.lr": {"low": 1e-4, "high": 1, "log": True}}
        epoch = median_pruning(rows, complete, last)
        if epoch is None:
            assert (trial.state, job["status"]) == (TrialState.COMPLETE, "finished")
            assert trial.value == job["val/perplexity"]
            assert len(rows) == last
            complete.append(rows)
        else:
            assert (trial.state, job["status"]) == (TrialState.PRUNED, "pruned")
            assert max(rows) == job["epochs"] == epoch
            assert job["reason"].startswith(f"pruned at epoch {epoch}: ")
            assert job["val/perplexity"] == pytest.approx(min(rows.values()))
            assert (directory / "checkpoints/last.ckpt").exists()
            pruned[trial.number] = epoch
    return pruned


LR = ("optimizer.lr=tag(log,interval(1e-4,1))", "hydra.sweeper.sampler.kind=random")


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_bad_trials_are_pruned_between_epochs(train: Train) -> None:
    six = ("trainer.max_epochs=4", "model.dropout=0", "hydra.sweeper.n_trials=6")
    done = train(*SEARCH, *EARLY, *LR, *six)
    assert done.status == 0, done.err
    pruned = len(pruned_epochs(sweep_of(), 4))
    assert pruned
    assert pruned < 5
    assert summary_of(sweep_of())["status"] == "finished"
    complete = [trial for trial in trials_of(sweep_of()) if trial.state == TrialState.COMPLETE]
    best = min(complete, key=lambda trial: trial.value or 0.0)
    assert f"6 trials: {6 - pruned} complete, {pruned} pruned" in done.out
    lr = f"optimizer.lr={best.params['optimizer.lr']!r}"
    assert f"the best is job {best.number}, perplexity {best.value:,.2f}: {lr}" in done.out


def report_end(report: Path) -> None:
    """Let this process, the second of a trial, write the end of its training to a file."""

    def on_train_end(pruning: Pruning, trainer: Any, module: Any) -> None:
        entry = [os.getpid(), trainer.world_size, trainer.current_epoch, pruning.state.pruned]
        with report.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    Pruning.on_train_end = on_train_end  # type: ignore[assignment, method-assign]


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_trial_is_pruned_in_all_its_processes(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process decides, as if it were the only one; only it uses the study."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    report = tmp_path / "end.jsonl"
    fork_workers(monkeypatch, partial(report_end, report))
    plain = [one for one in SEARCH if one != "trainer=cpu"]
    few = ("trainer.max_epochs=3", "model.dropout=0", "hydra.sweeper.n_trials=4")
    few += ("trainer.precision=64-true",)  # diverging trials are then equal, too
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.sweep.dir=two")
    done = train(*plain, *EARLY, *LR, *few, *two)
    assert done.status == 0, done.err
    assert done.err == ""
    pruned = pruned_epochs(Path("two"), 3)
    assert 0 < len(pruned) < 3
    entries = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    for number, (process, count, epochs, reason) in enumerate(entries):
        job = summary_of(jobs_of(Path("two"))[number])
        assert (count, epochs, reason) == (2, pruned.get(number, 3), job.get("reason"))
        assert not is_alive(process)
    assert len(entries) == 4
    assert summary_of(Path("two"))["status"] == "finished"
    single = train(*SEARCH, *EARLY, *LR, *few, "hydra.sweep.dir=one")
    assert single.status == 0, single.err
    assert pruned_epochs(Path("one"), 3) == pruned
    for one, other in zip(trials_of(Path("one")), trials_of(Path("two")), strict=True):
        assert one.params == other.params
        assert one.intermediate_values == pytest.approx(other.intermediate_values, rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_search_is_repeatable_and_keeps_typed_values(train: Train) -> None:
    typed = ("layers=2", "optimizer.lr=0.01", "hydra.sweeper.params.hidden_size='range(8,16,8)'")
    search = [one for one in SEARCH if not one.startswith("hidden_size")]
    search.append("trainer.max_epochs=1")
    for place in ("one", "two"):
        done = train(*search, *typed, f"hydra.sweep.dir={place}")
        assert done.status == 0, done.err
    names = [path.name for path in jobs_of(Path("one"))]
    assert names == [path.name for path in jobs_of(Path("two"))]
    for directory in jobs_of(Path("one")):
        job = summary_of(directory)
        assert job["options"]["layers"] == 2
        assert job["options"]["optimizer"]["lr"] == 0.01
        assert job["options"]["hidden_size"] in (8, 16)
        assert sorted(job["search_space"]) == ["hidden_size", "model.dropout"]
        assert f"_hidden_size={job['options']['hidden_size']},model.dropout=" in directory.name


@pytest.mark.usefixtures("without_report")
def test_the_first_failed_trial_stops_a_search_that_fails_fast(train: Train) -> None:
    done = train(*SEARCH, "data.path=mine.txt", "hydra.sweeper.fail_fast=true")
    assert done.status == 1, done.err
    [job] = jobs_of(sweep_of())
    assert summary_of(job)["status"] == "failed"
    assert f"error: job {job.name} failed: " in done.err
    assert summary_of(sweep_of())["reason"].startswith(f"job {job.name} failed: ")
    Path("mine.txt").write_text("一二三四五六七八\n" * 60, "utf-8")
    again = train("resume=latest")
    assert again.status == 0, again.err
    assert [summary_of(one)["status"] for one in jobs_of(sweep_of())] == ["finished"] * 3


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_failing_trial_does_not_stop_the_search(train: Train) -> None:
    sizes = ("trainer.val_check_interval=null,100000", "model.dropout=0", "optimizer.lr=0.01")
    done = train(*SEARCH, *sizes, "hydra.sweeper.n_trials=4")
    assert done.status == 1
    states = {
        directory.name: (trial.state, summary_of(directory)["status"])
        for trial, directory in zip(trials_of(sweep_of()), jobs_of(sweep_of()), strict=True)
    }
    failed = [name for name in states if name.endswith("100000")]
    assert 0 < len(failed) < 4
    for name, state in states.items():
        bad = name in failed
        assert state == ((TrialState.FAIL, "failed") if bad else (TrialState.COMPLETE, "finished"))
    assert f"error: {len(failed)} of 4 jobs did not finish: {failed[0]} (failed: " in done.err
    # a process that starts after the end changes nothing
    record = summary_of(sweep_of())
    late = train(*SEARCH, *sizes, "hydra.sweeper.n_trials=4", f"hydra.sweep.dir={sweep_of()}")
    assert late.status == 1
    assert f"error: {len(failed)} of 4 jobs did not finish: {failed[0]} (failed: " in late.err
    assert summary_of(sweep_of())["jobs"] == record["jobs"]
    shorter = train("resume=latest", "hydra.sweeper.n_trials=5", "trainer.max_epochs=1")
    assert shorter.status == 2
    [line] = messages(shorter.err)
    assert line.startswith("error: trainer.max_epochs=1: the trials so far were begun for 2")
    assert summary_of(sweep_of())["jobs"] == record["jobs"]
    again = train("resume=latest", "hydra.sweeper.n_trials=5")
    assert again.status == 1
    assert [path.name.partition("_")[0] for path in jobs_of(sweep_of())] == list("01234")
    assert len(trials_of(sweep_of())) == 5 + len(failed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: "),
        (["hydra.sweeper.sampler.kind=grid"], "hydra.sweeper.sampler.kind='grid': "),
        (["hydra.sweeper.storage=none://x"], "hydra.sweeper.storage=none://x: it cannot be"),
        (["hidden_size=interval(8,16)"], "hidden_size=8.0: "),
        (["hiden_size=8,16"], "hiden_size"),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr=interval(2,1): "),
        (["optimizer.lr=1", "hidden_size=8", "model.dropout=0"], "nothing is searched"),
    ],
)
def test_mistakes_are_one_line_before_any_trial(
    train: Train, arguments: list[str], message: str
) -> None:
    done = train(*(one for one in SEARCH if not one.startswith("hidden_size")), *arguments)
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(Path().rglob("summary.json"))


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_search_in_the_directory_of_a_grid_is_refused(train: Train) -> None:
    train("-m", *SMALL, "trainer.max_epochs=1", "seed=1", "hydra.sweep.dir=here")
    done = train(*SEARCH, "hydra.sweep.dir=here")
    assert done.status == 2
    assert "holds a sweep that this study knows nothing of" in done.err


def test_a_search_without_optuna_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = train(*SEARCH)
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.endswith("pip install 'lyricgen[optuna]'")


def test_hydra_starts_without_heavy_imports() -> None:
    script = (
        "import sys, hydra_plugins.lyricgen_plugins; "
        "print([name for name in ('optuna', 'torch', 'lyricgen') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_study_can_be_stored_elsewhere(train: Train) -> None:
    done = train(*SEARCH, "hydra.sweeper.storage=sqlite:///study.db", "trainer.max_epochs=1")
    assert done.status == 0, done.err
    study = optuna.load_study(study_name=sweep_of().name, storage="sqlite:///study.db")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert not (sweep_of() / "study.log").exists()


@pytest.mark.usefixtures("without_report")
def test_an_interrupted_search_is_resumed(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    train_and_evaluate = training.train_and_evaluate

    def interrupt(prepared: training.Training, run: Run, *arguments: Any) -> dict[str, Any]:
        if run.directory.name.startswith("1_"):
            os.kill(os.getpid(), signal.SIGINT)
        return train_and_evaluate(prepared, run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_and_evaluate", interrupt)
        assert train(*SEARCH).status == 130
    states = [trial.state for trial in trials_of(sweep_of())]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]
    done = train("resume=latest")
    assert done.status == 0, done.err
    assert [trial.state for trial in trials_of(sweep_of())] == [TrialState.COMPLETE] * 3
    assert [summary_of(path)["status"] for path in jobs_of(sweep_of())] == ["finished"] * 3


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_single_trial_can_be_resumed(train: Train) -> None:
    early = ("hydra.sweeper.pruner.startup_trials=1", "hydra.sweeper.pruner.warmup_epochs=0")
    lr = ("optimizer.lr=1e-2,1", "hydra.sweeper.sampler.kind=random", "scheduler=none")
    done = train(*SEARCH, *early, *lr, "model.dropout=0", "hydra.sweeper.n_trials=4")
    assert done.status == 0, done.err
    by_status = {summary_of(path)["status"]: path for path in jobs_of(sweep_of())}
    again = train(f"resume={by_status['pruned']}", "trainer.max_epochs=3")
    assert again.status == 0, again.err
    assert "is finished: pruned at epoch 1" in again.out
    before = summary_of(by_status["finished"])
    longer = train(f"resume={by_status['finished']}", "trainer.max_epochs=3")
    assert longer.status == 0, longer.err
    after = summary_of(by_status["finished"])
    assert after["epochs"] == 3
    assert (after["search_space"], after["job"]) == (before["search_space"], before["job"])


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize("recipe", [(), ("experiment=dino",), ("-m", "experiment=textbook")])
def test_the_search_of_the_configuration_files(
    train: Train, monkeypatch: pytest.MonkeyPatch, recipe: tuple[str, ...]
) -> None:
    done: list[dict[str, Any]] = []

    def note(values: dict[str, Any], run: Run) -> float:
        done.append(values)
        summary = {"status": "finished", "val/perplexity": values["optimizer"]["lr"]}
        (run.directory / "summary.json").write_text(json.dumps(summary), "utf-8")
        return 1.0

    monkeypatch.setattr(task, "do_job", note)
    trials = 3 if recipe else 12
    fewer = (f"hydra.sweeper.n_trials={trials}", "hydra.sweeper.sampler.startup_trials=6")
    assert train(*recipe, "sweep=optuna", *fewer).status == 0
    searched = [(v["optimizer"]["lr"], v["hidden_size"], v["model"]["dropout"]) for v in done]
    assert len(set(searched)) == trials
    assert all(1e-3 <= lr <= 1e-1 and 64 <= size <= 512 for lr, size, _ in searched)
    assert trials_of(sweep_of())[0].distributions == {
        "optimizer.lr": FloatDistribution(1e-3, 1e-1, log=True),
        "hidden_size": IntDistribution(64, 512, step=64),
        "model.dropout": FloatDistribution(0.0, 0.8),
    }
    if not recipe:  # the sampler has found that a small learning rate is good
        first, then = ([lr for lr, _, _ in half] for half in (searched[:6], searched[6:]))
        assert np.median(then) < np.median(first)


def search(*arguments: str) -> None:
    """Search in this process of a test without the report at the end."""
    sweep_report.report_sweep = lambda directory: None
    torch.set_num_threads(1)
    sys.argv = ["lyricgen.train", *arguments]
    command.main()


LONG = ("trainer.max_epochs=3", *EARLY, "hydra.sweeper.n_trials=4")


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_killed_search_is_resumed_exactly(train: Train, tmp_path: Path) -> None:
    train_until_killed(3 + 3 + 1, tmp_path / "killed", *SEARCH, *LONG)
    sweep = sweep_of(tmp_path / "killed")
    assert [trial.state.name for trial in trials_of(sweep)][2:] == ["RUNNING"]
    done = train(f"resume={sweep}")
    assert done.status == 0, done.err
    end = done.out[done.out.index("4 trials: ") :].splitlines()[:2]
    whole = train(*SEARCH, *LONG)
    assert whole.status == 0, whole.err
    assert whole.out[whole.out.index("4 trials: ") :].splitlines()[:2] == end
    for left, right in zip(trials_of(sweep), trials_of(sweep_of()), strict=True):
        assert (left.state, left.values, left.params) == (right.state, right.values, right.params)
        assert left.intermediate_values == right.intermediate_values
    for left_job, right_job in zip(jobs_of(sweep), jobs_of(sweep_of()), strict=True):
        assert left_job.name == right_job.name
        assert not differences(left_job, right_job)


def _in_a_job(process: int, sweep: Path) -> bool:
    """Whether a process is at work on a job that has a checkpoint."""
    jobs = [path.parent.parent for path in sweep.glob("*/checkpoints/last.ckpt")]
    summaries = map(summary_of, jobs)
    return any(one["process"] == process and one["status"] == "running" for one in summaries)


def _halt_in_a_job(process: int, sweep: Path) -> bool:
    """Halt a process if it is at work on a job with a checkpoint; return whether it is."""
    if not _in_a_job(process, sweep):
        return False
    os.kill(process, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] == "T")
    held = _in_a_job(process, sweep)
    if not held:
        os.kill(process, signal.SIGCONT)
    return held


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    """One process is killed; the other resumes its trial, and no trial is done twice."""
    place = f"hydra.sweep.dir={tmp_path / 'here'}"
    printed = tmp_path / "two.log"
    one, two = (
        start_process(search, *SEARCH, *LONG, place, output=tmp_path / name)
        for name in ("one.log", printed.name)
    )
    process = one.pid or 0
    try:
        until(lambda: not two.is_alive() or _halt_in_a_job(process, tmp_path / "here"))
        assert two.is_alive(), printed.read_text("utf-8")
        one.kill()
        two.join(300)
    finally:
        one.kill()
        two.kill()
    assert two.exitcode == 0, printed.read_text("utf-8")
    trials, jobs = trials_of(tmp_path / "here"), jobs_of(tmp_path / "here")
    assert [trial.number for trial in trials] == list(range(4))
    assert [path.name.partition("_")[0] for path in jobs] == list("0123")
    for trial, path in zip(trials, jobs, strict=True):
        job = summary_of(path)
        assert (trial.state.name, job["status"]) in (("COMPLETE", "finished"), ("PRUNED", "pruned"))
        assert job["options"]["optimizer"]["lr"] == trial.params["optimizer.lr"]
    assert sum("resumed" in summary_of(path) for path in jobs) == 1
    assert sorted(summary_of(tmp_path / "here")["jobs"]) == list("0123")


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_several_trials_run_at_a_time(train: Train) -> None:
    done = train(*SEARCH, "hydra/launcher=processes", "hydra.sweeper.jobs_at_a_time=3")
    assert done.status == 0, done.err
    assert [trial.state for trial in trials_of(sweep_of())] == [TrialState.COMPLETE] * 3
    times = [(trial.datetime_start, trial.datetime_complete) for trial in trials_of(sweep_of())]
    starts, ends = zip(*times, strict=True)
    assert max(starts) < min(ends)  # all began before the first ended
