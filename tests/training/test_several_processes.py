"""A run in several processes equals the run in one process, and ends as a whole."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from compare_runs import differences
from lightning_fabric.utilities.rank_zero import _get_rank as fabric_rank
from lightning_utilities.core.rank_zero import rank_zero_only

from lyricgen.training.callbacks.checkpoints import Checkpoints
from lyricgen.training.recurrent_module import RecurrentModule
from tests.conftest import TINY, Train, TrainingResult, hear_ctrl_c, until
from tests.helpers.workers import fork_workers

# No dropout, because each process draws its own masks.
PLAIN = (
    *(option for option in TINY if not option.startswith("callbacks")),
    "model.dropout=0",
    "callbacks.samples.every_n_epochs=0",
    "callbacks.baseline.max_order=2",
)
CLOCKS = ("train/chars_per_second", "chars_per_second")


def in_processes(processes: int) -> tuple[str, ...]:
    return "trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}"


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the other processes, which is faster than starting a new Python."""
    fork_workers(monkeypatch)


def checkpoint(run: TrainingResult) -> dict[str, Any]:
    assert run.directory is not None, run.err
    path = run.directory / "checkpoints" / "last.ckpt"
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def rows(run: TrainingResult) -> list[dict[str, str]]:
    assert run.directory is not None, run.err
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def files(run: TrainingResult) -> set[str]:
    """Return the names of all files, those of TensorBoard without their numbers."""
    assert run.directory is not None
    names = (path.relative_to(run.directory).as_posix() for path in run.directory.rglob("*"))
    return {re.sub(r"tfevents\..*", "tfevents", name) for name in names} - {
        "checkpoints/previous.ckpt"
    }


def assert_same(one: TrainingResult, other: TrainingResult) -> None:
    """Compare the figures, weights, carried state and files of two runs, numbers to 1e-5."""
    for row, expected in zip(rows(other), rows(one), strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - CLOCKS:
            assert float(row[name] or 0) == pytest.approx(float(expected[name] or 0), rel=1e-5)
    assert one.summary.keys() == other.summary.keys() - {"resumed"}
    for name in one.summary.keys() - CLOCKS:
        if "/" in name:
            assert other.summary[name] == pytest.approx(one.summary[name], rel=1e-5), name
    here, there = checkpoint(one), checkpoint(other)
    for name, weight in here["state_dict"].items():
        assert torch.allclose(weight, there["state_dict"][name], rtol=0, atol=1e-5), name
    carried = one.summary["options"]["sampler"]["kind"] == "consecutive"
    states = here["run"]["carried"], there["run"]["carried"]
    for mine, theirs in zip(*states, strict=True) if carried else ():
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-5)
    assert files(one) == files(other)


# Equality with one process


def without_clocks(run: TrainingResult) -> list[str]:
    # lines with the run's directory, and the progress of work that takes over two seconds
    varying = "best checkpoint|to write a text|starting 1 more processes|epoch [0-9]+/[0-9]+: step "
    lines = [line for line in run.out.splitlines() if line.strip() and not re.match(varying, line)]
    return [re.sub(r"[\d,]+ characters/s", "", line) for line in lines]


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(train: Train) -> None:
    one, two = train(*PLAIN), train(*PLAIN, *in_processes(2))
    assert_same(one, two)
    assert two.err == ""
    state = checkpoint(two)["run"]
    assert [tensor.shape for tensor in state["carried"]] == [(1, 4, 16)] * 2  # of all four rows
    assert len(state["nats"]) == 2
    assert two.summary["status"] == "finished"
    assert without_clocks(two) == without_clocks(one)  # each line once


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "options"),
    [
        (2, ("cell=gru", "sampler=random", "loss.reduction=sum", "optimizer.lr=1e-4")),
        (3, ("cell=rnn", "data=dino", "loss.label_smoothing=0.2")),
        (2, ("data=dino", "loss.reduction=sum", "optimizer.lr=1e-4", "loss.label_smoothing=0")),
        (2, ("data.batch_size=5", "sampler.drop_last=false", "scheduler=plateau")),
        (3, ("cell=gru_scratch", "trainer.gradient_clip_algorithm=value", "trainer.max_steps=11")),
        (2, ("layers=2", "trainer.val_check_interval=3", "callbacks.smoothed_loss.enabled=true")),
        (3, ("cell=lstm_scratch", "sampler=random", "trainer.precision=64-true")),
        (2, ("sampler.carry_state=false", "callbacks.early_stopping.patience=1")),
        (2, ("objective=fill",)),
        (2, ("model=hybrid",)),
        (2, ("model=hybrid", "memory=cache")),
        (3, ("model=hybrid", "model.combination=product", "data=dino", "model.short_list=10")),
    ],
)
@pytest.mark.usefixtures("forked_workers")
def test_any_number_of_processes_follows_the_curve_of_one(
    train: Train, processes: int, options: tuple[str, ...]
) -> None:
    if "data=dino" in options:  # 127 lines to train on, so the last batch has one line
        options += ("data.max_chars=2001", "data.batch_size=7")
    base = [one for one in PLAIN if one.split("=")[0] not in {o.split("=")[0] for o in options}]
    several = (*base, *options, f"trainer.devices={processes}")
    assert_same(train(*base, *options), train(*several))


@pytest.mark.slow
def test_a_sweep_over_the_number_of_processes(train: Train, tmp_path: Path) -> None:
    swept = train("-m", *PLAIN, "trainer.strategy=ddp", "trainer.devices=2,1")
    assert swept.status == 0, swept.err
    jobs = sorted((tmp_path / "outputs" / "sweeps").glob("*/*/*/summary.json"))
    assert [path.parent.name[0] for path in jobs] == ["0", "1"]
    assert_same(*(TrainingResult(0, "", "", path.parent) for path in reversed(jobs)))
    assert not {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"} & os.environ.keys()
    assert not torch.distributed.is_initialized()


def test_each_process_draws_its_own_dropout_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        global_step = 3

    drawn = []
    for rank, step in itertools.product((0, 1, 2), (3, 4)):
        module = object.__new__(RecurrentModule)
        torch.nn.Module.__init__(module)
        module._seed, module._batches = 1, 1
        monkeypatch.setattr("lyricgen.training.recurrent_module.rank", lambda rank=rank: rank)
        monkeypatch.setattr(RecurrentModule, "trainer", Trainer)
        monkeypatch.setattr(RecurrentModule, "device", torch.device("cpu"))
        Trainer.global_step = step
        module.on_train_batch_start(None, 0)  # type: ignore[arg-type]
        drawn.append(float(torch.rand(1)))
    assert len(set(drawn)) == 6


def test_ngrams_are_counted_by_one_process(train: Train) -> None:
    counted = train(*PLAIN[:3], *in_processes(2), "model=ngram")
    assert counted.status == 0, counted.err


# Resuming


def stop_after(
    train: Train, monkeypatch: pytest.MonkeyPatch, step: int, *options: str
) -> TrainingResult:
    original = Checkpoints.after_step

    def end(self: Checkpoints, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "after_step", end)
        stopped = train(*options)
    assert stopped.status == 143
    assert stopped.summary["status"] == "interrupted"
    return stopped


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("data", ["lyrics", "dino"])
@pytest.mark.usefixtures("forked_workers")
def test_resuming_with_as_many_processes_is_exact(
    train: Train, monkeypatch: pytest.MonkeyPatch, processes: int, data: str
) -> None:
    options = (
        *TINY,
        *in_processes(processes),
        f"data={data}",
        "callbacks.smoothed_loss.enabled=true",
        *("model.weight_drop=0.5", "model.embedding_dropout=0.1", "model.noise=0.2"),
    )
    whole = train(*options)  # dropout is on
    stopped = stop_after(train, monkeypatch, 11, *options)
    assert checkpoint(stopped)["global_step"] in (11, 12)
    done = train(f"resume={stopped.directory}")
    assert done.status == 0, done.err
    assert whole.directory is not None and stopped.directory is not None
    assert differences(whole.directory, stopped.directory) == []


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2), (3, 2)])
@pytest.mark.usefixtures("forked_workers")
def test_resuming_with_more_or_fewer_processes(
    train: Train, monkeypatch: pytest.MonkeyPatch, first: int, then: int
) -> None:
    whole = train(*PLAIN)
    stopped = stop_after(train, monkeypatch, 11, *PLAIN, *in_processes(first))
    done = train(f"resume={stopped.directory}", f"trainer.devices={then}")
    assert done.status == 0, done.err
    assert_same(whole, stopped)


# Refusals


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("data.batch_size=1",), ("data.batch_size=1", "trainer.devices=2")),
        (("data=dino", "sampler=lines_carried", "data.batch_size=1"), ("trainer.devices=2",)),
        (("trainer.strategy=ddp_spawn",), ("trainer.strategy=ddp_spawn", "trainer.strategy=ddp,")),
        (("trainer.strategy=fsdp",), ("trainer.strategy=fsdp", "trainer.strategy=ddp,")),
    ],
)
def test_settings_not_for_several_processes_are_refused(
    train: Train, options: tuple[str, ...], named: tuple[str, ...]
) -> None:
    base = [one for one in PLAIN if one.split("=")[0] not in {o.split("=")[0] for o in options}]
    refused = train(*base, "trainer.devices=2", *options)
    assert (refused.status, refused.directory) == (2, None)
    assert refused.err.count("\n") == 1
    assert all(name in refused.err for name in named), refused.err


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("torchrun", {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}),
        ("srun", {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}),
    ],
)
def test_processes_of_other_launchers_are_refused(
    train: Train, monkeypatch: pytest.MonkeyPatch, launcher: str, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for options in ((), in_processes(2)):
        refused = train(*PLAIN, *options)
        assert (refused.status, refused.directory) == (2, None)
        variable = next(iter(variables))
        assert f"{launcher} has started 2 processes ({variable}=2)" in refused.err
        assert refused.err.count("\n") == 1


LEFTOVERS: list[dict[str, str]] = [
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train.sh", "SLURM_PROCID": "3"},
    {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "elsewhere"},
    {"TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "1", "KUBERNETES_PORT": "tcp://10.0.0.1"},
    {"LSB_JOBID": "7", "LSB_DJOB_RANKFILE": "/none", "JSM_NAMESPACE_SIZE": "2",
     "JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_LOCAL_RANK": "1"},
    {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
    {"PL_TRAINER_FAST_DEV_RUN": "1", "PL_TRAINER_NUM_NODES": "2"},
    {"LYRICGEN_SWEEP_PROCESS": "elsewhere_1"},
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("variables", LEFTOVERS, ids=lambda variables: next(iter(variables)))
def test_variables_of_an_allocation_are_ignored(
    train: Train, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """One process trains and writes all files of a run; its rank is 0 whatever the variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    rank = fabric_rank()
    monkeypatch.setattr(rank_zero_only, "rank", rank or 0)  # as when Lightning is imported
    done = train(*PLAIN, "logger.tensorboard=true")
    assert (done.status, done.err) == (0, "")
    assert done.summary["epochs"] == 2
    assert done.directory is not None
    assert (done.directory / "checkpoints/last.ckpt").is_file()
    assert list(done.directory.glob("events.*"))


# The end of the processes


class TwoProcesses:
    """The train command in a subprocess, with two processes."""

    def __init__(self, place: Path, *options: str, path: Path | None = None) -> None:
        paths = [*([str(path)] if path else []), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lyricgen.train", *PLAIN, *in_processes(2), *options],
            cwd=place,
            env=os.environ | {"LYRICGEN_OUTPUTS": str(place), "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=hear_ctrl_c,  # noqa: PLW1509
        )

    def second(self) -> int:
        """Return the id of rank 1's process once training has begun."""

        def look() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return any(self.place.glob("runs/*/*/metrics.csv"))

        until(look)
        for path in Path("/proc").glob("[0-9]*/stat"):
            fields = path.read_text().rpartition(")")[2].split()
            command = (path.parent / "cmdline").read_text()
            if int(fields[1]) == self.process.pid and "training.worker" in command:
                return int(path.parent.name)
        raise AssertionError("there is no process of rank 1")

    def wait(self) -> TrainingResult:
        out, err = self.process.communicate(timeout=300)
        [summary] = self.place.glob("runs/*/*/summary.json")
        return TrainingResult(self.process.returncode, out, err, summary.parent)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., TwoProcesses]]:
    started = []

    def begin(*options: str, path: Path | None = None) -> TwoProcesses:
        started.append(TwoProcesses(tmp_path, *options, path=path))
        return started[-1]

    yield begin
    for run in started:
        run.process.kill()
        run.process.communicate()


LONG = ("trainer.max_epochs=5000", "callbacks.baseline.enabled=false")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it reads /proc")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_all_processes(
    start: Callable[..., TwoProcesses], number: int, status: int
) -> None:
    run = start(*LONG)
    other = run.second()
    os.killpg(run.process.pid, number)  # like Ctrl-C in a terminal
    ended = run.wait()
    assert ended.status == status
    assert "Traceback" not in ended.err
    assert ended.summary["status"] == "interrupted"
    until(lambda: not Path(f"/proc/{other}").exists(), 60)
    assert checkpoint(ended)["global_step"] > 0


@pytest.mark.slow
@needs_proc
def test_a_killed_process_ends_the_run(start: Callable[..., TwoProcesses]) -> None:
    run = start(*LONG)
    os.kill(run.second(), signal.SIGKILL)
    ended = run.wait()
    assert ended.status == 2
    assert ended.err == "error: process 2 of 2 has ended: it was killed by SIGKILL\n"
    assert ended.summary["status"] == "failed"
    assert "SIGKILL" in ended.summary["reason"]


BLOCKED = """
import time
from lyricgen import train
from lyricgen.training.ddp import launch
from lyricgen.training.recurrent_module import RecurrentModule
launch.BLOCKED, original, started = 0.5, launch.WorkerProcesses.__init__, []
def begin(self, *arguments):
    original(self, *arguments)
    started.append(self)
def training_step(self, batch, i):
    started[0]._processes[0].kill()
    time.sleep(1000)
launch.WorkerProcesses.__init__, RecurrentModule.training_step = begin, training_step
train.main()
"""


@pytest.mark.slow
def test_a_blocked_first_process_ends_when_the_second_is_killed(tmp_path: Path) -> None:
    # the first process is blocked, like one that waits for its GPU
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *PLAIN, *in_processes(2)],
        env=os.environ | {"LYRICGEN_OUTPUTS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: process 2 of 2 has ended: it was killed by SIGKILL\n"
    [summary] = tmp_path.glob("runs/*/*/summary.json")
    assert json.loads(summary.read_text("utf-8"))["status"] == "failed"


@pytest.mark.slow
@needs_proc
def test_no_process_outlives_the_first(start: Callable[..., TwoProcesses]) -> None:
    run = start(*LONG)
    other = run.second()
    run.process.kill()
    until(lambda: not Path(f"/proc/{other}").exists(), 60)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_divergence_ends_all_processes_with_one_line(train: Train) -> None:
    wild = ("optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    done = train(*PLAIN, *in_processes(2), *wild)
    assert done.status == 2
    assert done.err.startswith("error: training diverged in epoch 1")
    assert done.err.count("\n") == 1
    assert done.summary["status"] == "failed"
    assert not torch.distributed.is_initialized()


# The content of sitecustomize.py, which Python imports first in each process that finds it.
IN_RANK_1 = """
import sys
if "lyricgen.training.worker" in sys.orig_argv:
    import json
    from lyricgen.training.recurrent_module import RecurrentModule
    step, end = RecurrentModule.training_step, RecurrentModule.on_train_end
    def training_step(self, batch, i):
        if {failing} and self.trainer.global_step == 5:
            raise MemoryError("no more\\nroom")
        return step(self, batch, i)
    def on_train_end(self):
        weights = {{name: weight.tolist() for name, weight in self.state_dict().items()}}
        with open({report!r}, "w") as stream:
            json.dump(weights, stream)
    RecurrentModule.training_step, RecurrentModule.on_train_end = training_step, on_train_end
"""


@pytest.mark.slow
def test_an_error_in_one_process_ends_the_run_with_its_message(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = IN_RANK_1.format(failing=True, report="")
    (tmp_path / "sitecustomize.py").write_text(code, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    done = train(*PLAIN, *in_processes(2))
    assert (done.status, done.err) == (
        2,
        "error: process 2 of 2 has ended: MemoryError: no more room\n",
    )
    assert done.summary["status"] == "failed"


@pytest.mark.slow
def test_all_processes_have_the_same_weights(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "weights.json"
    code = IN_RANK_1.format(failing=False, report=str(report))
    (tmp_path / "sitecustomize.py").write_text(code, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    done = train(*TINY, *in_processes(2))  # dropout is on
    reported = json.loads(report.read_text("utf-8"))
    for name, weight in checkpoint(done)["state_dict"].items():
        assert torch.equal(weight, torch.tensor(reported[name])), name
