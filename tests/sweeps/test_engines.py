"""Engines run jobs side by side by the real command; some jobs, sweeps or servers are killed."""

import json
import math
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import _ParentProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from compare_runs import differences
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from rich import get_console

from lyricgen import threads
from lyricgen.runs.directories import claim_directory, is_alive
from lyricgen.runs.summary import read_summary
from lyricgen.sweeps import job
from lyricgen.sweeps import launch as engines
from lyricgen.sweeps.job import (
    SWEEP,
    SWEEP_STOP_SECONDS,
    change_environment,
    do_as_job,
    process_name,
    stop_file,
)
from lyricgen.sweeps.sweep import Sweep
from lyricgen.sweeps.watch import LauncherWatch
from tests.conftest import SMALL, TINY, Train, hear_ctrl_c, summary_of, sweep_of, until
from tests.helpers import slurm

LONG = ("trainer.max_epochs=100000", "callbacks.early_stopping.enabled=false")
NEEDS = {"slurm": "submitit", "ray": "ray", "joblib": "joblib"}

# The programs below are the content of sitecustomize.py, which Python imports first in the sweep
# and in each job.
#
# A sweep without its report, which takes seconds.
WITHOUT_REPORT = """
import sys, types
unmade = types.SimpleNamespace(report_sweep=lambda directory: None)
sys.modules["lyricgen.reporting.sweep_report"] = unmade
"""

# Each job calls `before` first.
CHANGED_JOBS = """
import importlib.abc, importlib.util, os, pathlib, signal, sys, time

def before(training, directory):
{before}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "lyricgen.training.main":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            train_and_evaluate = module.train_and_evaluate

            def changed(training, run, point):
                before(training, run.directory)
                return train_and_evaluate(training, run, point)

            module.train_and_evaluate = changed

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""

# The job with seed=2 raises, and those with seed=3 and 4 call sys.exit(0) and sys.exit(1).
SPOILED = """
    seed = training.options.seed
    if seed == 2:
        raise RuntimeError("spoiled")
    if seed in (3, 4):
        sys.exit(seed - 3)
"""

# The job with seed=2 raises once the job with seed=1 has finished its first epoch; the second epoch
# of all other jobs takes long.
SPOILED_LATER = """
    if training.options.seed == 2 and not (directory.parent / "go").exists():
        while not list(directory.parent.glob("0_*/metrics.csv")):
            time.sleep(0.02)
        raise RuntimeError("spoiled")
    step = training.module.training_step
    def training_step(batch, batch_idx):
        if training.trainer.current_epoch == 1 and not (directory.parent / "go").exists():
            time.sleep(1)
        return step(batch, batch_idx)
    training.module.training_step = training_step
"""

# Each job waits in its second epoch until the sweep's directory has a file `go`.
HELD = """
    step = training.module.training_step
    def training_step(batch, batch_idx):
        if training.trainer.current_epoch == 1:
            (directory / "held").touch()
            while not (directory.parent / "go").exists():
                time.sleep(0.02)
        return step(batch, batch_idx)
    training.module.training_step = training_step
"""

# No job finishes a step of its second epoch; the job with seed=2 also ignores SIGTERM.
STUCK = """
    step = training.module.training_step
    def training_step(batch, batch_idx):
        if training.trainer.current_epoch == 1:
            if training.options.seed == 2:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (directory / "stuck").touch()
            time.sleep(1000)
        return step(batch, batch_idx)
    training.module.training_step = training_step
"""

# A job waits only a few seconds after its sweep has ended.
SOONER = """
    from lyricgen.sweeps import job
    job.SWEEP_STOP_SECONDS = 4.0
"""


# Tasks of Slurm seem to run on another host.
TASKS_ON = """
import sys
if {host!r} is not None and "submitit.core._submit" in sys.orig_argv:
    import socket
    socket.gethostname = lambda: {host!r}
"""

# The launcher soon gives up a killed task; held jobs continue seconds later.
GIVEN_UP = """
if "lyricgen.train" in sys.orig_argv:
    import threading
    from submitit import SlurmJob
    def results(job, original=SlurmJob.results):
        try:
            return original(job)
        finally:
            threading.Timer(3, pathlib.Path({go!r}).touch).start()
    SlurmJob.results, SlurmJob._results_timeout_s, SlurmJob.watcher._delay_s = results, 1, 1
"""


def changes_of_jobs(before: str) -> str:
    """Return the changes for a sweep whose jobs run the code `before` first."""
    return WITHOUT_REPORT + CHANGED_JOBS.format(before=before)


class Command:
    """A sweep by the real command in its own session."""

    def __init__(self, sweep: Path, *overrides: str, **environment: str) -> None:
        self.sweep = sweep
        given = {key: value for key, value in os.environ.items() if not key.startswith("LYRICGEN_")}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lyricgen.train", "-m", *SMALL),
                *(f"hydra.sweep.dir={sweep}", *overrides),
            ],
            env=given
            | {"LYRICGEN_OUTPUTS": str(sweep.parent / "outputs"), "OMP_NUM_THREADS": "1"}
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,  # noqa: PLW1509
        )

    def wait(self, seconds: float = 300) -> tuple[int, str]:
        """Wait for the end; return the exit status and the output."""
        out, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, out

    def wait_for_job(self, number: int, file: str = "metrics.csv") -> dict[str, Any]:
        """Wait until a job has a file, by default that of its first epoch; return its summary."""

        def look() -> dict[str, Any] | None:
            found = [path.parent for path in self.sweep.glob(f"{number}_*/{file}")]
            assert self.process.poll() is None, self.process.communicate()[0]
            return read_summary(found[0]).entries() if found else None

        return until(look)

    def go(self) -> None:
        """Let held jobs go on."""
        (self.sweep / "go").touch()

    def stop(self, name: str) -> None:
        """Stop by SIGTERM, or by the signals that a terminal sends to all on Ctrl-C or closing."""
        if name == "Ctrl-C":
            os.killpg(self.process.pid, signal.SIGINT)
        elif name == "SIGHUP":
            for _ in range(2):
                os.killpg(self.process.pid, signal.SIGHUP)
                time.sleep(0.2)
        else:
            self.process.terminate()

    @property
    def statuses(self) -> list[str]:
        """Statuses of all jobs that have begun, by number."""
        jobs = sorted(path.parent for path in self.sweep.glob("*/summary.json"))
        return [read_summary(job).status for job in jobs]

    @property
    def processes(self) -> list[int]:
        """Numbers of all processes alive in the session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(") ")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    def end(self) -> None:
        """Kill all processes of the session."""
        for process in (*self.processes, self.process.pid):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a sweep by the real command on an engine; it is killed after the test.

    `changes` is code that Python runs first in the sweep and in its jobs.
    """
    started: list[Command] = []

    def command(
        engine: str, *overrides: str, changes: str = WITHOUT_REPORT, **environment: str
    ) -> Command:
        if engine in NEEDS:
            pytest.importorskip(f"hydra_plugins.hydra_{NEEDS[engine]}_launcher")
        overrides = (f"hydra/launcher={engine}", *overrides)
        (tmp_path / "sitecustomize.py").write_text(changes, "utf-8")
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        environment = {"PYTHONPATH": path, **environment}
        started.append(Command(tmp_path / "sweep", *overrides, **environment))
        return started[-1]

    yield command
    for each in started:
        each.end()


# Each engine


TWO = "hydra.sweeper.jobs_at_a_time=2"  # whatever the number of cores
needs_two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="jobs run side by side on two cores at least"
)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["basic", "cpus", "processes", "ray"])
def test_jobs_of_each_engine_equal_single_runs(start: Start, trained: Train, engine: str) -> None:
    command = start(engine, "seed=1,2", changes="")
    status, out = command.wait()
    assert status == 0, out
    assert command.statuses == ["finished", "finished"]
    for name in ("0_seed=1", "1_seed=2"):
        # only the sweep names the job; the job itself prints nothing
        assert out.count(name) == 1, out
    assert "epoch 1/2" not in out
    assert "epoch 1/2" in (command.sweep / "1_seed=2/train.log").read_text("utf-8")
    # an engine changes no figure
    single = trained(*SMALL, "seed=2").summary
    job = read_summary(command.sweep / "1_seed=2").entries()
    for name in ("train/loss", "val/loss", "test/loss"):
        assert job[name] == single[name]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["basic", "processes"])
def test_failing_jobs_are_reported(start: Start, engine: str) -> None:
    spoiled = changes_of_jobs(SPOILED)
    command = start(engine, "seed=1,2,3,4,5", "trainer.max_epochs=1", changes=spoiled)
    status, out = command.wait()
    assert status == 1, out
    assert command.statuses == ["finished", "failed", "failed", "failed", "finished"]
    *_, last = out.splitlines()
    assert last.startswith("error: 3 of 5 jobs did not finish: 1_seed=2 (failed: RuntimeError")
    assert [name in last for name in ("0_", "2_seed=3", "3_seed=4", "4_")] == [
        False,
        True,
        True,
        False,
    ]
    assert "Traceback" not in out
    assert 'RuntimeError("spoiled")' in read_summary(command.sweep / "1_seed=2").traceback


FAST = "hydra.sweeper.fail_fast=true"


@needs_two_cores
@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize("engine", ["processes", "joblib", "slurm"])
def test_the_first_failed_job_stops_a_sweep(
    start: Start, train: Train, trained: Train, cluster: Path, engine: str
) -> None:
    number = {"processes": [TWO], "joblib": ["hydra.launcher.n_jobs=2"], "slurm": []}[engine]
    seeds = "seed=1,2,3" if engine == "processes" else "seed=1,2"  # others begin jobs themselves
    variables = variables_of(cluster) if engine == "slurm" else {}
    spoiled = changes_of_jobs(SPOILED_LATER)
    command = start(engine, seeds, FAST, *number, changes=spoiled, **variables)
    status, out = command.wait()
    assert status == 1, out
    assert "Traceback" not in out
    assert command.statuses == ["interrupted", "failed"]
    failure = "job 1_seed=2 failed: RuntimeError: spoiled"
    assert out.splitlines()[-1].startswith(f"error: {failure} (")
    summary = read_summary(command.sweep)
    assert (summary.status, str(summary.reason).partition(" (")[0]) == ("failed", failure)
    assert not list(command.sweep.glob("2_*/summary.json"))
    until(lambda: not command.processes, 60)
    again = train(f"resume={command.sweep}", "hydra/launcher=processes")
    assert again.status == 0, again.err
    assert set(command.statuses) == {"finished"}
    assert summary_of(command.sweep).get("reason") is None
    single = trained(*SMALL, "seed=1").directory
    assert single is not None
    assert not differences(single, command.sweep / "0_seed=1")


@needs_two_cores
@pytest.mark.slow
def test_a_killed_job_stops_a_sweep_that_fails_fast(start: Start) -> None:
    command = start("processes", "seed=1,2,3", FAST, TWO, changes=changes_of_jobs(HELD))
    command.wait_for_job(0, "held")
    os.kill(command.wait_for_job(1, "held")["process"], signal.SIGKILL)
    until(lambda: list(command.sweep.glob(".stop*")))
    time.sleep(1)  # the other job sees the file
    command.go()
    status, out = command.wait()
    assert status == 1, out
    assert command.statuses == ["interrupted", "killed"]
    assert out.splitlines()[-1].startswith("error: job 1_seed=2 killed (")


@needs_two_cores
@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_job_is_reported_and_resumed(
    start: Start, train: Train, number: signal.Signals
) -> None:
    command = start("processes", "seed=1,2,3", TWO, changes=changes_of_jobs(HELD))
    command.wait_for_job(0, "held")
    os.kill(command.wait_for_job(1, "held")["process"], number)
    command.go()
    status, out = command.wait()
    assert status == 1, out
    assert "Traceback" not in out
    killed = "killed" if number == signal.SIGKILL else "interrupted"
    assert f"1_seed=2 ({killed})" in out.splitlines()[-1]
    assert command.statuses == ["finished", killed, "finished"]
    assert "1 of 3 jobs" in out.splitlines()[-1]
    again = train(f"resume={command.sweep}")
    assert again.status == 0, again.err
    assert command.statuses == ["finished"] * 3


@needs_two_cores
@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("Ctrl-C", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
def test_a_stopped_sweep_interrupts_its_jobs(start: Start, name: str, expected: int) -> None:
    command = start("processes", "seed=1,2,3", *LONG, TWO)
    command.wait_for_job(0)
    command.stop(name)
    status, out = command.wait()
    assert status == expected, out
    assert "Traceback" not in out
    assert set(command.statuses) == {"interrupted"}
    assert read_summary(command.sweep).status == "interrupted"
    assert not (command.sweep / "2_seed=3/summary.json").exists()
    until(lambda: not command.processes, 60)
    assert not list(command.sweep.glob(".stop*"))


@needs_two_cores
@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("Ctrl-C", 130), ("SIGTERM", 143)])
def test_a_second_signal_stops_a_sweep_at_once(start: Start, name: str, expected: int) -> None:
    """The jobs are stuck and do not stop after the first signal."""
    command = start("processes", "seed=1,2,3", *LONG, TWO, changes=changes_of_jobs(STUCK))
    jobs = [command.wait_for_job(number, "stuck")["process"] for number in (0, 1)]
    command.stop(name)
    until(lambda: list(command.sweep.glob(".stop*")))
    time.sleep(1)  # each job sees the file
    assert command.process.poll() is None
    assert command.statuses == ["running", "running"]
    command.stop(name)
    status, out = command.wait(60)
    assert status == expected, out
    assert "Traceback" not in out
    assert "from outside" not in out
    assert command.statuses == ["interrupted", "killed"]
    assert read_summary(command.sweep).status == "interrupted"
    assert not (command.sweep / "2_seed=3/summary.json").exists()
    assert not any(is_alive(job) for job in jobs)
    until(lambda: not command.processes, 60)
    assert not list(command.sweep.glob(".stop*"))


@needs_two_cores
@pytest.mark.slow
def test_the_jobs_of_a_killed_sweep_end(start: Start) -> None:
    command = start("processes", "seed=1,2", *LONG)
    processes = [command.wait_for_job(number)["process"] for number in (0, 1)]
    command.process.kill()
    command.process.wait()
    until(lambda: not set(processes) & set(command.processes), 30)
    assert command.statuses == ["interrupted", "interrupted"]
    assert read_summary(command.sweep).status == "killed"


@needs_two_cores
@pytest.mark.slow
def test_no_stuck_job_outlives_a_killed_sweep(start: Start) -> None:
    command = start("processes", "seed=1,2,3", *LONG, TWO, changes=changes_of_jobs(STUCK + SOONER))
    jobs = [command.wait_for_job(number, "stuck")["process"] for number in (0, 1)]
    command.process.kill()
    command.process.wait()
    until(lambda: not (command.processes or any(map(is_alive, jobs))), 3 * SWEEP_STOP_SECONDS)
    assert command.statuses == ["interrupted", "killed"]
    assert not (command.sweep / "2_seed=3").exists()


@needs_two_cores
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_of_another_launcher_stop_with_the_sweep(start: Start, number: signal.Signals) -> None:
    """The workers of joblib know their parent, but have no pipe to it; idle ones would go on."""
    command = start("joblib", "seed=1,2", *LONG, "hydra.launcher.n_jobs=2")
    for each in (0, 1):
        command.wait_for_job(each)
    command.process.send_signal(number)
    command.process.wait(60)
    until(lambda: not command.processes, 60)
    status, out = command.wait()
    assert status == (143 if number == signal.SIGTERM else -number), out
    assert "Traceback" not in out
    assert command.statuses == ["interrupted", "interrupted"]


# Each job writes the state that its process inherited to a file.
INHERITED = """
    import json, torch
    inherited = {
        "parent": os.getppid(), "threads": torch.get_num_threads(),
        "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "variable": os.environ.get("OMP_NUM_THREADS"),
        "others": len(os.listdir(f"/proc/{os.getppid()}/task")) - 1,
    }
    (directory / "inherited.json").write_text(json.dumps(inherited))
"""


@pytest.mark.slow
def test_every_job_has_a_fresh_process_of_one_server(start: Start) -> None:
    inherited = changes_of_jobs(INHERITED)
    command = start("cpus", "seed=1,2,3", "trainer.max_epochs=1", TWO, changes=inherited)
    status, out = command.wait()
    assert status == 0, out
    assert "Warning" not in out
    jobs = sorted(path.parent for path in command.sweep.glob("*/summary.json"))
    assert len({read_summary(job).process for job in jobs}) == 3
    found = [json.loads((job / "inherited.json").read_text("utf-8")) for job in jobs]
    assert found[0] == found[1] == found[2]  # one server, without threads that a fork loses
    assert found[0] | {"parent": 0} == {
        **{"parent": 0, "threads": 1, "blocked": [], "variable": "1", "others": 0},
    }


@needs_two_cores
@pytest.mark.slow
def test_jobs_continue_after_their_server_is_killed(start: Start) -> None:
    command = start("processes", "seed=1,2,3", TWO, changes=changes_of_jobs(HELD))
    command.wait_for_job(0, "held")
    job = command.wait_for_job(1, "held")["process"]
    server = int(Path(f"/proc/{job}/stat").read_text().rpartition(") ")[2].split()[1])
    assert server != command.process.pid
    os.kill(server, signal.SIGKILL)
    command.go()
    status, out = command.wait()
    assert status == 0, out
    assert command.statuses == ["finished"] * 3


# Import all that the fork server imports, and note each call about GPUs.
SERVER = """
import os, threading, torch
asked = []
for name in ("device_count", "is_available", "_lazy_init"):
    setattr(torch.cuda, name, lambda *_, name=name: asked.append(name) or 0)
before = torch.get_rng_state().tolist()
from lyricgen.sweeps.job import PRELOADED
for name in PRELOADED:
    __import__(name)
print(asked, len(os.listdir("/proc/self/task")), torch.get_rng_state().tolist() == before)
"""


@pytest.mark.slow
def test_the_fork_server_uses_no_gpus_threads_or_random_numbers() -> None:
    """A fork loses all threads but one, and CUDA fails if it started before the fork."""
    done = subprocess.run(
        [sys.executable, "-c", SERVER],
        env=os.environ | dict.fromkeys(threads.VARIABLES, "1"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[] 1 True\n"


# Start the fork server like a sweep, and print the blocked signals of one of its processes.
BLOCKED = """
import multiprocessing, signal
from lyricgen.sweeps import job
def blocked(queue):
    queue.put(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
if __name__ == "__main__":
    job.PRELOADED = []
    job.start_fork_server()
    context = multiprocessing.get_context("forkserver")
    queue = context.SimpleQueue()
    context.Process(target=blocked, args=[queue]).start()
    here = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    print(set(job.SIGNALS) <= set(queue.get()), here)
"""


def test_signals_are_blocked_until_a_job_handles_them(tmp_path: Path) -> None:
    (tmp_path / "blocked.py").write_text(BLOCKED, "utf-8")
    done = subprocess.run(
        [sys.executable, "blocked.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True []\n"


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_sweep_of_an_earlier_version_is_resumed(train: Train) -> None:
    """The record has the typed engine and settings, with the launcher's old class."""
    done = train("-m", "hydra/launcher=cpus", "hydra.launcher.n_jobs=2", *SMALL, "seed=1,2")
    assert done.status == 0, done.err
    sweep = sweep_of()
    record = (sweep / "multirun.yaml").read_text("utf-8")
    assert "- hydra/launcher=cpus" in record
    record = record.replace(
        "_target_: hydra_plugins.lyricgen_plugins.ProcessLauncher",
        "_target_: hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    )
    typed = "- hydra.launcher.n_jobs=2\n"
    assert record.count(typed) == 1
    place = record.index(typed)
    indent = record[record.rindex("\n", 0, place) + 1 : place]
    # verbose is a setting of joblib
    record = record.replace(typed, f"{typed}{indent}- hydra.launcher.verbose=1\n")
    (sweep / "multirun.yaml").write_text(record, "utf-8")
    done = train(f"resume={sweep}", "seed=1,2,3")
    assert done.status == 0, done.err
    assert "verbose=1 is left out: hydra/launcher=cpus has no such setting now" in done.err
    assert "2 of 3 jobs are done" in done.out
    assert "job 2_seed=3 finished" in done.out


@pytest.mark.slow
def test_a_sweeper_of_another_package_gets_a_float_for_each_job(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floats are the figures of the jobs' summaries."""
    given: list[Any] = []

    def sweep(sweeper: Any, arguments: list[str]) -> None:
        overrides = [[*arguments, "seed=1"], [*arguments, "hidden_size=-1"]]
        given.extend(sweeper.launcher.launch(overrides, 3))

    monkeypatch.setattr("lyricgen.sweeps.grid.sweep_grid", sweep)
    done = train("-m", "hydra/launcher=processes", *SMALL)
    assert done.status == 0, done.err
    [value, lost] = [job.return_value for job in given]
    summaries = {path.parent.name[0]: path.parent for path in Path().rglob("summary.json")}
    assert value == read_summary(summaries["3"]).metrics["val/perplexity"]
    assert (lost, read_summary(summaries["4"]).status) == (math.inf, "failed")


# Slurm


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    place = tmp_path / "cluster"
    place.mkdir()
    slurm.install(place)
    return place


def variables_of(cluster: Path) -> dict[str, str]:
    return {"PATH": f"{cluster / 'bin'}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
def test_a_sweep_on_slurm_finishes(start: Start, cluster: Path) -> None:
    """The batch file has the chosen settings, and its jobs finish."""
    chosen = ("timeout_min=90", "mem_gb=3", "gpus_per_node=2")
    command = start(
        "slurm",
        "seed=1,2",
        "trainer.max_epochs=1",
        "hydra.sweeper.jobs_at_a_time=1",
        *(f"hydra.launcher.{one}" for one in (*chosen, "cpus_per_task=1", "partition=night")),
        **variables_of(cluster),
        **dict.fromkeys(threads.VARIABLES, ""),  # the user has set none
    )
    status, out = command.wait()
    assert status == 0, out
    assert command.statuses == ["finished", "finished"]
    assert [read_summary(job).threads for job in command.sweep.glob("*_seed=*")] == [1, 1]
    batch = (cluster / "batch.sh").read_text("utf-8")
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", batch, flags=re.M))
    expected = {
        **{"array": "0-1%1", "cpus-per-task": "1", "gpus-per-node": "2", "mem": "3GB"},
        **{"nodes": "1", "ntasks-per-node": "1", "partition": "night", "time": "90"},
        **{"job-name": "train", "signal": "USR2@120"},
    }
    assert {name: asked[name] for name in expected} == expected
    assert asked["output"].startswith(str(command.sweep / ".submitit"))
    # the sweep's Python, which finds lyricgen from any directory
    assert f" {sys.executable} -u -m submitit.core._submit {command.sweep}" in batch


@pytest.mark.slow
def test_a_preempted_job_of_slurm_is_resumed(start: Start, cluster: Path) -> None:
    """The warning comes in the middle of a job, which continues from there."""
    held = changes_of_jobs(HELD)
    command = start(
        "slurm", "seed=1,2", "trainer.max_epochs=3", changes=held, **variables_of(cluster)
    )
    os.kill(command.wait_for_job(1, "held")["process"], signal.SIGUSR2)
    command.go()
    status, out = command.wait()
    assert status == 0, out
    assert command.statuses == ["finished", "finished"]
    assert (cluster / "scontrol.log").read_text("utf-8") == "requeue 4242_1\n"
    summary = read_summary(command.sweep / "1_seed=2").entries()
    assert len(summary["resumed"]) == 1
    assert summary["epochs"] == 3
    log = (command.sweep / "1_seed=2/train.log").read_text("utf-8")
    epochs = re.findall(r"epoch (\d+)/3: train perplexity", log)  # no epoch twice
    assert epochs == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.parametrize("host", [None, "node7"])
def test_a_killed_job_of_slurm_does_not_end_the_sweep(
    start: Start, cluster: Path, tmp_path: Path, host: str | None
) -> None:
    """The sweep waits for the other job, although its launcher gives up."""
    given_up = GIVEN_UP.format(go=str(tmp_path / "sweep/go"))
    changes = changes_of_jobs(HELD) + given_up + TASKS_ON.format(host=host)
    command = start("slurm", "seed=1,2", changes=changes, **variables_of(cluster))
    command.wait_for_job(1, "held")
    killed = command.wait_for_job(0, "held")
    assert killed["host"] == (host or socket.gethostname())
    os.kill(killed["process"], signal.SIGKILL)
    status, out = command.wait()
    assert status == 1, out
    assert command.statuses == ["killed", "finished"]
    assert "job 0_seed=1 killed" in out
    assert "1 of 2 jobs did not finish: 0_seed=1 (killed)" in out
    # a death on another host cannot be seen, so it is written to the summary
    written = summary_of(command.sweep / "0_seed=1")["status"]
    assert written == ("killed" if host else "running")


@pytest.mark.slow
def test_a_stopped_sweep_stops_its_slurm_jobs(start: Start, cluster: Path) -> None:
    command = start("slurm", "seed=1,2", *LONG, **variables_of(cluster))
    for number in (0, 1):
        command.wait_for_job(number)
    command.process.send_signal(signal.SIGINT)
    status, out = command.wait()
    assert status == 130, out
    assert command.statuses == ["interrupted", "interrupted"]
    cancelled = (cluster / "scancel.log").read_text("utf-8").split()
    assert cancelled[0] == "--state=PENDING"
    assert {"4242_0", "4242_1"} <= set(cancelled)


class LosingLauncher:
    """Launcher whose jobs begin on another machine and never end."""

    def __init__(self, *directories: Path) -> None:
        self.directories = directories

    def launch(self, overrides: list[list[str]], first: int) -> None:
        del overrides, first
        for directory in self.directories:
            summary = {"status": "running", "host": "node7", "process": 1}
            (directory / "summary.json").write_text(json.dumps(summary), "utf-8")


def test_abandoned_jobs_on_other_machines_count_as_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, held, earlier = (tmp_path / name for name in ("0_lost", "1_held", "2_earlier"))
    for directory in (lost, held, earlier):
        directory.mkdir()
    (tmp_path / "summary.json").write_text('{"status": "running"}', "utf-8")
    LosingLauncher(earlier).launch([], 0)  # it belongs to another sweep
    launcher: Any = LosingLauncher(lost, held)
    with claim_directory(held):
        LauncherWatch(launcher, [[(0, []), (1, []), (2, [])]], tmp_path).run(1)
        statuses = [read_summary(each).status for each in (lost, held, earlier)]
    assert statuses == ["killed", "running", "running"]
    assert capsys.readouterr().out == "job 0_lost killed (1 of 3)\n"
    sweep = Sweep(tmp_path, [], resume=True)
    sweep.summary.jobs = {"0": [], "1": [], "2": [], "3": ["seed=4"]}
    assert sweep.unfinished_jobs() == [
        *("0_lost (killed)", "1_held (running)", "2_earlier (running)", "3 seed=4 (not begun)")
    ]


# Engines that are not installed


@pytest.mark.parametrize(
    ("engine", "plugin", "extra"),
    [
        ("slurm", "submitit_slurm", "slurm"),
        ("ray", "ray", "ray"),
    ],
)
def test_an_engine_without_its_package_names_the_extra(
    train: Train, monkeypatch: pytest.MonkeyPatch, engine: str, plugin: str, extra: str
) -> None:
    Plugins.instance()  # registers the launchers
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, f"{plugin}.yaml", raising=False)
    done = train("-m", f"hydra/launcher={engine}", *TINY, "seed=1,2")
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.endswith(f"pip install 'lyricgen[{extra}]'")


# Threads


def engine(name: str, n_jobs: int = -1) -> Any:
    launcher = type(name, (), {})()
    launcher.n_jobs = n_jobs
    return launcher


@pytest.mark.parametrize(
    ("launcher", "chosen", "jobs", "expected"),
    [
        (engine("BasicLauncher"), 4, 9, 1),
        (engine("ProcessLauncher"), None, 9, 8),
        (engine("ProcessLauncher"), None, 3, 3),
        (engine("ProcessLauncher", 2), None, 9, 2),
        (engine("ProcessLauncher", -2), None, 9, 7),
        (engine("ProcessLauncher", 2), 5, 9, 5),
        (engine("ProcessLauncher", 20), None, 30, 8),
        (engine("ProcessLauncher"), 3, 9, 3),
    ],
)
def test_number_of_jobs_at_a_time(
    monkeypatch: pytest.MonkeyPatch, launcher: Any, chosen: int | None, jobs: int, expected: int
) -> None:
    monkeypatch.setattr(engines, "cores", lambda: 8)
    assert engines.jobs_at_a_time(launcher, chosen, jobs) == expected


@pytest.mark.parametrize(("own", "jobs"), [(None, 1), (None, 3), (None, 8), ("1", 2), ("6", 2)])
@pytest.mark.parametrize("name", threads.VARIABLES)
def test_jobs_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, name: str, own: str | None, jobs: int
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    for variable in threads.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    if own is not None:
        monkeypatch.setenv(name, own)
    assert threads.threads_of_each(jobs) == min(8 // jobs, int(own or 8))


def test_cores_of_a_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/above/here\n")
    place = tmp_path / "groups/above/here"
    place.mkdir(parents=True)
    assert threads.quota(tmp_path / "groups", own) is None
    (place / "cpu.max").write_text("max 100000\n")
    assert threads.quota(tmp_path / "groups", own) is None
    (place / "cpu.max").write_text("350000 100000\n")
    assert threads.quota(tmp_path / "groups", own) == 4
    (place.parent / "cpu.max").write_text("50000 25000\n")
    assert threads.quota(tmp_path / "groups", own) == 2
    assert threads.quota(tmp_path / "groups", tmp_path / "none") is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(threads, "quota", lambda: None)
    assert threads.cores() == 16
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert threads.cores() == 3
    monkeypatch.setattr(threads, "quota", lambda: 2)
    assert threads.cores() == 2


OWN_CGROUPS = """\
11:memory:/docker/abc
4:{controllers}:/docker/abc
3:cpuset:/docker/abc
0::/docker/abc
"""


@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu", "cpuacct,cpu"])
@pytest.mark.parametrize("folder", ["docker/abc", "docker", ""])
@pytest.mark.parametrize("mount", ["all", "cpu"])
def test_cores_of_a_cgroup_of_version_1(
    tmp_path: Path, controllers: str, folder: str, mount: str
) -> None:
    """The quota is that of the process, a group above it, or a container without the path."""
    own = tmp_path / "cgroup"
    own.write_text(OWN_CGROUPS.format(controllers=controllers))
    groups = tmp_path / "groups"
    place = groups / (controllers if mount == "all" else "cpu") / folder
    place.mkdir(parents=True)
    quota, period = place / "cpu.cfs_quota_us", place / "cpu.cfs_period_us"
    quota.write_text("150000\n")
    assert threads.quota(groups, own) is None  # no period
    period.write_text("100000\n")
    assert threads.quota(groups, own) == 2
    period.write_text("0\n")
    assert threads.quota(groups, own) is None
    period.write_text("50000\n")
    assert threads.quota(groups, own) == 3
    quota.write_text("-1\n")
    assert threads.quota(groups, own) is None
    (groups / "cpuset/docker/abc").mkdir(parents=True)
    (groups / "cpu.max").write_text("100000 100000\n")  # with both versions the lower quota counts
    quota.write_text("400000\n")
    assert threads.quota(groups, own) == 1


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [2, 3])
def test_no_more_threads_than_cores(start: Start, jobs: int) -> None:
    cores = len(os.sched_getaffinity(0))
    variables = dict.fromkeys(threads.VARIABLES, "")  # the user has set none
    command = start("processes", f"seed=range({jobs})", "trainer.max_epochs=1", **variables)
    status, out = command.wait()
    assert status == 0, out
    used = [read_summary(path.parent).threads for path in command.sweep.glob("*/summary.json")]
    side_by_side = min(jobs, cores)
    assert used == [cores // side_by_side] * jobs


def test_one_process_uses_all_cores_but_no_more(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lyricgen.training.main.cores", lambda: 1)
    torch.set_num_threads(2)
    assert train(*TINY).summary["threads"] == 1


# Jobs and their processes


def test_an_interrupt_of_a_job_in_the_sweeps_process_is_raised(tmp_path: Path) -> None:
    def fail() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do_as_job(tmp_path, fail)
    assert not get_console().quiet


def test_a_job_whose_parent_has_no_sentinel_looks_for_the_sweep_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a worker of joblib; a process that has ended is gone, and this one is not."""
    parent = _ParentProcess("MainProcess", os.getpid(), None)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    assert not job._sweep_is_gone(process_name())
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert job._sweep_is_gone(f"{socket.gethostname()}_{ended.pid}")


def test_a_job_does_not_begin_after_the_sweep_was_stopped(tmp_path: Path) -> None:
    with change_environment({SWEEP: process_name()}):
        stop_file(tmp_path, process_name()).touch()
        assert do_as_job(tmp_path, lambda: 1.0) == math.inf


def test_slurm_without_its_commands_is_refused(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    done = train("-m", "hydra/launcher=slurm", "seed=1,2")
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.startswith("error: hydra/launcher=slurm: this machine has no Slurm")
    assert not [path for path in Path("outputs").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "typed",
    [
        "hydra.sweeper.jobs_at_a_time=two",
        "hydra.sweeper.jobs_at_a_time=1.5",
        "hydra.launcher.n_jobs=many",
        "hydra.sweeper.params=5",
        "+hydra.sweeper.jobs=3",
    ],
)
def test_a_wrong_setting_of_a_sweep_is_refused(train: Train, typed: str) -> None:
    done = train("-m", "hydra/launcher=processes", "seed=1,2", typed)
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.startswith(f"error: {typed.lstrip('+').partition('=')[0]}")
    assert not [path for path in Path("outputs").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("engine", "typed", "why"),
    [
        ("basic", "hydra.sweeper.jobs_at_a_time=0", "input should be greater than 0"),
        ("cpus", "hydra.sweeper.jobs_at_a_time=0", "input should be greater than 0"),
        ("processes", "hydra.sweeper.jobs_at_a_time=0", "input should be greater than 0"),
        ("processes", "hydra.launcher.n_jobs=0", "choose 1 or more, or -1 for one job a core"),
    ],
)
def test_zero_jobs_at_a_time_is_refused(train: Train, engine: str, typed: str, why: str) -> None:
    done = train("-m", f"hydra/launcher={engine}", "seed=1,2", typed)
    assert done.status == 2
    assert done.err == f"error: {typed}: {why}\n"
    assert not [path for path in Path("outputs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("module", ["grid", "search.study"])
def test_a_sweep_begins_without_torch(module: str) -> None:
    """The import of torch takes seconds, and only jobs need it."""
    if module == "search.study":
        pytest.importorskip("optuna")
    program = f"import sys, lyricgen.sweeps.{module}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
