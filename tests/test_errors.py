"""No output steers a terminal."""

import ast
import json
import logging
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.table import Table

import hydra_plugins.lyricgen_plugins
import lyricgen
from lyricgen import console
from lyricgen.errors import UserError, escape_line, escape_text, in_one_line, reason
from lyricgen.files import to_json
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.training.callbacks.samples import one_line

# Unicode's categories of characters that a terminal or an editor obeys, or that no font shows
STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_long_values_are_shortened_in_the_middle() -> None:
    path = "/" + "歌 x/" * 1250
    for value in (repr(path), "data.path=" + "y" * 5000, f'"{path}"'):
        message = in_one_line(f"cannot read {value}: it isn't there; name another (see 'x' or 'y')")
        assert message.endswith(value[-70:] + ": it isn't there; name another (see 'x' or 'y')")
        assert message.startswith(f"cannot read {value[:80]}…")
    for length in (10, 290):
        message = f"cannot read {'z' * length!r} or {'z' * length} in the list of {'it is ' * 200}"
        assert in_one_line(message) == message.rstrip()
    assert reason(UserError(path)) == in_one_line(path)
    assert len(in_one_line("a b " * 5000)) < 3001


@pytest.mark.slow
def test_every_character_of_unicode_is_kept_or_escaped_by_its_category() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        shown = escape_text(character)
        if unicodedata.category(character) in STEERING and character != "\n":
            assert shown.isascii(), code
            assert shown.startswith("\\"), code
            assert shown.isprintable(), code
        else:
            assert shown == character, code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "想要有直升机\n想要\u3000和你\n",
        "e\u0301 a\u0308",
        "👍🏽 🇫🇷 ❤\ufe0f",
        "\u00a0x\u2009y",
        "\n\n",
        "\\x1b",
    ],
)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert escape_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb\nc", "a\\x1b[2Jb\nc"),
        ("a\rb\x07\x08\x7f\x00", "a\\rb\\x07\\x08\\x7f\\x00"),
        ("a\tb", "a\\tb"),
        ("\x9b31m", "\\x9b31m"),  # the same order as ESC [ in one character
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("a\u2028b\u2029c\x85d\x0ce", "a\\u2028b\\u2029c\\x85d\\x0ce"),
        ("\ud800\ufeff\u200b\u200d\u00ad", "\\ud800\\ufeff\\u200b\\u200d\\xad"),
        ("\U000e0041\U0010fffd\u0378", "\\U000e0041\\U0010fffd\\u0378"),
    ],
)
def test_steering_characters_are_escaped(text: str, shown: str) -> None:
    assert escape_text(text) == shown
    assert escape_line(text) == shown.replace("\n", "\\n")
    shown.encode()


def test_the_consoles_output_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    console.show("epoch 1\n\x1b]0;title\x07 \u202eabc [bold]x[/bold]")
    assert capsys.readouterr().out == "epoch 1\n\\x1b]0;title\\x07 \\u202eabc [bold]x[/bold]\n"


def test_a_sample_on_one_line() -> None:
    assert one_line("\n分开\u3000以后\n\x1b[2J\u202e走\n") == "分开\u3000以后 / \\x1b[2J\\u202e走"


HOSTILE = "\x1b]0;X\x07\x9b2J\u202e"

# Other modules that use the terminal, and why they print only escaped text.
ALLOWED = {
    "training/callbacks/progress.py": {
        "get_console"
    },  # a bar of figures; asks whether this is a terminal
    "runs/interruption.py": {
        "get_console",
        "os.write",
    },  # asks whether it is quiet; writes nothing, to see whether a reader is left
    "training/loggers/tensorboard.py": {"os.write"},  # a file
    "stacking.py": {"Console", "get_console", "print"},  # escapes tables of generated texts
    "__main__.py": {"print"},  # completions, which a shell reads
    "cli/hydra_private.py": {"print"},  # a line of shell, likewise
    "api/training.py": {"get_console"},  # fits it to a notebook
    "sweeps/job.py": {"get_console"},  # makes it quiet
    "cli/command_line.py": {"sys.stdout"},  # flushed, closed, never written
    "evaluate.py": {"sys.stderr"},  # is printed to in place of standard output
    "report.py": {"sys.stderr"},  # likewise
    "list_runs.py": {"sys.stderr"},  # likewise
    "reporting/tables.py": {"Console"},  # a table gets its width
}
WRITERS = {
    *("print", "pprint", "get_console", "Console", "StreamHandler", "RichHandler"),
    *("print_exc", "print_exception", "print_stack", "print_tb"),
    *("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "os.write"),
}


def _writers(path: Path) -> Iterator[str]:
    """Names in a module that could print."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Name) and node.id in WRITERS:
            yield node.id
        if isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names if name.name in WRITERS)
            whole = {f"{node.module}.{name.name}" for name in node.names}
            yield from whole & WRITERS
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            yield from {node.attr, f"{owner}.{node.attr}"} & WRITERS


def test_only_one_module_prints() -> None:
    package = Path(lyricgen.__file__).parent
    plugins = Path(hydra_plugins.lyricgen_plugins.__file__).parent
    found = {
        path.relative_to(place).as_posix(): set(_writers(path))
        for place in (package, plugins)
        for path in place.rglob("*.py")
    }
    assert {"print", "os.write", "Console", "sys.stdout"} <= found.pop("console.py")
    others = {name: writers for name, writers in found.items() if writers}
    unexpected = {name: writers - ALLOWED.get(name, set()) for name, writers in others.items()}
    assert not {name: writers for name, writers in unexpected.items() if writers}


def test_every_logging_handler_of_the_configuration_escapes() -> None:
    for name in ("job_logging", "hydra_logging"):
        given = yaml.safe_load((CONFIG_DIRECTORY / "hydra" / name / "lyricgen.yaml").read_text())
        for handler in given["handlers"].values():
            formatter = given["formatters"][handler["formatter"]]
            assert (
                handler["class"] == "lyricgen.console.ConsoleHandler"
                or formatter["class"] == "lyricgen.console.PrintableFormatter"
            )


@pytest.mark.parametrize("printer", [console.show, console.tell])
def test_logged_messages_are_escaped(
    printer: console.Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 1, "%s\nhere", (HOSTILE,), None)
    console.ConsoleHandler(printer).emit(record)
    shown = "".join(capsys.readouterr())
    assert shown == "\\x1b]0;X\\x07\\x9b2J\\u202e\nhere\n"
    assert console.PrintableFormatter("%(message)s").format(record) == shown.removesuffix("\n")


def test_a_message_in_a_handler_of_signals_is_escaped(capfd: pytest.CaptureFixture[str]) -> None:
    console.tell_now(HOSTILE)
    assert capfd.readouterr().err.removesuffix("\n").isprintable()


def test_tables_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    console.put(table)
    shown = capsys.readouterr().out
    assert shown.count("\\x1b]0;X") == 4
    assert all(line.isprintable() for line in shown.splitlines())


def test_json_is_escaped_and_reads_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_json(to_json({HOSTILE: ["雨\tif\u200d", "\U000e0041"]}))
    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.splitlines())
    assert json.loads(shown) == {HOSTILE: ["雨\tif\u200d", "\U000e0041"]}


UNCAUGHT = """
import warnings
from lyricgen.console import prepare_streams
prepare_streams()
warnings.warn({hostile!r})
raise ValueError({hostile!r})
"""


def test_warnings_and_tracebacks_of_python_are_escaped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT.format(hostile=HOSTILE)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.count("\\x1b]0;X\\x07\\x9b2J") == 2
    assert all(line.isprintable() for line in done.stderr.splitlines())
