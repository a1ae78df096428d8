"""The additions that CONTRIBUTING shows, made in a copy of the tree and run there.

A child of a fork server runs them. The server has imported torch and Lightning once for all; the
child imports the copy's lyricgen.
"""

import os
import re
import shlex
import shutil
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "CONTRIBUTING.md"
COPIED = ("src", "conf", "tests")
COPIED_PACKAGES = {"lyricgen", "hydra_plugins", "tests"}

_SECTION = re.compile(r"^## Add an? (\w+)\n(.*?)(?=^## |\Z)", re.S | re.M)
# the path before a block, the block's language and its text
_BLOCK = re.compile(r"(?:`([\w./]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.S | re.M)


class Addition(NamedTuple):
    """New files with their texts, changes of existing files, and commands."""

    files: dict[str, str]
    changes: list[tuple[str, str]]
    commands: list[str]


def additions() -> dict[str, Addition]:
    """Additions of CONTRIBUTING, by the word in their headings."""
    return {name: _read(text) for name, text in _SECTION.findall(PAGE.read_text("utf-8"))}


def _read(section: str) -> Addition:
    found = Addition({}, [], [])
    for path, language, text in _BLOCK.findall(section):
        if language == "sh":
            found.commands.extend(text.splitlines())
            continue
        assert path, f"no path stands before this block:\n{text}"
        if language == "diff":
            found.changes.extend((path, change) for change in text.split("@@\n"))
        else:
            found.files[path] = text
    return found


def copy_tree(directory: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", directory)


def add(addition: Addition, directory: Path) -> None:
    """Make an addition in a copy of the tree."""
    for path, text in addition.files.items():
        assert not (directory / path).exists(), path
        (directory / path).write_text(text, "utf-8")
    for path, change in addition.changes:
        text = (directory / path).read_text("utf-8")
        before, after = _sides(change)
        assert text.count(before) == 1, f"{path} does not hold these lines once:\n{before}"
        (directory / path).write_text(text.replace(before, after), "utf-8")


def _sides(change: str) -> tuple[str, str]:
    lines = change.splitlines(keepends=True)
    before = [line[1:] or "\n" for line in lines if line[0] in " -\n"]
    after = [line[1:] or "\n" for line in lines if line[0] in " +\n"]
    return "".join(before), "".join(after)


def run(commands: list[str], settings: list[str], directory: Path) -> tuple[list[int], str]:
    """Run commands in a copy of the tree; give training commands additional settings.

    Returns:
        Their exit statuses and their output.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "pytorch_lightning", "pydantic"])
    printed = directory / "printed.txt"
    process = context.Process(target=_run, args=(commands, settings, directory, printed))
    process.start()
    process.join()
    text = printed.read_text("utf-8")
    found = [int(status) for status in re.findall(r"^status (\d+)$", text, flags=re.M)]
    return found, text


def _run(commands: list[str], settings: list[str], directory: Path, printed: Path) -> None:
    os.chdir(directory)
    with printed.open("w", encoding="utf-8", buffering=1) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
        sys.path[:0] = [str(directory), str(directory / "src")]
        for name in [name for name in sys.modules if name.partition(".")[0] in COPIED_PACKAGES]:
            del sys.modules[name]
        for command in commands:
            print(f"status {_status(shlex.split(command), settings)}", flush=True)


def _status(words: list[str], settings: list[str]) -> int:
    try:
        if words[0] == "pytest":
            import pytest  # noqa: PLC0415  only some commands need it

            # pytest cannot rewrite Hydra's plugin if the fork server has imported it
            quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
            return int(pytest.main([*words[1:], "-q", "-n", "0", "-p", "no:cacheprovider", *quiet]))
        assert words[:3] == ["python", "-m", "lyricgen.train"], words
        from lyricgen import train  # noqa: PLC0415  the copy's lyricgen

        sys.argv = ["lyricgen.train", *words[3:], *settings]
        train.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
