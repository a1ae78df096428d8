"""A faulty path from a user or a record is refused in one line, with exit status 2."""

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lyricgen import dashboard, evaluate, export, generate, report, train
from lyricgen.cli.command_line import Parser, run
from lyricgen.cli.errors import describe_error, is_mendable
from tests.conftest import SMALL, Main, messages, run_main

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2  # root's right to any file, from linux/capability.h

RUN = "run"  # a run without faults

# Commands that take a path, with the arguments before and after it.
COMMANDS: dict[str, tuple[Main, tuple[str, ...], tuple[str, ...]]] = {
    "generate": (generate.main, (), ()),
    "generate --compare": (generate.main, (RUN, "--compare"), ()),
    "evaluate": (evaluate.main, (), ()),
    "evaluate second": (evaluate.main, (RUN,), ()),
    "evaluate --memorisation": (evaluate.main, (), ("--memorisation",)),
    "evaluate --heat of": (evaluate.main, (), ("--heat", "x.html")),
    "evaluate --text": (evaluate.main, (RUN, "--text"), ()),
    "evaluate --lines": (evaluate.main, (RUN, "--lines"), ()),
    "evaluate --heat": (evaluate.main, (RUN, "--heat"), ()),
    "evaluate --gates": (evaluate.main, (RUN, "--text", "的", "--gates"), ()),
    "evaluate --png": (evaluate.main, (RUN, "--png"), ()),
    "report": (report.main, (), ()),
    "report --out": (report.main, (RUN, "--out"), ()),
    "export": (export.main, (), ()),
    "export --out": (export.main, (RUN, "--out"), ()),
    "dashboard": (dashboard.main, (), ()),
}
ENDINGS = {
    "evaluate --heat": ".html", "evaluate --gates": ".png", "evaluate --png": ".png",
    "export --out": ".safetensors", "evaluate --text": ".txt",
}  # fmt: skip
# Settings of a training that take a path, with the settings they need; {} stands for the path.
SETTINGS: dict[str, tuple[str, ...]] = {
    "data.path": ("data=text", "data.path='{}'"),
    "data.path in a list": ("data=text", "data.path='{}'", "data.unit=line"),
    "init_from": ("init_from='{}'",),
    "resume": ("resume='{}'",),
    "hydra.run.dir": ("hydra.run.dir='{}'",),
    "hydra.sweep.dir": ("hydra.sweep.dir='{}'", "-m"),
    "hydra.sweep.subdir": ("hydra.sweep.dir=sweep", "hydra.sweep.subdir='{}'", "-m"),
    "hydra.searchpath": ("hydra.searchpath=['{}']",),
    "--config-dir": ("--config-dir", "{}"),
    "--config-path": ("--config-path", "{}"),
    "name": ("name='{}'",),
}

# Faults of a path.
FAULTS = {
    "no permission": "closed/inside",
    "long name": "x" * 300,
    "long path": "/".join(["x" * 200] * 30),
    "in a file": "plain/inside",
    "loop": "loop",
    "below a loop": "loop/inside",
    "not UTF-8": "closed/\udcff\udcfe",
    "not there": "gone/gone/inside",
    "of another user": "~nosuchuser/inside",
    "NUL": "a\0b",
}


def pairs(names: Iterable[str]) -> list[Any]:
    """Each name with each fault; all but one fault of a name are marked slow."""
    return [
        pytest.param(name, fault, marks=[pytest.mark.slow] if (i + j) % len(FAULTS) else [])
        for i, name in enumerate(names)
        for j, fault in enumerate(FAULTS)
    ]


def train_small(*overrides: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lyricgen.train", *SMALL, *overrides])
        train.main()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory without write permission that holds a run and the targets of faulty paths."""
    directory = Path(tempfile.mkdtemp())
    (directory / "closed").mkdir(mode=0)
    (directory / "plain").write_text("a plain file\n")
    (directory / "loop").symlink_to("loop")
    for ending in set(ENDINGS.values()):
        (directory / f"loop{ending}").symlink_to(f"loop{ending}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        train_small("trainer.max_epochs=1", f"hydra.run.dir={RUN}")
    directory.chmod(0o500)
    yield directory
    for closed in (directory, directory / "closed"):
        closed.chmod(0o700)
    shutil.rmtree(directory)


@contextmanager
def as_a_user() -> Iterator[None]:
    """Obey the modes of files, also as root, by capset(2)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    thread = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the call; this thread
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 capabilities
    assert libc.capget(thread, before) == 0
    fewer = type(before)(*before)
    fewer[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(thread, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(thread, before) == 0


@pytest.fixture(autouse=True)
def _enter_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(place / "outputs"))


def check_refusal(status: int, err: str) -> None:
    lines = messages(err)
    assert (status, len(lines)) == (2, 1), err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(("name", "fault"), pairs(COMMANDS))
def test_a_faulty_path_is_refused_in_one_line(
    name: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main, before, after = COMMANDS[name]
    with as_a_user():
        found = run_main(main, capsys, *before, FAULTS[fault] + ENDINGS.get(name, ""), *after)
    check_refusal(found.status, found.err)


@pytest.mark.parametrize(("name", "fault"), pairs(SETTINGS))
def test_a_faulty_path_in_a_setting_is_refused_in_one_line(
    name: str, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = (one.format(FAULTS[fault]) for one in SETTINGS[name])
    with as_a_user():
        found = run_main(lambda _: train_small(*overrides), capfd)
    check_refusal(found.status, found.err)


@pytest.mark.parametrize(("name", "fault"), pairs(["LYRICGEN_OUTPUTS", "LYRICGEN_DATA"]))
def test_a_faulty_path_in_a_variable_is_refused_in_one_line(
    name: str, fault: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, FAULTS[fault].replace("\0", "\udcff"))  # a variable cannot hold NUL
    commands: list[Callable[[], object]] = [lambda: train_small("data=jaychou")]
    if name == "LYRICGEN_OUTPUTS":
        mains = (generate.main, evaluate.main, report.main, export.main)
        commands += [partial(main, []) for main in mains]
    for command in commands:
        with as_a_user():
            found = run_main(lambda _, command=command: command(), capfd)
        check_refusal(found.status, found.err)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file or directory", "gone"), "'gone': No such file"),
        (PermissionError(13, "Permission denied", b"closed"), "'closed': Permission denied"),
        (ValueError("embedded null byte"), "NUL"),
        (ValueError("stat: embedded null character in path"), "NUL"),
        (RuntimeError("Symlink loop from '/x'"), "Symlink loop from '/x'"),
        (RuntimeError("Could not determine home directory."), "home directory"),
        (OSError(36, "File name too long", "x" * 5000), "File name too long"),
    ],
)
def test_an_error_about_a_path_is_reported_in_one_line(
    error: Exception, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> None:
        raise error

    found = run_main(lambda arguments: run(Parser("test", "Fail."), fail, arguments), capsys)
    check_refusal(found.status, found.err)
    assert says in found.err
    assert len(found.err) < 300
    assert is_mendable(error, fail.__code__)
    assert says in describe_error(error)


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), KeyError("x")])
def test_other_errors_are_raised(error: Exception) -> None:
    def fail(options: object) -> None:
        raise error

    with pytest.raises(type(error)):
        run(Parser("test", "Fail."), fail, [])


def test_a_faulty_path_in_a_record_is_refused_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    content = torch.load(RUN + "/checkpoints/best.ckpt", weights_only=True)
    for path in FAULTS.values():
        data = content["lyricgen"]["options"]["data"]
        data |= {"kind": "text", "path": path.replace("\udcff", "x").replace("\udcfe", "x")}
        torch.save(content, tmp_path / "record.ckpt")
        found = run_main(evaluate.main, capsys, tmp_path / "record.ckpt")
        check_refusal(found.status, found.err)
