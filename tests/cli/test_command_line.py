"""Behaviour that all commands share."""

import logging
import os
import re
import subprocess
import sys
from argparse import Namespace
from itertools import combinations
from pathlib import Path

import pytest

import lyricgen
from lyricgen import generate
from lyricgen.__main__ import COMMANDS
from lyricgen.cli import evaluation_options
from lyricgen.cli.command_line import MEMORY_OPTIONS, Forms, Parser, check_forms, run
from lyricgen.errors import UserError, as_option
from lyricgen.files import replace_file
from lyricgen.settings import group_settings
from lyricgen.threads import WAITING

WRITES = """
from lyricgen.cli.command_line import Parser, run
run(Parser("test", "Write."), lambda options: print("x\\n" * {lines}), [])
"""


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_full_disk_is_one_line(lines: int) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", WRITES.format(lines=lines)],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves_early_is_no_error(lines: int) -> None:
    command = f"{sys.executable} -c '{WRITES.format(lines=lines)}' | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_messages_go_to_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = logging.getLogger("lyricgen")
    monkeypatch.setattr(ours, "handlers", [])  # a training in this process may have set some
    monkeypatch.setattr(ours, "propagate", False)
    log = logging.getLogger("lyricgen.test")
    run(Parser("test", "Tell."), lambda options: log.info("%d %%", 12), [])
    log.info("no more")
    assert capsys.readouterr() == ("", "12 %\n")


@pytest.mark.parametrize("follow", [False, True])
def test_a_link_is_followed_only_on_request(tmp_path: Path, follow: bool) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with replace_file(tmp_path / "link", follow_link=follow) as stream:
        stream.write(b"new")
    assert (tmp_path / "link").is_symlink() == follow
    assert (tmp_path / "link").read_text() == "new"
    assert (tmp_path / "real").read_text() == ("new" if follow else "old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("top_k=3: it must be at least 4", "--top-k 3: it must be at least 4"),
        ("top_k=3, and scale=0 or scale=0.0", "--top-k 3, and --scale 0 or --scale 0.0"),
        # unchanged: a longer name, another value, a quoted text, an option that was not given
        *[(kept, kept) for kept in ("data.top_k=3", "top_k=30", "'top_k=3'", "seed=None")],
    ],
)
def test_errors_name_options_as_they_are_typed(
    message: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = Parser("test", "Fail.")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--scale", type=float)
    parser.add_argument("--seed", type=int)

    def fail(options: object) -> None:
        raise UserError(message)

    with pytest.raises(SystemExit) as stop:
        run(parser, fail, ["--top-k", "3", "--scale", "0"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {shown}\n"


@pytest.mark.parametrize(
    "forms", [evaluation_options.FORMS, generate.FORMS], ids=["evaluate", "generate"]
)
def test_options_that_fit_no_form_are_refused(forms: Forms) -> None:
    """The error for three options names options that no form combines, or a missing option."""
    whole = {needed: {*needed, *more} for needed, more in forms.items()}
    names = sorted(set().union(*whole.values()))
    refused = 0
    for given in map(set, combinations(names, 3)):
        options = Namespace(**{name: "x" if name in given else None for name in names})
        if any(set(needed) <= given <= form for needed, form in whole.items()):
            check_forms(options, forms)
            continue
        with pytest.raises(UserError) as refusal:
            check_forms(options, forms)
        refused += 1
        message = str(refusal.value)
        shown = {name for name in names if re.search(rf"{as_option(name)}(?![-\w])", message)}
        if "do not go together: leave one of them out" in message:
            assert shown <= given
            assert not any(shown <= form for form in whole.values())
        else:
            [lacking] = shown & given
            assert message.startswith(f"{as_option(lacking)} needs --")
            assert message.endswith(f" as well, or leave {as_option(lacking)} out")
            check_forms(Namespace(**vars(options) | dict.fromkeys(shown, "x")), forms)
    assert refused > 100


@pytest.mark.parametrize(
    "forms", [evaluation_options.FORMS, generate.FORMS], ids=["evaluate", "generate"]
)
def test_options_conflict_in_pairs(forms: Forms) -> None:
    """`check_forms` looks at pairs only."""
    whole = [{*needed, *more} for needed, more in forms.items()]
    names = sorted(set().union(*whole))
    apart = {pair for pair in combinations(names, 2) if not any(map(set(pair).issubset, whole))}
    for size in (3, 4):
        for given in combinations(names, size):
            if not apart.intersection(combinations(given, 2)):
                assert any(map(set(given).issubset, whole)), given


@pytest.mark.parametrize(
    ("command", "chosen"),
    [("train", None), ("generate", None), *(("generate", name) for name in WAITING)],
)
def test_a_command_lets_threads_wait_passively_unless_the_user_has_chosen(
    command: str, chosen: str | None
) -> None:
    """The policy is set before torch is imported, and never by importing the package."""
    program = f"""
import os, sys
import lyricgen
from lyricgen import {command}
before = os.environ.get("OMP_WAIT_POLICY")
assert "torch" not in sys.modules
sys.argv = ["{command}", "--help"]
try:
    {command}.main()
except SystemExit:
    pass
assert "torch" not in sys.modules
print(before, os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr)
"""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    if chosen is not None:
        environment[chosen] = "7"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    kept = "7" if chosen == "OMP_WAIT_POLICY" else "None"
    then = "PASSIVE" if chosen is None else kept
    assert done.stderr.splitlines()[-1] == f"{kept} {then}"


def run_by_name(*arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-m", "lyricgen", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_package_runs_a_command_by_its_name_and_imports_no_other() -> None:
    done = run_by_name("export", "--help", flags=("-X", "importtime"))
    assert done.stdout.startswith("usage: python -m lyricgen.export")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "lyricgen.cli.command_line" in imported
    commands = {f"lyricgen.{module}" for module, _ in COMMANDS.values()}
    assert not imported & {"hydra", "torch", *commands}


def test_the_package_lists_its_commands() -> None:
    files = Path(lyricgen.__file__).parent.glob("[a-z]*.py")
    assert {module for module, _ in COMMANDS.values()} == {
        path.stem for path in files if 'if __name__ == "__main__"' in path.read_text("utf-8")
    }
    done, wrong = run_by_name(), run_by_name("trian")
    assert (done.returncode, done.stderr) == (0, "")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: 'trian' is no command: did you mean train? (")
    for listed in (done.stdout, wrong.stderr):
        assert set(COMMANDS) <= set(re.findall(r"\w+", listed))
    assert wrong.stderr.count("\n") == 1
    assert done.stdout.count("\n") <= 24  # a screen
    examples = re.findall(r"^  lyricgen (\w+) ", done.stdout, re.M)
    assert len(examples) == 3
    assert set(examples) <= set(COMMANDS)


def test_the_help_names_the_defaults_of_a_memory() -> None:
    defaults = group_settings("memory", "cache")
    for option, meaning in MEMORY_OPTIONS.items():
        named = re.search(r"\(default: (.+)\)$", meaning)
        if option != "--memory":
            assert named is not None
            assert named[1] == str(defaults[option.partition(" ")[0].removeprefix("--memory-")])
