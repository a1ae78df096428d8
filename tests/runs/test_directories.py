"""Runs and sweeps write only their own files; a directory with files of others is refused."""

import os
import shlex
import stat
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lyricgen import evaluate, export, files, generate, report
from lyricgen.cli.composition import DirectoryCallback, plain_values
from lyricgen.cli.errors import Refusal
from lyricgen.cli.typed_arguments import expand
from lyricgen.errors import UserError
from lyricgen.runs.directories import (
    LOCK,
    MARK,
    OF_RUN,
    OF_SWEEP,
    make_directory,
    outputs_directory,
    remove_unused,
)
from tests.conftest import SMALL, TINY, Train, newest_of, run_main, sweep_of

Tree = dict[str, object]


def tree(place: Path) -> Tree:
    """Map each path below a directory to its content, target of a link, or kind of file."""
    found: Tree = {}
    for path in sorted(place.rglob("*")):
        mode = path.lstat().st_mode
        content: object = stat.S_IFMT(mode)
        if stat.S_ISLNK(mode):
            content = str(path.readlink())
        elif stat.S_ISREG(mode):
            content = path.read_bytes()
        found[str(path.relative_to(place))] = content
    return found


def changes(before: Tree, after: Tree) -> set[str]:
    return {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}


def hydra_config(kind: str, directory: str, **others: object) -> object:
    job = {"name": "train", "chdir": False, **others}
    return OmegaConf.create({"resume": None, "hydra": {"job": job, kind: {"dir": directory}}})


def settle(kind: str, config: object) -> None:
    hooks = {
        "run": DirectoryCallback().on_run_start,
        "sweep": DirectoryCallback().on_multirun_start,
    }
    try:
        hooks[kind](config)  # type: ignore[operator]
    except Refusal as refusal:  # as the command does
        print(f"error: {refusal.line}", file=sys.stderr)
        raise


def put(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("mine", "utf-8")
    elif kind == "link":
        path.symlink_to("/nonexistent/goal")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


RUN_NAMES = (
    *("summary.json", ".hydra", "checkpoints", "metrics.csv", "samples.jsonl", "steps.csv"),
    *("events.out.tfevents.1.host.2.3", "hparams.yaml", "fit-profile.txt", "train.log"),
)
SWEEP_NAMES = ("summary.json", "multirun.yaml", ".submitit", "report", "0_seed=1")


@pytest.mark.parametrize("entry", ["file", "link", "pipe", "directory"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("run", name) for name in RUN_NAMES), *(("sweep", name) for name in SWEEP_NAMES)],
)
def test_a_directory_with_files_of_others_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, entry: str
) -> None:
    place = tmp_path / "x"
    place.mkdir()
    put(place / name, entry)
    before = tree(tmp_path)
    with pytest.raises(SystemExit) as stop:
        settle(kind, hydra_config(kind, str(place)))
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(place) in line
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["run", "sweep"])
@pytest.mark.parametrize("name", ["x\udcff\udcfe", "歌\udcff/x", "${x}", "a${b/c"])
def test_a_directory_with_a_name_that_cannot_be_recorded_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    config = hydra_config(kind, "")
    config.hydra[kind].dir = str(tmp_path / name).replace("${", "\\${")  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as stop:
        settle(kind, config)
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be recorded: its path" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", ["hydra.run.dir", "name", "data.path", "init_from", "resume"])
def test_settings_that_are_not_utf_8_are_refused(
    train: Train, setting: str, tmp_path: Path
) -> None:
    for more in ((), ("-m", "seed=1,2")):
        done = train(f"{setting}=x\udcff", *more)
        assert done.status == 2
        [line] = done.err.splitlines()
        assert "it is not UTF-8" in line
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_not_utf_8_are_refused(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", "o\udcff")
    for more in ((), ("-m", "seed=1,2")):
        done = train(*SMALL, *more)
        assert done.status == 2
        [line] = done.err.splitlines()
        assert "its path is not UTF-8" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_name_that_looks_like_an_interpolation_is_kept(train: Train) -> None:
    done = train(*SMALL, "name=${x}", "trainer.max_epochs=1")
    assert done.status == 0, done.err
    assert done.directory is not None
    assert done.summary["options"]["name"] == "${x}"
    more = train(f"resume={done.directory}", "trainer.max_epochs=2")
    assert more.status == 0, more.err
    assert done.summary["epochs"] == 2


def test_unrelated_files_do_not_hinder_a_run(tmp_path: Path) -> None:
    for name in ("notes.txt", "slurm-1.out"):
        (tmp_path / name).touch()
    settle("run", hydra_config("run", str(tmp_path)))
    settle("sweep", hydra_config("sweep", str(tmp_path)))
    # files that a run left when it was killed before it wrote its summary
    (tmp_path / "train.log").touch()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/config.yaml").touch()
    settle("run", hydra_config("run", str(tmp_path)))


@pytest.mark.parametrize("content", [b"", b"mine\n", MARK + b"more\n"])
def test_a_foreign_lock_marks_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / LOCK).write_bytes(content)
    settle("run", hydra_config("run", str(tmp_path)))  # nothing is replaced
    assert (tmp_path / LOCK).read_bytes() == content
    (tmp_path / "train.log").write_text("mine")
    with pytest.raises(SystemExit):
        settle("run", hydra_config("run", str(tmp_path)))
    assert "holds what a run writes (train.log)" in capsys.readouterr().err


def test_a_lock_that_is_a_link_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / LOCK).symlink_to(tmp_path / "goal")
    with pytest.raises(SystemExit) as stop:
        settle("run", hydra_config("run", str(tmp_path / "x")))
    assert stop.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "x" / LOCK) in line
    assert not (tmp_path / "goal").exists()


@pytest.mark.parametrize("harm", ["link", "pipe"])
@pytest.mark.parametrize("name", ["samples.jsonl", "train.log", "metrics.csv", "summary.json"])
def test_resuming_a_run_with_links_or_pipes_as_files_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, harm: str
) -> None:
    put(tmp_path / name, harm)
    config = hydra_config("run", str(tmp_path))
    config.resume = str(tmp_path)  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        settle("run", config)
    assert "is a link, pipe or device" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["checkpoints", ".hydra"])
def test_resuming_a_run_with_linked_folders_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "other")
    config = hydra_config("run", str(tmp_path / "run"))
    config.resume = str(tmp_path / "run")  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        settle("run", config)
    assert "is a link, pipe or device" in capsys.readouterr().err


def test_a_refusal_leaves_nothing_behind(train: Train, tmp_path: Path) -> None:
    """Refuse foreign directories and missing files, in a run and in a sweep."""
    (tmp_path / "x/checkpoints").mkdir(parents=True)
    (tmp_path / "x/.hydra").mkdir()
    for name in ("checkpoints/best.ckpt", "metrics.csv", ".hydra/config.yaml"):
        (tmp_path / "x" / name).write_text("mine", "utf-8")
    (tmp_path / "y").mkdir()
    (tmp_path / "y/samples.jsonl").write_text("mine", "utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "z").mkdir()
    (tmp_path / "z/.lock").write_text("mine", "utf-8")
    (tmp_path / "lines.txt").write_text("a line\n" * 300, "utf-8")
    before = tree(tmp_path)
    for typed in (
        ("hydra.run.dir=x",),
        ("hydra.run.dir=z", "data=text", "data.path=nowhere"),
        ("hydra.run.dir=y", "callbacks.samples.every_n_epochs=1"),
        ("hydra.run.dir=new/a/b", "data=text", "data.path=nowhere"),
        ("data=text", "data.path=nowhere"),
        ("data=text", "data.path=lines.txt", "data.unit=line", "sampler.drop_last=true"),
        ("seed=${no_such_setting}",),
        ("init_from=${oc.env:NO_SUCH_VARIABLE}",),
        ("-m", "seed=1,2", "cell=none_such"),
        ("hydra.job.chdir=true",),
        ("hydra.job.chdir=true", "-m", "seed=1,2"),
    ):
        done = train(*SMALL, *typed)
        assert (done.status, len(done.err.splitlines())) == (2, 1), done.err
        assert changes(before, tree(tmp_path)) == set()


def test_a_refusal_does_not_touch_foreign_logs(train: Train, tmp_path: Path) -> None:
    """Keep the log of a resumed run, and a user's train.log when the run's has another name."""
    assert train(*SMALL, "hydra.run.dir=run").status == 0
    (tmp_path / "run/summary.json").unlink()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/train.log").write_text("mine", "utf-8")
    (tmp_path / "b/.lock").mkdir(parents=True)
    before = tree(tmp_path)
    wrong = "seed=${no_such_setting}"
    done = train("resume=run", wrong)
    assert (done.status, len(done.err.splitlines())) == (2, 1), done.err
    assert (tmp_path / "run/train.log").is_file()
    for setting in (wrong, "optimizer.lr=-1"):
        done = train(*SMALL, "hydra.run.dir=a", "hydra.job.name=mine", setting)
        assert (done.status, len(done.err.splitlines())) == (2, 1), done.err
        assert not changes(before, tree(tmp_path)) - {"run/train.log"}
    done = train(*SMALL, "hydra.run.dir=b", wrong)
    assert "no_such_setting" in done.err


def test_unused_directories_are_removed(tmp_path: Path) -> None:
    """Directories that existed before and directories that hold files are kept."""
    (tmp_path / "old").mkdir()
    for name in ("old/a/b", "new/a", "kept/a"):
        make_directory(tmp_path / name)
    (tmp_path / "kept/a/notes").touch()
    (tmp_path / "new/a" / LOCK).touch()
    remove_unused()
    assert set(tree(tmp_path)) == {"old", "kept", "kept/a", "kept/a/notes"}


def test_tilde_means_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """~ is the home in each setting that is a path, and no folder named ~ is made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LYRICGEN_OUTPUTS", "~/o")
    assert outputs_directory() == tmp_path / "home/o"
    for kind in ("run", "sweep"):
        config = hydra_config(kind, f"~/{kind}")
        settle(kind, config)
        assert (tmp_path / "home" / kind).is_dir()
        chosen = OmegaConf.select(config, f"hydra.{kind}.dir")  # type: ignore[arg-type]
        assert chosen == str(tmp_path / "home" / kind)
    values = {
        "init_from": "~/a/best.ckpt",
        "data": {"path": "~/a.txt", "unit": "text", "separator": None, "verse": False},
        "sampler": {"kind": "random"},
        "recipe": "none",
    }
    hydra = OmegaConf.create(
        {"overrides": {"task": []}, "runtime": {"choices": {"sampler": "random"}}}
    )
    plain = plain_values(OmegaConf.create(values), hydra)
    assert plain["init_from"] == str(tmp_path / "home/a/best.ckpt")
    assert plain["data"]["path"] == str(tmp_path / "home/a.txt")
    unknown = "~no_user_of_that_name/o"  # an unknown home: the name is kept
    monkeypatch.setenv("LYRICGEN_OUTPUTS", unknown)
    assert outputs_directory() == Path(unknown)
    with pytest.raises(UserError, match=unknown):
        expand([f"resume={unknown}"])
    package = Path(files.__file__).parent
    places = {p.name for p in package.rglob("*.py") if "expanduser" in p.read_text("utf-8")}
    assert places == {"files.py"}  # only one module expands ~


@pytest.mark.slow
def test_every_command_writes_only_its_own_files(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The tree is full of files, links and pipes with names that commands read and write."""
    victims, here = tmp_path / "victims", tmp_path / "home/project"
    for place in (victims, here / "outputs/runs", here / "lightning_logs"):
        place.mkdir(parents=True)
    (victims / "notes").write_text("mine", "utf-8")
    for level in (tmp_path, tmp_path / "home", here, here / "outputs/runs"):
        (level / "latest.txt").write_text("mine", "utf-8")
    for name in (*RUN_NAMES, *SWEEP_NAMES, ".lock", "~"):
        for level in (here, here / "outputs"):
            if not os.path.lexists(level / name):
                (level / name).symlink_to(victims / ("notes" if "." in name else ""))
    (here / "outputs/latest.txt").symlink_to(victims / "notes")
    os.mkfifo(here / "outputs/runs/summary.json")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(here)
    before = tree(tmp_path)

    everything = ("trainer.profiler=simple", "callbacks.smoothed_loss.enabled=true")
    assert train(*TINY, *everything).status == 0
    run = newest_of()
    (run / "latest.txt").write_text("mine", "utf-8")
    assert train("resume=latest", "trainer.max_epochs=3").status == 0
    assert newest_of() == run
    names = {path.name for path in run.iterdir()} - {"latest.txt", LOCK, "train.log"}
    assert {name for name in names if not any(fnmatchcase(name, p) for p in OF_RUN)} == set()
    assert (run / "latest.txt").read_text("utf-8") == "mine"

    assert train("-m", *SMALL, "trainer.max_epochs=1", "seed=1,2").status == 0
    names = {path.name for path in sweep_of().iterdir()} - {LOCK}
    assert {name for name in names if not any(fnmatchcase(name, p) for p in OF_SWEEP)} == set()

    commands = {generate: "--count 2", evaluate: "--heat heat.html", export: "--out m.safetensors"}
    for command, options in commands.items():
        done = run_main(command.main, capfd, str(run), *shlex.split(options))
        assert done.status == 0, done.err
    done = run_main(report.main, capfd, "--out", "written")
    assert done.status == 0, done.err

    mine = ("home/project/outputs/runs/20", "home/project/outputs/sweeps", "home/project/written")
    named = {"home/project/outputs/latest.txt", "home/project/heat.html"}
    named |= {"home/project/m.safetensors"}
    changed = changes(before, tree(tmp_path))
    assert {p for p in changed - named if not p.startswith((*mine, "cache", "home/.c"))} == set()
