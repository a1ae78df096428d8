"""Run directories: files are whole or absent, and summary.json has the state of the run."""

import contextlib
import errno
import json
import logging
import math
import os
import shlex
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import lyricgen
from lyricgen.console import LogFile
from lyricgen.errors import UserError
from lyricgen.files import remove_torn, replace_file, write_atomically
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO, is_sound
from lyricgen.runs.directories import is_marked, mark, outputs_directory
from lyricgen.runs.newest import checkpoint_in, newest_checkpoint, newest_run, newest_runs
from lyricgen.runs.run import Run
from lyricgen.runs.summary import RunSummary, SweepSummary, read_summary
from lyricgen.training import build
from lyricgen.training.callbacks.figures import Throughput
from tests.conftest import SMALL, TINY, Train, summary_of


@pytest.fixture(autouse=True)
def _outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "outputs"))


def full_disk(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


# Whole files


def test_text_is_written_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "歌.txt"
    write_atomically(path, "想要\r\n有\n直升机")
    assert path.read_bytes() == "想要\r\n有\n直升机".encode()
    write_atomically(path, "")
    assert path.read_bytes() == b""
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk_leaves_the_old_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old", "utf-8")
    monkeypatch.setattr(os, failing, full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_cannot_be_encoded_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "samples.txt"
    path.write_text("old", "utf-8")
    with pytest.raises(UnicodeEncodeError):
        # the error comes after buffers were written
        write_atomically(path, "new " * 100_000 + "\ud800")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_writing_leaves_the_old_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old", "utf-8")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_text_is_on_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "latest.txt", []

    def note(number: int) -> None:
        folder = stat.S_ISDIR(os.fstat(number).st_mode)
        seen.append(("folder" if folder else os.fstat(number).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_atomically(path, "four")
    assert seen == [(4, False), ("folder", True)]  # the folder is synced after the renaming


def test_writers_with_equal_process_numbers_lose_no_write(tmp_path: Path) -> None:
    """Two threads stand for two containers that share a disk."""
    shared = tmp_path / "latest.txt"

    def write(writer: int) -> None:
        for number in range(400):
            write_atomically(shared, f"{writer}" * 100)
            write_atomically(tmp_path / f"{writer}_{number}", "whole")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, writer) for writer in (1, 2)]:
            done.result()
    assert shared.read_text("utf-8") in ("1" * 100, "2" * 100)
    names = {f"{writer}_{number}" for writer in (1, 2) for number in range(400)}
    assert {path.name for path in tmp_path.iterdir()} == names | {"latest.txt"}


def test_only_temporary_files_of_killed_runs_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".notes.2024", ".mine.part", "歌" * 85):  # 255 bytes, the longest name
        write_atomically(tmp_path / name, "mine")
    before = set(tmp_path.iterdir())
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with replace_file(tmp_path / ("歌" * 85)):
            raise KeyboardInterrupt
    assert len(set(tmp_path.iterdir()) - before) == 1
    remove_torn(tmp_path)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("failing", ["save", "fsync", "replace"])
def test_old_checkpoint_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"step": 1, "weights": torch.arange(5)}, path)
    if failing == "save":

        def save_half(_: object, stream: Any) -> NoReturn:
            stream.write(b"PK\x03\x04 half of a checkpoint")
            full_disk()

        monkeypatch.setattr(torch, "save", save_half)
    else:
        monkeypatch.setattr(os, failing, full_disk)
    with pytest.raises(OSError, match="No space left"):
        writer.save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    old = torch.load(path, weights_only=True)
    assert old["step"] == 1
    assert old["weights"].tolist() == [0, 1, 2, 3, 4]
    names = ["last.ckpt", "last.ckpt.sha256"]
    assert sorted(each.name for each in path.parent.iterdir()) == names
    assert is_sound(path)
    writer.save_checkpoint({"step": 2}, path)
    assert writer.load_checkpoint(path)["step"] == 2
    names.append("previous.ckpt")
    assert sorted(each.name for each in path.parent.iterdir()) == names
    assert writer.load_checkpoint(path.with_name("previous.ckpt"))["step"] == 1
    assert is_sound(path)
    assert is_sound(path.with_name("previous.ckpt"))


def test_a_disk_that_fills_up_while_training_leaves_whole_checkpoints(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint does not fit; best and last of the first epoch are whole.

    The best one has a second name already, under which it would stay.
    """
    saved = []
    save = torch.save

    def save_until_full(content: Any, stream: Any) -> None:
        if len(saved) == 2:
            stream.write(b"PK")
            full_disk()
        saved.append(content["epoch"])
        save(content, stream)

    monkeypatch.setattr(torch, "save", save_until_full)
    # without held-out text each epoch is the best so far
    done = train(*TINY, "data.val_fraction=0", "data.test_fraction=0")
    assert saved == [0, 0]
    assert done.status == 2
    [line] = done.err.splitlines()
    assert "No space left" in line
    assert (done.summary["status"], done.directory) != ("finished", None)
    assert done.summary["status"] == "failed"
    assert "No space left" in done.summary["reason"]
    assert done.directory is not None
    folder = done.directory / "checkpoints"
    names = ["best.ckpt", "best.ckpt.sha256", "last.ckpt", "last.ckpt.sha256"]
    names += ["epoch_1_step_38.ckpt", "epoch_1_step_38.ckpt.sha256"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert all(is_sound(path) for path in folder.glob("*.ckpt"))
    assert len(lyricgen.load(folder / "best.ckpt").generate(length=3)) == 3
    assert len(lyricgen.load(folder / "last.ckpt").generate(length=3)) == 3


def test_last_checkpoint_is_of_the_last_epoch(train: Train) -> None:
    """The best checkpoint is older, because the learning rate is too high."""
    done = train(*TINY, "trainer.max_epochs=3", "optimizer.lr=0.03")
    assert done.directory is not None, done.err
    assert done.summary["best_epoch"] == 1
    folder = done.directory / "checkpoints"
    epochs = [
        torch.load(folder / name, weights_only=True)["epoch"] for name in ("best.ckpt", "last.ckpt")
    ]
    assert epochs == [0, 2]  # Lightning counts from 0


# The state of a run


def begin_run(directory: Path) -> Run:
    directory.mkdir()
    run = Run(directory)
    run.begin({"seed": 7, "cell": {"kind": "rnn"}})
    return run


def test_a_run_has_a_summary_from_the_start(tmp_path: Path) -> None:
    begin_run(tmp_path / "run")
    summary = summary_of(tmp_path / "run")
    assert summary["status"] == "running"
    assert summary["seed"] == 7
    assert summary["process"] == os.getpid()
    # the package's version may lack the suffix of a build for GPUs, as in 2.14.1+cu130
    recorded, imported = summary["versions"]["torch"], str(torch.__version__)
    assert recorded.partition("+")[0] == imported.partition("+")[0]
    assert RunSummary.read(tmp_path / "run").entries() == summary


def test_the_summary_records_each_way_to_end(tmp_path: Path) -> None:
    begin_run(tmp_path / "one").finish({"val/perplexity": 12.5, "best_epoch": 3})
    summary = summary_of(tmp_path / "one")
    assert summary["status"] == "finished"
    assert (summary["val/perplexity"], summary["best_epoch"]) == (12.5, 3)
    assert summary["wall_seconds"] >= 0
    assert summary["seed"] == 7  # entries of the start are kept
    try:
        raise RuntimeError("坏了\nmore")
    except RuntimeError as error:
        begin_run(tmp_path / "two").fail(error)
    assert summary_of(tmp_path / "two")["status"] == "failed"
    assert summary_of(tmp_path / "two")["reason"] == "RuntimeError: 坏了 more"
    assert 'raise RuntimeError("坏了' in summary_of(tmp_path / "two")["traceback"]
    begin_run(tmp_path / "four").fail(UserError("sampler=lines: choose another"))
    assert summary_of(tmp_path / "four")["reason"] == "sampler=lines: choose another"
    begin_run(tmp_path / "three").interrupt()
    assert summary_of(tmp_path / "three")["status"] == "interrupted"


def test_a_summary_is_written_as_it_was_read(tmp_path: Path) -> None:
    entries = {
        "status": "running",
        "host": "elsewhere",
        "of another version": {"list": [1, 2.0, None]},
        "job": None,
        "parameters": 1000,
        "val/perplexity": 2.5,
        "test/perplexity": None,
        "samples": ["歌"],
    }
    (tmp_path / "summary.json").write_text(json.dumps(entries), "utf-8")
    summary = RunSummary.read(tmp_path)
    assert summary.metrics == {"val/perplexity": 2.5, "test/perplexity": None}
    assert summary.figures == {"val/perplexity": 2.5, "parameters": 1000}
    summary.status = "killed"
    summary.write(tmp_path)
    assert summary_of(tmp_path) == entries | {"status": "killed"}
    assert isinstance(read_summary(tmp_path), RunSummary)
    (tmp_path / "summary.json").write_text('{"status": "finished", "jobs": {"0": []}, "x": 1}')
    sweep = read_summary(tmp_path)
    assert isinstance(sweep, SweepSummary)
    assert sweep.entries() == {"status": "finished", "jobs": {"0": []}, "x": 1}


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"process": None}, "killed"),  # None: a process that has just ended
        ({"process": 0}, "killed"),
        ({"process": os.getppid()}, "running"),
        ({"process": None, "host": "elsewhere"}, "running"),  # unknown on this machine
        ({"process": None, "status": "finished"}, "finished"),
        ({"process": None, "status": "failed"}, "failed"),
    ],
)
def test_a_running_run_without_its_process_counts_as_killed(
    tmp_path: Path, change: dict[str, Any], status: str
) -> None:
    begin_run(tmp_path / "run")
    summary = summary_of(tmp_path / "run") | change
    summary["process"] = dead_process() if change["process"] is None else change["process"]
    (tmp_path / "run/summary.json").write_text(json.dumps(summary), "utf-8")
    assert RunSummary.read(tmp_path / "run").entries() == summary | {"status": status}
    assert summary_of(tmp_path / "run") == summary  # reading changes nothing


def test_a_killed_process_reads_as_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from lyricgen.runs.run import Run\n"
        "Run(Path(sys.argv[1])).begin({'seed': 1}); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    assert summary_of(tmp_path)["status"] == "running"
    assert RunSummary.read(tmp_path).status == "killed"


def test_figures_without_a_number_are_null(tmp_path: Path) -> None:
    figures = {
        "train/perplexity": math.inf,
        "nested": {"low": [-math.inf, 1.5, [math.nan]], "text": "nan"},
        "count": 3,
        "none": None,
    }
    begin_run(tmp_path / "run").finish(figures)
    summary = summary_of(tmp_path / "run")
    assert {name: summary[name] for name in figures} == {
        "train/perplexity": None,
        "nested": {"low": [None, 1.5, [None]], "text": "nan"},
        "count": 3,
        "none": None,
    }


@pytest.mark.parametrize("content", [None, "", "{", '{"status": "running"'])
def test_an_unreadable_summary_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"summary\.json"):
        RunSummary.read(tmp_path)


def test_failing_training_is_recorded(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("it went wrong")

    monkeypatch.setattr(Throughput, "before_validation", fail)
    with pytest.raises(RuntimeError, match="it went wrong"):
        train(*TINY)
    [path] = (tmp_path / "outputs").rglob("summary.json")
    summary = summary_of(path.parent)
    assert (summary["status"], summary["reason"]) == ("failed", "RuntimeError: it went wrong")
    assert "val/perplexity" not in summary


def test_interrupted_training_is_recorded(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Throughput, "before_validation", interrupt)
    done = train(*TINY)
    assert done.status == 130
    assert "Traceback" not in done.err
    assert done.summary["status"] == "interrupted"
    # it has trained, so it is the newest run
    assert newest_run().resolve() == done.directory


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_error_before_training_leaves_no_directory_without_a_summary(
    train: Train, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Each directory with the files of Hydra also has a summary."""

    def stop(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(build, "build_model", stop)
    with contextlib.suppress(error):
        assert train(*TINY).status == 130
    begun_runs = {path.parent for path in Path("outputs").rglob(".hydra")}
    assert begun_runs == {path.parent for path in Path("outputs").rglob("summary.json")}


# The place of a checkpoint


def touch(path: Path, seconds: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (seconds, seconds))
    return path


def test_checkpoint_of_a_file_and_of_a_run(tmp_path: Path) -> None:
    last = touch(tmp_path / "run/checkpoints/last.ckpt", 9)
    assert checkpoint_in(tmp_path / "run") == last
    assert checkpoint_in(last) == last
    best = touch(tmp_path / "run/checkpoints/best.ckpt", 5)
    assert checkpoint_in(tmp_path / "run") == best  # the best one, however old
    assert checkpoint_in(tmp_path / "run/checkpoints") == best


def test_checkpoint_of_a_sweep_is_that_of_its_newest_job(tmp_path: Path) -> None:
    touch(tmp_path / "0_a/checkpoints/best.ckpt", 10)
    newest = touch(tmp_path / "1_b/checkpoints/best.ckpt", 30)
    touch(tmp_path / "10_c/checkpoints/best.ckpt", 20)
    touch(tmp_path / "2_d/checkpoints/last.ckpt", 40)
    assert checkpoint_in(tmp_path) == newest


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty' has no checkpoints/best\.ckpt"):
        checkpoint_in(tmp_path / "empty")
    with pytest.raises(UserError, match="nowhere' is not there"):
        checkpoint_in(tmp_path / "nowhere")


def test_newest_run_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LYRICGEN_OUTPUTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert outputs_directory() == Path("outputs")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", "")
    assert outputs_directory() == Path("outputs")  # an empty value counts as unset
    with pytest.raises(UserError, match="no run found"):
        newest_checkpoint()
    one = touch(tmp_path / "outputs/runs/day/one/checkpoints/best.ckpt", 20)
    two = touch(tmp_path / "outputs/sweeps/day/two/0_x/checkpoints/best.ckpt", 10)
    touch(tmp_path / "outputs/sweeps/day/two/summary.json", 10)
    Run(one.parents[1]).begin({"seed": 1})
    assert newest_checkpoint() == one.relative_to(tmp_path)
    Run(two.parents[1], sweep=two.parents[2]).begin({"seed": 1})
    assert newest_checkpoint() == two.relative_to(tmp_path)
    latest = Path("outputs/latest.txt").read_text("utf-8")
    assert latest == "sweeps/day/two\n"  # relative, so that outputs can be moved
    monkeypatch.chdir("/")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "outputs"))
    assert newest_checkpoint() == two
    (tmp_path / "outputs").rename(tmp_path / "moved")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "moved"))
    assert newest_checkpoint() == tmp_path / "moved/sweeps/day/two/0_x/checkpoints/best.ckpt"


def make_run(outputs: Path, place: str) -> Path:
    directory = outputs / place
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text("{}", "utf-8")
    return directory


def test_a_run_without_a_date_in_its_name_is_dated_by_its_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path))
    runs = [
        tmp_path / "runs" / name
        for name in ("2026-01-01/01-01-01.000001_x", "2026-13-45/99-99-99.123456_x")
    ]
    for run in runs:
        run.mkdir(parents=True)
        (run / "summary.json").write_text('{"status": "finished"}')
    os.utime(runs[1] / "summary.json", (10, 10))  # much earlier
    assert list(newest_runs()) == runs


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    """Names give the times, which survive a copy; jobs count as their sweep."""
    outputs = tmp_path / "outputs"
    runs = [
        make_run(outputs, place)
        for place in (
            "runs/2026-01-02/09-00-00.000000_a",
            "sweeps/2026-01-02/10-00-00.000000_b",
            "runs/2026-01-03/08-00-00.000000_c",
        )
    ]
    make_run(outputs, "sweeps/2026-01-02/10-00-00.000000_b/0_seed=1")
    assert list(newest_runs()) == runs[::-1]
    own_name = make_run(outputs, "mine")  # dated by its summary
    assert list(newest_runs()) == [own_name, *runs[::-1]]
    (outputs / "latest.txt").write_text("runs/2026-01-02/09-00-00.000000_a\n", "utf-8")
    assert list(newest_runs()) == [runs[0], own_name, runs[2], runs[1]]
    shutil.rmtree(runs[0])
    assert newest_run() == own_name
    (outputs / "latest.txt").write_text(f"{runs[1]}\n", "utf-8")  # of an earlier version
    assert newest_run() == runs[1]


def harm_latest(latest: Path, harm: str) -> None:
    content = {
        "empty": b"", "binary": b"\x00\xff\x01", "control": b"runs\x01", "endless": b"x" * 10**6,
        "outside": b"../victim\n", "absolute": b"/\n", "itself": b".\n",
        "long": b"x" * 300, "no run": b"runs\n", "day": b"runs/2026-01-02\n",
    }  # fmt: skip
    victim = latest.parent.parent / "victim"
    victim.mkdir()
    if harm == "pipe":
        os.mkfifo(latest)
    elif harm == "link":
        (victim / "notes").write_text("runs/other\n", "utf-8")
        latest.symlink_to(victim / "notes")
    elif harm == "directory":
        latest.mkdir()
    else:
        latest.write_bytes(content[harm])


@pytest.mark.parametrize(
    "harm",
    [
        *("empty", "binary", "control", "endless", "outside", "absolute", "itself", "long"),
        *("no run", "day", "pipe", "link", "directory"),
    ],
)
def test_damaged_latest_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    outputs = tmp_path / "outputs"
    run = make_run(outputs, "runs/2026-01-02/09-00-00.000000_a")
    make_run(outputs, "runs/other")
    harm_latest(outputs / "latest.txt", harm)
    os.utime(outputs / "runs/other/summary.json", (0, 0))
    assert newest_run() == run
    [record] = caplog.records
    assert "latest.txt names no run" in record.message


def test_a_new_run_writes_only_the_latest_of_its_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No directory above and no target of a link changes; a run elsewhere is not named."""
    victim = tmp_path / "victim"
    victim.write_text("mine", "utf-8")
    inner = tmp_path / "outputs/two"
    inner.mkdir(parents=True)
    for place in (tmp_path, tmp_path / "outputs"):
        (place / "latest.txt").write_text("mine", "utf-8")
    (inner / "latest.txt").symlink_to(victim)
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(inner))
    begin_run(inner / "run")
    assert (inner / "latest.txt").read_text("utf-8") == "run\n"
    assert not (inner / "latest.txt").is_symlink()
    begin_run(tmp_path / "elsewhere")
    assert (inner / "latest.txt").read_text("utf-8") == "run\n"
    for place in (victim, tmp_path / "latest.txt", tmp_path / "outputs/latest.txt"):
        assert place.read_text("utf-8") == "mine"


def test_runs_may_lie_on_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = tmp_path / "outputs"
    (tmp_path / "large/2026-01-02").mkdir(parents=True)
    outputs.mkdir()
    (outputs / "runs").symlink_to(tmp_path / "large")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(outputs))
    begin_run(outputs / "runs/2026-01-02/09-00-00.000000_a")
    assert (outputs / "latest.txt").read_text("utf-8") == "runs/2026-01-02/09-00-00.000000_a\n"


def test_an_unwritable_latest_does_not_hinder_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path))
    (tmp_path / "latest.txt").mkdir()
    begin_run(tmp_path / "run")
    [record] = caplog.records
    assert "latest.txt cannot be written (Is a directory): name " in record.message
    assert [path.name for path in tmp_path.iterdir()] == ["latest.txt", "run"]


def test_a_resumed_run_is_named_in_the_outputs_that_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, used = tmp_path / "outputs/moved", tmp_path / "outputs"
    run = make_run(holder, "runs/2026-01-02/09-00-00.000000_a")
    marked = [tmp_path, used, holder, holder / "runs", run.parent, run]
    for place in marked:
        (place / "latest.txt").write_text("mine", "utf-8")
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(used))
    Run(run).begin({"seed": 1}, earlier=RunSummary(status="failed", started="before"))
    changed = [p for p in marked if (p / "latest.txt").read_text("utf-8") != "mine"]
    assert changed == [holder]
    assert (holder / "latest.txt").read_text("utf-8") == f"{run.relative_to(holder)}\n"


def test_discarding_keeps_the_mark_of_a_killed_run(tmp_path: Path) -> None:
    """Discard a run in the directory of a run that was killed after it wrote .hydra."""
    mark(tmp_path)
    (tmp_path / ".hydra").mkdir()
    Run(tmp_path).discard()
    assert is_marked(tmp_path)


def test_discarding_keeps_foreign_files(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(parents=True)
    for name in ("train.log", ".lock", "notes.txt"):
        (run / name).write_text("", "utf-8")
    Run(run).discard()
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


# The end of a run


def fill_disk_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when the results are written."""
    write = Run._write

    def write_unless_finished(self: Run) -> None:
        if self.summary.status != "running":
            full_disk()
        write(self)

    monkeypatch.setattr(Run, "_write", write_unless_finished)


def test_unwritten_results_are_completed_by_the_command_in_the_error(
    train: Train, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(*TINY)
    with monkeypatch.context() as patch:
        fill_disk_at_the_end(patch)
        stopped = train(*TINY)
    assert stopped.status == 2
    [line] = stopped.err.splitlines()
    assert "No space left on device" in line
    assert "Traceback" not in stopped.out
    assert stopped.directory is not None
    assert stopped.summary["status"] == "running"
    command = shlex.split(line.partition("go on by ")[2])
    assert command == ["python", "-m", "lyricgen.train", f"resume={stopped.directory}"]
    last = (stopped.directory / "checkpoints/last.ckpt").stat()
    steps: list[int] = []
    monkeypatch.setattr(Throughput, "after_step", lambda *_: steps.append(1))
    done = train(*command[3:])
    assert done.status == 0, done.err
    assert steps == []  # no step is trained again
    assert (stopped.directory / "checkpoints/last.ckpt").stat().st_mtime_ns == last.st_mtime_ns
    for figure in ("val/perplexity", "test/perplexity", "best_epoch", "samples"):
        assert stopped.summary[figure] == whole.summary[figure]
    assert stopped.summary["status"] == "finished"


def test_the_error_of_an_unwritable_file_hides_its_temporary_file(train: Train) -> None:
    begun = train(*SMALL, "trainer.max_epochs=1", "hydra.run.dir=run")
    assert begun.status == 0
    metrics = Path("run/metrics.csv")
    metrics.unlink()
    metrics.mkdir()
    stopped = train("resume=run", "trainer.max_epochs=2")
    assert stopped.status == 2
    [line] = stopped.err.splitlines()
    assert line.startswith(f"error: {metrics.absolute()}: Is a directory: mend that, then")
    reason = f"IsADirectoryError: {metrics.absolute()}: Is a directory"
    assert summary_of(Path("run"))["reason"] == reason


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "summary.json"])
def test_the_error_of_an_unwritable_directory_names_the_file(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    begun = train(*SMALL, "trainer.max_epochs=1", "hydra.run.dir=run")
    assert begun.status == 0
    closed, open_path = Path("run", name).absolute().parent, Path.open

    def refuse(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if mode == "xb" and path.absolute().parent == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_path(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    stopped = train("resume=run", "trainer.max_epochs=2")
    assert stopped.status == 2
    message = f"error: {closed / Path(name).name}: Permission denied: mend that, then go on by"
    assert stopped.err.splitlines()[-1].startswith(message)
    assert ".part" not in stopped.err


@pytest.mark.parametrize("act", ["remove", "rename"])
@pytest.mark.parametrize("without", ["callbacks.checkpoint.enabled=true", "everything"])
def test_a_run_without_its_directory_ends_in_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, act: str, without: str
) -> None:
    """The directory is removed or renamed, and is not made again."""
    original, calls = Throughput.before_validation, []

    def remove(self: Throughput, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            [run] = Path("outputs/runs").glob("*/*")
            if act == "remove":
                shutil.rmtree(run)
            else:
                run.rename("elsewhere")
        original(self, *arguments)

    monkeypatch.setattr(Throughput, "before_validation", remove)
    quiet = ("callbacks.checkpoint.enabled=false", "logger.csv=false", "logger.tensorboard=false")
    done = train(*SMALL, *(quiet if without == "everything" else (without,)))
    assert done.status == 2
    [line] = done.err.splitlines()
    assert "was removed or renamed" in line
    assert list(Path("outputs/runs").glob("*/*")) == []
    if act == "rename":
        assert RunSummary.read(Path("elsewhere")).status != "finished"


@pytest.mark.parametrize("seeds", ["1", "1,2"], ids=["last job", "job between"])
def test_a_sweep_without_its_directory_ends_in_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, seeds: str
) -> None:
    finish = Run.finish

    def rename(self: Run, *arguments: Any) -> None:
        finish(self, *arguments)
        if self.sweep is not None:
            self.sweep.rename("elsewhere")

    monkeypatch.setattr(Run, "finish", rename)
    done = train("-m", *SMALL, "trainer.max_epochs=1", f"seed={seeds}")
    assert done.status == 2
    [line] = done.err.splitlines()
    assert "was removed or renamed" in line
    assert list(Path("outputs/sweeps").glob("*/*")) == []


def test_an_unwritable_log_does_not_end_a_run(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to("/nonexistent/goal")
    os.mkfifo(tmp_path / "pipe.log")
    for name in ("link.log", "pipe.log"):
        with pytest.raises(OSError, match=name):
            LogFile(tmp_path / name)
    log = LogFile(tmp_path / "train.log", encoding="utf-8")
    log.emit(logging.makeLogRecord({"msg": "歌"}))
    log.close()
    assert (tmp_path / "train.log").read_text("utf-8") == "歌\n"
    full = LogFile("/dev/full")
    full.emit(logging.makeLogRecord({"msg": "more"}))  # no traceback on standard error
    full.close()
