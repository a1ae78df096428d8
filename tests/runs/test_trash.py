"""Runs that are moved to the trash."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from lyricgen import dashboard
from lyricgen.errors import UserError
from lyricgen.reporting.records import read
from lyricgen.runs.directories import claim_directory, hide_trash
from lyricgen.runs.newest import newest_run, newest_runs
from lyricgen.runs.references import list_directories
from lyricgen.runs.trash import check_removable, move_to_trash

RUN = "runs/2026-01-02/10-00-00.000000_x"


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


def add(outputs: Path, path: str = RUN) -> Path:
    directory = outputs / path
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "summary.json").write_text(json.dumps({"status": "finished"}), "utf-8")
    (directory / "checkpoints/best.ckpt").write_bytes(b"weights")
    (outputs / "latest.txt").write_text(f"{path}\n", "utf-8")
    return directory


def files(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def test_a_removed_run_is_nowhere_but_in_the_trash(outputs: Path) -> None:
    kept = add(outputs, "runs/2026-01-01/10-00-00.000000_y")
    removed = add(outputs)
    content = files(removed)
    target = move_to_trash(removed)
    assert target == outputs / ".trash" / RUN
    assert files(target) == content
    assert not removed.exists()
    assert list(newest_runs()) == list_directories() == [kept]
    assert [one.directory for one in read([]).records] == [kept.resolve()]
    assert (outputs / "latest.txt").read_text("utf-8") == "runs/2026-01-01/10-00-00.000000_y\n"
    target.rename(removed)  # as the message says
    assert set(list_directories()) == {kept, removed}
    assert files(removed) == content


@pytest.mark.parametrize("path", ["runs/2026-01-03/10-00-00.000000_y", None])
def test_latest_names_a_run_that_is_there(outputs: Path, path: str | None) -> None:
    removed = add(outputs)
    newest = None if path is None else add(outputs, path)
    move_to_trash(removed)
    if newest is None:
        assert not (outputs / "latest.txt").exists()
    else:
        assert newest_run() == newest
        assert (outputs / "latest.txt").read_text("utf-8") == f"{path}\n"


def test_a_name_that_is_taken_gets_a_number(outputs: Path) -> None:
    targets = [move_to_trash(add(outputs)).name for _ in range(3)]
    name = Path(RUN).name
    assert targets == [name, f"{name}_2", f"{name}_3"]


def test_a_run_on_another_file_system_is_copied(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = add(outputs)
    (removed / "link").symlink_to("nowhere")
    content, rename = files(removed), Path.rename

    def refuse_directories(path: Path, target: Path) -> Path:
        if path == removed:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_directories)

    def fill_the_disk(source: Path, target: Path, **options: bool) -> None:
        target.mkdir()
        shutil.copy(source / "summary.json", target)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", fill_the_disk)
        with pytest.raises(UserError, match="No space left"):
            move_to_trash(removed)
    assert files(removed) == content
    assert list((outputs / ".trash/runs/2026-01-02").iterdir()) == []
    target = move_to_trash(removed)
    assert files(target) == content
    assert (target / "link").readlink() == Path("nowhere")
    assert not removed.exists()
    assert list(target.parent.iterdir()) == [target]


def test_runs_in_use_and_jobs_are_refused(outputs: Path) -> None:
    run = add(outputs)
    sweep = add(outputs, "sweeps/2026-01-02/10-00-00.000000_s")
    (sweep / "multirun.yaml").touch()
    job = add(outputs, "sweeps/2026-01-02/10-00-00.000000_s/0_seed=1")
    for claimed, removed in ((run, run), (sweep, sweep), (job, sweep)):
        with claim_directory(claimed), pytest.raises(UserError, match="in use"):
            move_to_trash(removed)
        assert removed.is_dir()
    check_removable(sweep)
    with pytest.raises(UserError, match="is a job, without which its sweep would be incomplete"):
        check_removable(job)
    for other in (outputs, outputs / "runs", outputs / "runs/2026-01-02", Path("missing")):
        with pytest.raises(UserError, match="is not the directory of a run"):
            check_removable(other)
    elsewhere = add(Path("others"))
    with pytest.raises(UserError, match="is not below 'outputs': set LYRICGEN_OUTPUTS"):
        check_removable(elsewhere)


def test_tensorboard_gets_a_directory_without_the_trash(outputs: Path) -> None:
    add(outputs)
    with hide_trash(outputs) as shown:
        assert shown == outputs
    move_to_trash(outputs / RUN)
    kept = add(outputs, "runs/2026-01-01/10-00-00.000000_y")
    with hide_trash(outputs) as shown:
        assert ".trash" not in [path.name for path in shown.iterdir()]
        assert (shown / kept.relative_to(outputs) / "summary.json").is_file()
        later = add(outputs, "sweeps/2026-01-02/10-00-00.000000_s")
        assert (shown / later.relative_to(outputs) / "summary.json").is_file()
    assert not shown.exists()
    assert kept.is_dir()


def test_the_dashboard_shows_no_trash(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(outputs)
    move_to_trash(outputs / RUN)
    add(outputs, "runs/2026-01-01/10-00-00.000000_y")
    shown: list[Path] = []

    def launch(directory: Path, *_: object) -> None:
        shown.extend(directory.rglob("*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(dashboard, "_launch", launch)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        dashboard.main([])
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert {path.name for path in shown} >= {"runs", "sweeps"}
    assert not [path for path in shown if path.name in (".trash", Path(RUN).name)]
