"""Sweeps: their record, jobs that fail, and resuming."""

import json
import os
import re
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_runs import differences

from lyricgen.cli.typed_arguments import expand
from lyricgen.errors import UserError
from lyricgen.reporting import sweep_report
from lyricgen.runs.directories import claim_directory, new_directory, resume_command
from lyricgen.settings import flatten
from lyricgen.sweeps import grid
from lyricgen.sweeps.grid import PlannedJob, name_jobs, plan
from lyricgen.sweeps.launch import launch
from lyricgen.sweeps.sweep import UnfinishedJobsError
from lyricgen.training import main as training
from tests.conftest import (
    ROOT,
    SMALL,
    TINY,
    Train,
    messages,
    newest_of,
    summary_of,
    sweep_of,
    train_until_killed,
)
from tests.helpers.processes import fork_context


def jobs_of(sweep: Path) -> list[str]:
    return sorted(path.parent.name for path in sweep.glob("*/.hydra"))


def test_every_combination_has_its_directory(train: Train) -> None:
    done = train("-m", *SMALL, "cell=rnn,gru", "seed=3,4", "name='a b'")
    assert done.status == 0, done.err
    sweep = sweep_of()
    names = ["0_cell=rnn,seed=3", "1_cell=rnn,seed=4", "2_cell=gru,seed=3", "3_cell=gru,seed=4"]
    assert jobs_of(sweep) == names
    for number, name in enumerate(names):
        job = summary_of(sweep / name)
        assert (job["status"], job["job"]) == ("finished", number)
        cell, seed = re.findall(r"=(\w+)", name)
        assert (job["options"]["cell"]["kind"], job["options"]["seed"]) == (cell, int(seed))
    record = summary_of(sweep)
    assert record["status"] == "finished"
    assert record["jobs"]["2"][-3:] == ["cell=gru", "seed=3", "name='a b'"]
    assert record["overrides"] == [*SMALL, "cell=rnn,gru", "seed=3,4", "name='a b'"]
    assert newest_of() == sweep
    # a line for each job and one for its figures, no message of Hydra, then the report
    jobs = done.out.splitlines()[:8]
    assert jobs[::2] == [f"job {name}" for name in names]
    assert all(line.startswith("  train perplexity ") for line in jobs[1::2])
    # the report has a table with seeds 3 and 4 in one row
    for cell, jobs in (("rnn", names[:2]), ("gru", names[2:])):
        mean = np.mean([summary_of(sweep / name)["val/perplexity"] for name in jobs])
        assert re.search(rf"^ *{cell} +{mean:.2f} ± [\d.]+ +2 ", done.out, flags=re.MULTILINE)
    assert f"report: {sweep}/report/report.html" in done.out
    assert (sweep / "report/report.html").is_file()


@pytest.mark.usefixtures("without_report")
def test_a_job_equals_a_single_run(train: Train) -> None:
    train("-m", *TINY, "cell=gru,rnn")
    single = train(*TINY, "cell=rnn")
    assert single.directory is not None
    assert not differences(sweep_of() / "1_cell=rnn", single.directory)


def test_a_failed_job_does_not_stop_the_sweep(train: Train) -> None:
    done = train("-m", *SMALL, "hidden_size=16,-3,8", "trainer.val_check_interval=null,100000")
    assert done.status == 1
    statuses = {
        path.parent.name: json.loads(path.read_text("utf-8"))["status"]
        for path in sweep_of().glob("*/summary.json")
    }
    assert statuses == {
        "0_hidden_size=16,trainer.val_check_interval=null": "finished",
        "1_hidden_size=16,trainer.val_check_interval=100000": "failed",
        "2_hidden_size=-3,trainer.val_check_interval=null": "failed",
        "3_hidden_size=-3,trainer.val_check_interval=100000": "failed",
        "4_hidden_size=8,trainer.val_check_interval=null": "finished",
        "5_hidden_size=8,trainer.val_check_interval=100000": "failed",
    }
    failed = summary_of(sweep_of() / "2_hidden_size=-3,trainer.val_check_interval=null")
    assert failed["reason"].startswith("hidden_size=-3: ")
    assert "UserError" in failed["traceback"]
    assert failed["options"]["hidden_size"] == -3
    assert summary_of(sweep_of())["status"] == "failed"
    [line] = done.err.splitlines()
    assert line.startswith("error: 4 of 6 jobs did not finish: 1_hidden_size=16,trainer.val_check")
    assert "-3,trainer.val_check_interval=null (failed: hidden_size=-3: " in line
    assert f"resume={sweep_of()}" in line
    assert "Traceback" not in done.out + done.err


@pytest.mark.usefixtures("without_report")
def test_the_first_failed_job_stops_a_sweep(train: Train) -> None:
    """A file is missing, and appears before the sweep is resumed."""
    Path("one.txt").write_text("一二三四五六七八\n" * 60, "utf-8")
    texts = "data.path=one.txt,two.txt,./one.txt"
    done = train("-m", *SMALL, texts, "hydra.sweeper.fail_fast=true")
    assert done.status == 1, done.err
    sweep = sweep_of()
    assert [summary_of(sweep / name)["status"] for name in jobs_of(sweep)] == ["finished", "failed"]
    [line] = done.err.splitlines()
    failure = "job 1_data.path=two.txt failed: cannot read 'two.txt': No such file"
    assert line.startswith(f"error: {failure}")
    record = summary_of(sweep)
    assert (record["status"], f"error: {record['reason']}") == ("failed", line)
    assert list(record["jobs"]) == ["0", "1", "2"]
    assert done.out.splitlines()[-1] == f"to go on with the sweep: {resume_command(sweep)}"
    again = train("resume=latest")
    assert again.status == 1, again.err
    assert "job 0_" not in again.out
    assert len(jobs_of(sweep)) == 2
    Path("two.txt").write_text("八七六五四三二一\n" * 60, "utf-8")
    last = train("resume=latest")
    assert last.status == 0, last.err
    assert [summary_of(sweep / name)["status"] for name in jobs_of(sweep)] == ["finished"] * 3
    assert summary_of(sweep)["status"] == "finished"
    assert "reason" not in summary_of(sweep)


class BasicLauncher:
    """Launcher that cannot begin a job."""

    def launch(self, overrides: list[list[str]], number: int) -> None:
        del overrides, number
        raise OSError(28, "No space left on device")


def test_a_job_that_does_not_begin_stops_a_sweep_that_fails_fast(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "summary.json").touch()
    jobs: list[tuple[int, list[str]]] = [(3, []), (4, [])]
    with pytest.raises(UnfinishedJobsError, match="job 3 did not begin: OSError: No space left"):
        launch(BasicLauncher(), jobs, tmp_path, fail_fast=True)
    assert "job 4" not in caplog.text
    launch(BasicLauncher(), jobs, tmp_path)
    assert "job 4 did not begin: OSError: No space left on device" in caplog.text


@pytest.mark.usefixtures("without_report")
def test_a_job_that_raises_anything_is_failed(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [
        (SystemExit(0), "SystemExit: 0"),
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError("too large"), "MemoryError: too large"),
        (RuntimeError("CUDA out of memory.\nTried"), "RuntimeError: CUDA out of memory. Tried"),
    ]
    train_and_evaluate = training.train_and_evaluate

    def fail(prepared: training.Training, *arguments: Any) -> dict[str, Any]:
        if prepared.options.seed < len(errors):
            raise errors[prepared.options.seed][0]
        return train_and_evaluate(prepared, *arguments)

    monkeypatch.setattr(training, "train_and_evaluate", fail)
    done = train("-m", *SMALL, "seed=range(0,5)")
    assert done.status == 1
    for number, (error, reason) in enumerate(errors):
        job = f"{number}_seed={number}"
        assert f"{job} (failed: {reason})" in done.err
        assert summary_of(sweep_of() / job)["reason"] == reason
        assert type(error).__name__ in summary_of(sweep_of() / job)["traceback"]
    assert summary_of(sweep_of() / "4_seed=4")["status"] == "finished"


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_job_that_exits_before_training_is_failed(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = training.prepare

    def fail(values: dict[str, Any], *arguments: Any, **options: Any) -> training.Training:
        if values["seed"] == 1:
            raise SystemExit(0)
        return prepare(values, *arguments, **options)

    monkeypatch.setattr(training, "prepare", fail)
    done = train("-m", *SMALL, "trainer.max_epochs=1", "seed=1,2")
    assert done.status == 1
    assert "0_seed=1 (failed: SystemExit: 0)" in done.err


@pytest.mark.slow
def test_an_error_of_the_report_hides_no_failed_job(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise ValueError("no fonts")

    monkeypatch.setattr(sweep_report, "report", fail)
    done = train("-m", *SMALL, "trainer.max_epochs=1", "hidden_size=-1,8")
    assert done.status == 1
    assert "0_hidden_size=-1 (failed: " in done.err
    assert "no report: ValueError: no fonts" in done.out
    assert summary_of(sweep_of())["status"] == "failed"


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_diverged_job_is_reported(train: Train) -> None:
    huge = ("optimizer=sgd", "trainer.gradient_clip_val=null", "scheduler=none")
    done = train("-m", *SMALL, "trainer.max_epochs=1", *huge, "optimizer.lr=1e38,0.1")
    assert done.status == 1
    assert "0_optimizer.lr=1e+38 (failed: training diverged in epoch 1" in done.err
    assert summary_of(sweep_of() / "1_optimizer.lr=0.1")["status"] == "finished"


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_resuming_repeats_only_unfinished_jobs(train: Train) -> None:
    train("-m", *SMALL, "trainer.max_epochs=1", "hidden_size=8,-1", "optimizer.weight_decay=0")
    kept = sweep_of() / "0_hidden_size=8/checkpoints/best.ckpt"
    before = kept.stat().st_mtime_ns
    again = train("resume=latest")
    assert again.status == 1  # -1 is still wrong
    assert "1_hidden_size=-1 (failed" in again.err
    mended = train("resume=latest", "hidden_size=8,9")
    assert mended.status == 0, mended.err
    assert kept.stat().st_mtime_ns == before
    assert jobs_of(sweep_of()) == [
        "0_hidden_size=8", "1_hidden_size=-1", "2_hidden_size=9",
    ]  # fmt: skip
    assert list(summary_of(sweep_of())["jobs"]) == ["0", "2"]
    # typed overrides are kept, and a job keeps its number when others come before it
    train("resume=latest", "seed=0,1")
    assert set(jobs_of(sweep_of())) >= {
        "0_hidden_size=8",
        "2_hidden_size=9",
        "3_hidden_size=8,seed=0",
    }
    assert kept.stat().st_mtime_ns == before
    assert summary_of(sweep_of() / "0_hidden_size=8")["options"]["seed"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_finished_sweep_can_be_made_longer(train: Train) -> None:
    train("-m", *SMALL, "scheduler=none", "trainer.max_epochs=1", "seed=1,2")
    sweep = sweep_of()
    done = train(f"resume={sweep}", "trainer.max_epochs=2")
    assert done.status == 0, done.err
    for name in ("0_seed=1", "1_seed=2"):
        assert len((sweep / name / "metrics.csv").read_text("utf-8").splitlines()) == 3
    straight = train(*SMALL, "scheduler=none", "seed=2")
    assert straight.directory is not None
    rows = (straight.directory / "metrics.csv").read_text("utf-8").splitlines()
    resumed = (sweep / "1_seed=2/metrics.csv").read_text("utf-8").splitlines()
    speed = rows[0].split(",").index("train/chars_per_second")
    assert [without(row, speed) for row in rows] == [without(row, speed) for row in resumed]


def without(row: str, column: int) -> list[str]:
    cells = row.split(",")
    return cells[:column] + cells[column + 1 :]


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_finished_job_that_cannot_be_resumed_keeps_its_figures(
    train: Train, tmp_path: Path
) -> None:
    path, text = tmp_path / "song.txt", "一二三四五六七八九十\n" * 100
    path.write_text(text, "utf-8")
    own = ("data=text", f"data.path={path}", "trainer.max_epochs=1")
    assert train("-m", *SMALL, *own, "seed=1").status == 0
    sweep = sweep_of()
    [job] = sweep.glob("0_*")
    before = summary_of(job)
    path.write_text(text.replace("一", "零"), "utf-8")
    assert train(f"resume={sweep}", "trainer.max_epochs=2").status == 1
    failed = summary_of(job)
    assert (failed["status"], failed["options"]) == ("failed", before["options"])
    assert "is not the text" in failed["reason"]
    figures = [name for name in before if "/" in name]
    assert len(figures) > 3
    assert [failed[name] for name in figures] == [before[name] for name in figures]
    path.write_text(text, "utf-8")
    assert train(f"resume={sweep}", "trainer.max_epochs=1").status == 0
    assert [summary_of(job)[name] for name in figures] == [before[name] for name in figures]


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_single_job_can_be_resumed(train: Train) -> None:
    train(*SMALL, "trainer.max_epochs=1", "sweep=seeds", "seed=1,2")
    job = sweep_of() / "1_seed=2"
    done = train(f"resume={job}", "trainer.max_epochs=2")
    assert done.status == 0, done.err
    assert summary_of(job)["epochs"] == 2
    assert summary_of(sweep_of() / "0_seed=1")["epochs"] == 1


@pytest.mark.usefixtures("without_report")
def test_a_sweep_has_the_typed_name(train: Train) -> None:
    train(*SMALL, "sweep=seeds", "seed=1", "name=mine")
    assert sweep_of().name.endswith("_mine")


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_the_error_names_only_the_first_of_many_failures(train: Train) -> None:
    done = train("-m", *SMALL, "hidden_size=range(-10,0)")
    [line] = done.err.splitlines()
    assert "10 of 10 jobs did not finish: 0_hidden_size=-10 (failed: " in line
    assert "7_hidden_size=-3 (failed: " in line
    assert "8_hidden_size=-2" not in line
    assert "; and 2 more; to try these again: " in line


@pytest.mark.slow
def test_the_time_of_the_first_job_leaves_out_imports(tmp_path: Path) -> None:
    """Only the first job of a process imports torch."""
    subprocess.run(
        [sys.executable, "-m", "lyricgen.train", "-m", *SMALL, "seed=1,2"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "LYRICGEN_OUTPUTS": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    first, second = (summary_of(sweep_of(tmp_path) / name) for name in ("0_seed=1", "1_seed=2"))
    assert first["wall_seconds"] < 4 * second["wall_seconds"]


@pytest.mark.usefixtures("without_report")
def test_an_interrupted_sweep_names_the_command_to_resume(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_and_evaluate = training.train_and_evaluate

    def interrupt(prepared: training.Training, *arguments: Any) -> dict[str, Any]:
        if prepared.options.seed == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_and_evaluate(prepared, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_and_evaluate", interrupt)
        done = train("-m", *SMALL, "seed=1,2,3")
    assert done.status == 130
    sweep = sweep_of()
    assert f"to go on with the sweep: python -m lyricgen.train resume={sweep}" in done.out
    assert [summary_of(sweep)["status"], summary_of(sweep / "1_seed=2")["status"]] == [
        "interrupted", "interrupted",
    ]  # fmt: skip
    assert not (sweep / "2_seed=3").exists()
    done = train(f"resume={sweep}")
    assert done.status == 0, done.err
    assert done.out.startswith("1 of 3 jobs are done\n")
    assert {summary_of(sweep / name)["status"] for name in jobs_of(sweep)} == {"finished"}


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_killed_sweep_is_resumed_exactly(train: Train, tmp_path: Path) -> None:
    arguments = [*TINY, "trainer.max_epochs=3", "depth=deep", "cell=gru,lstm,rnn"]
    train_until_killed(3 + 1, tmp_path / "killed", "-m", *arguments)
    sweep = sweep_of(tmp_path / "killed")
    first = summary_of(sweep / "0_cell=gru")
    assert first["status"] == "finished"
    assert summary_of(sweep / "1_cell=lstm")["status"] == "running"
    assert not (sweep / "2_cell=rnn").exists()
    done = train(f"resume={sweep}")
    assert done.status == 0, done.err
    assert summary_of(sweep / "0_cell=gru") == first  # it is unchanged
    assert summary_of(sweep / "1_cell=lstm")["resumed"]
    whole = train("-m", *arguments)
    assert whole.status == 0, whole.err
    for name in ("0_cell=gru", "1_cell=lstm", "2_cell=rnn"):
        assert not differences(sweep_of() / name, sweep / name)


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_two_processes_cannot_run_the_same_sweep(train: Train) -> None:
    train("-m", *SMALL, "seed=1")
    with claim_directory(sweep_of()):
        done = train("resume=latest")
    assert done.status == 2
    assert "is in use by another process" in done.err


@pytest.mark.usefixtures("without_report")
def test_a_second_sweep_in_the_same_directory_is_refused(train: Train) -> None:
    train("-m", *SMALL, "seed=1", "hydra.sweep.dir=here")
    done = train("-m", *SMALL, "seed=2", "hydra.sweep.dir=here")
    assert done.status == 2
    assert "'here' holds a sweep already" in done.err
    assert "resume=here" in done.err


def test_a_sweeper_that_hides_failed_jobs_is_refused(train: Train) -> None:
    done = train("-m", *SMALL, "seed=1,2", "optimizer.lr=-1,0.01", "hydra/sweeper=basic")
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.startswith("error: hydra/sweeper=basic: ")
    assert not list(Path().rglob("summary.json"))


EXPECTED: dict[str, dict[str, set[Any]]] = {
    "cells_by_depth": {"cell": {"rnn", "gru", "lstm"}, "layers": {1, 2}, "seed": {1, 2, 3}},
    "samplers": {"sampler": {"random", "consecutive"}, "seed": {1, 2, 3}},
    "learning_rate": {"optimizer.lr": {0.001, 0.003, 0.01, 0.03}, "seed": {1, 2}},
    "seeds": {"seed": {1, 2, 3, 4, 5}},
}


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize("name", sorted(EXPECTED))
@pytest.mark.parametrize("recipe", [(), ("experiment=dino",), ("-m", "experiment=textbook")])
def test_the_sweeps_of_the_configuration_files(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str, recipe: tuple[str, ...]
) -> None:
    planned: list[dict[str, Any]] = []

    def note(directory: Path, jobs: list[PlannedJob]) -> list[Any]:
        del directory
        planned.extend(job.values for job in jobs)
        return []

    monkeypatch.setattr(grid, "plan", note)
    expected = EXPECTED[name]
    if recipe:  # a typed setting wins over the file
        expected = expected | {"seed": {7}}
        recipe = (*recipe, "seed=7")
    result = train(*recipe, f"sweep={name}")
    assert result.status == 0, result.err
    found = [tuple(flatten(values)[key] for key in expected) for values in planned]
    assert len(found) == len(set(found))
    assert set(found) == set(product(*expected.values()))
    assert sweep_of().name.endswith(f"_{name}")
    if "experiment=dino" in recipe:
        assert {values["data"]["kind"] for values in planned} == {"dino"}
        assert {values["optimizer"]["weight_decay"] for values in planned} == {0.1}


def test_jobs_are_named_after_their_differences() -> None:
    grid = [["cell=rnn", "data.path=a", "seed=1"], ["cell=rnn", "data.path=b", "seed=2"]]
    assert name_jobs(grid, ["data.path"]) == ["seed=1", "seed=2"]
    assert name_jobs(grid[:1], ["data.path"]) == ["cell=rnn,seed=1"]
    assert name_jobs(grid, ["data.path", "seed"]) == ["data.path=a,seed=1", "data.path=b,seed=2"]
    assert name_jobs([[]], []) == [""]
    points = [["seed=1", "cell=gru"], ["seed=1", "layers=2", "cell=rnn"], ["seed=1"]]
    assert name_jobs(points, []) == ["cell=gru", "cell=rnn,layers=2", ""]


def test_equal_jobs_have_their_own_directories(tmp_path: Path) -> None:
    twice = [PlannedJob(["seed=1"], "seed=1", {"seed": 1, "trainer": {}})] * 2
    jobs = plan(tmp_path, twice)
    assert [job.name for job in jobs] == ["0_seed=1", "1_seed=1"]
    for job in jobs:
        (tmp_path / job.name).mkdir()
        summary = {"status": "finished", "options": {"seed": 1, "trainer": {}}}
        (tmp_path / job.name / "summary.json").write_text(json.dumps(summary), "utf-8")
    again = plan(tmp_path, [*twice, twice[0]])
    assert [(job.name, job.begun, job.done) for job in again] == [
        ("0_seed=1", True, True), ("1_seed=1", True, True), ("2_seed=1", False, False),
    ]  # fmt: skip


def jobs_with_epochs(*epochs: int) -> list[PlannedJob]:
    return [
        PlannedJob([f"trainer.max_epochs={n}"], str(n), {"seed": 1, "trainer": {"max_epochs": n}})
        for n in epochs
    ]


BEGUN = {"seed": 1, "trainer": {"max_epochs": 2}}  # options of a job


@pytest.mark.parametrize(
    ("summary", "numbers"),
    [
        ({"status": "failed", "options": BEGUN, "epochs": 3}, [1, 1, 0]),
        ({"status": "finished", "options": BEGUN, "epochs": None}, [1, 1, 0]),
        ({"status": "failed", "options": {"seed": 1}, "epochs": 3}, [0, 1, 1]),
        ({"status": "finished", "options": ["seed=1"], "epochs": 3}, [1, 1, 1]),
        ({"status": "finished", "options": {"seed": 1, "trainer": None}, "epochs": 3}, [1, 0, 1]),
    ],
)
def test_jobs_are_planned_in_spite_of_wrong_options(
    tmp_path: Path, summary: dict[str, Any], numbers: list[int]
) -> None:
    """A refused configuration or a damaged summary does not stop the plan."""
    (tmp_path / "0_seed=1").mkdir()
    (tmp_path / "0_seed=1/summary.json").write_text(json.dumps(summary), "utf-8")
    given: list[dict[str, Any]] = [{}, {"trainer": None}, {"trainer": {"max_epochs": 2}}]
    plans = [[PlannedJob(["seed=1"], "seed=1", {"seed": 1, **trainer})] for trainer in given]
    assert [plan(tmp_path, one)[0].number for one in plans] == numbers


def test_jobs_that_differ_only_in_epochs_keep_their_directories(tmp_path: Path) -> None:
    planned = jobs_with_epochs(*range(1, 13))  # "10_" and "11_" come before "2_" by name
    for job, one in zip(plan(tmp_path, planned), planned, strict=True):
        (tmp_path / job.name).mkdir()
        epochs = one.values["trainer"]["max_epochs"]
        summary = {"status": "finished", "options": one.values, "epochs": epochs}
        (tmp_path / job.name / "summary.json").write_text(json.dumps(summary), "utf-8")
    again = plan(tmp_path, planned)
    assert [job.overrides for job in again] == [one.overrides for one in planned]
    assert all(job.done for job in again)
    assert [job.number for job in again] == list(range(12))
    others = {job.name: (job.begun, job.done) for job in plan(tmp_path, jobs_with_epochs(3, 20))}
    # any job may be made longer, except one that the new sweep asks for unchanged
    assert others == {"0_1": (True, False), "2_3": (True, True)}


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_more_numbers_of_epochs_add_jobs(train: Train) -> None:
    train("-m", *SMALL, "trainer.max_epochs=2,3")
    sweep = sweep_of()
    before = {name: (sweep / name / "summary.json").read_bytes() for name in jobs_of(sweep)}
    done = train("resume=latest", "trainer.max_epochs=1,2,3")
    assert done.status == 0, done.err
    assert {name: (sweep / name / "summary.json").read_bytes() for name in before} == before
    [added] = set(jobs_of(sweep)) - before.keys()
    assert (added[:2], summary_of(sweep / added)["epochs"]) == ("2_", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_fewer_epochs_than_trained_are_refused(train: Train) -> None:
    train("-m", *SMALL, "seed=1,2")
    sweep = sweep_of()
    before = {path: path.read_bytes() for path in sweep.rglob("summary.json")}
    refused = train("resume=latest", "trainer.max_epochs=1")
    assert refused.status == 2
    assert messages(refused.err) == [
        "error: trainer.max_epochs=1: job 0_seed=1 has trained for 2 epochs: choose 2 or more"
    ]
    assert {path: path.read_bytes() for path in sweep.rglob("summary.json")} == before


@pytest.mark.parametrize(
    ("status", "saved", "epochs", "refused"),
    [
        ("interrupted", True, None, "was begun for 9"),
        ("killed", True, None, "was begun for 9"),
        ("failed", True, None, "was begun for 9"),
        ("finished", True, 4, "was begun for 9"),  # stopped early
        ("pruned", True, 4, "was begun for 9"),
        ("finished", True, 9, "has trained for 9"),
        ("failed", False, None, None),  # starts again
        ("killed", False, None, None),
    ],
)
def test_making_a_trained_job_shorter_is_refused(
    tmp_path: Path, status: str, saved: bool, epochs: int | None, refused: str | None
) -> None:
    [begun, second] = jobs_with_epochs(9), jobs_with_epochs(6)
    [job] = plan(tmp_path, begun)
    checkpoints = tmp_path / job.name / "checkpoints"
    checkpoints.mkdir(parents=True)
    if saved:
        (checkpoints / "last.ckpt").touch()
    summary = {"status": status, "options": begun[0].values, "epochs": epochs}
    (tmp_path / job.name / "summary.json").write_text(json.dumps(summary), "utf-8")
    if refused is None:
        assert plan(tmp_path, second)[0].number == 0
        return
    with pytest.raises(UserError) as error:
        plan(tmp_path, second)
    assert str(error.value) == (f"trainer.max_epochs=6: job 0_9 {refused} epochs: choose 9 or more")


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_making_a_partly_done_sweep_shorter_is_refused(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three jobs is done; no job begins and no file changes."""
    train_and_evaluate = training.train_and_evaluate

    def interrupt(prepared: training.Training, *arguments: Any) -> dict[str, Any]:
        figures = train_and_evaluate(prepared, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return figures

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_and_evaluate", interrupt)
        train("-m", *SMALL, "seed=1,2,3")
    before = {path: path.read_bytes() for path in Path("outputs").rglob("*") if path.is_file()}
    refused = train("resume=latest", "trainer.max_epochs=1")
    assert refused.status == 2
    assert len(messages(refused.err)) == 1
    assert "trainer.max_epochs=1: job 0_seed=1 " in refused.err
    after = {path: path.read_bytes() for path in Path("outputs").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_empty_directories_of_jobs_do_not_hinder_resuming(train: Train) -> None:
    train("-m", *SMALL, "trainer.max_epochs=1", "seed=1")
    sweep = sweep_of()
    for seed in range(3, 23):  # many, since the file system gives any order
        (sweep / f"0_seed={seed}").mkdir()
    done = train("resume=latest")
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    "typed", [("sweep=seeds", "seed=1,2"), ("sweep=optuna", "hidden_size=range(4,8,step=2)")]
)
def test_a_misspelt_key_is_named(train: Train, typed: tuple[str, ...]) -> None:
    refused = train(*typed, "hidden_sise=4")
    assert (refused.status, refused.directory) == (2, None)
    assert "hidden_sise" in refused.err
    assert refused.err.count("\n") == 1


def test_sweep_adds_multirun_for_hydra() -> None:
    assert expand(["seed=3", "sweep=seeds", "--config-dir", "x"]) == [
        "--multirun", "--config-dir", "x", "seed=3", "sweep=seeds",
    ]  # fmt: skip
    for others in (["-m"], ["--cfg", "job"], ["--info=config"], ["--help"]):
        assert "--multirun" not in expand(["sweep=seeds", *others])
    for none in ("sweep=null", "sweep=None"):
        assert expand([none, "seed=1"]) == ["seed=1"]
    assert "--multirun" not in expand(["sweep=seeds", "hydra.mode=RUN"])


def make(place: str, count: int) -> list[str]:
    return [str(new_directory(Path(place))) for _ in range(count)]


@pytest.mark.slow
def test_no_two_runs_have_the_same_directory(tmp_path: Path) -> None:
    with fork_context().Pool(4) as pool:
        made = pool.starmap(make, [(str(tmp_path / "day/歌 1"), 25)] * 4)
    names = [name for some in made for name in some]
    assert len(set(names)) == 100
    assert {Path(name).name for name in names} == {
        "歌 1", *(f"歌 1_{number}" for number in range(2, 101)),
    }  # fmt: skip


def test_two_runs_of_the_same_microsecond_have_two_directories(train: Train) -> None:
    at = "hydra.run.dir=${lyricgen.new_directory:outputs/runs/12-00-00.000000_x}"
    first, second = train(*SMALL, at), train(*SMALL, at)
    assert first.directory is not None, first.err
    assert second.directory is not None, second.err
    assert second.directory.name == f"{first.directory.name}_2"


@pytest.mark.slow
def test_jobs_do_not_leak_memory(tmp_path: Path) -> None:
    """Measure the resident memory after each of 30 jobs in one process, all callbacks on."""
    script = ROOT / "scripts" / "sweep_child.py"
    result = subprocess.run(
        [sys.executable, script, "-m", *TINY, "trainer.max_epochs=1", "seed=range(30)"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "LYRICGEN_OUTPUTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    used = json.loads(result.stdout.splitlines()[-1])["megabytes"]
    assert len(used) == 30
    assert max(used) - used[0] < 50


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_resuming_a_sweep_reads_its_recorded_arguments(train: Train) -> None:
    more = ("hydra.verbose=false", "+hydra.job.env_set.NOTHING=1")
    train("-m", "--config-dir", ".", *SMALL, "seed=1,2", *more)
    sweep = sweep_of()
    expanded = expand([f"resume={sweep}", "hidden_size=9"])
    assert expanded[:3] == ["--multirun", "--config-dir", str(Path.cwd())]
    assert expanded[-4:] == [
        "hidden_size=9", f"hydra.sweep.dir='{sweep}'", "hydra.mode=MULTIRUN", f"resume='{sweep}'",
    ]  # fmt: skip
    assert expanded[3:-4] == [
        *(one for one in SMALL if not one.startswith("hidden_size=")), "seed=1,2", *more,
    ]  # fmt: skip


def test_begun_jobs_are_found_by_their_other_settings_before_those_that_may_change() -> None:
    """A begun job has chosen its kernel; its plan still says auto."""
    planned = [{"cell": {"kernel": "auto"}, "trainer": {"max_epochs": epochs}} for epochs in (2, 3)]
    begun = {
        number: {"cell": {"kernel": "fused"}, "trainer": {"max_epochs": epochs}}
        for number, epochs in ((0, 3), (1, 2))
    }
    assert grid._match(planned, begun) == {0: 1, 1: 0}
