"""The options of the evaluate command, and which of them go together."""

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

from lyricgen.errors import UserError

MOST = 10**6  # of most numbers
ALL = "all"  # of --units


class Option(NamedTuple):
    """An option of the command.

    Attributes:
        tasks: for which it changes something.
        help: what it does.
        parsing: arguments of argparse.
        default: its value where it is not given.
    """

    tasks: tuple[str, ...]
    help: str
    parsing: dict[str, Any]
    default: object = None


def _number(least: int) -> dict[str, Any]:
    """Arguments of argparse for a whole number."""

    def number(typed: str) -> int:
        if not typed.isdecimal() or not least <= int(typed) <= MOST:
            raise argparse.ArgumentTypeError(f"{typed!r}: give a number from {least} to {MOST}")
        return int(typed)

    return {"type": number, "metavar": "N"}


def _units(typed: str) -> Any:
    return typed if typed == ALL else _number(1)["type"](typed)


def _temperature(typed: str) -> float:
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{typed!r}: give a number from 0")
    return value


FLAG: dict[str, Any] = {"action": "store_true"}
# No option has a default in argparse, so that it is known which were given. Those of a group stand
# together in the help.
GROUPS: dict[str, dict[str, Option]] = {
    "figures": {
        "curves": Option(
            ("figures",),
            "also perplexity by position, by length of the context and by frequency of characters",
            FLAG,
        ),
        "part": Option(
            ("figures", "heat"),
            "of this part of the text alone (default: of all)",
            {"choices": ("train", "val", "test")},
        ),
        "resamples": Option(
            ("figures", "text"), "texts drawn for each 95 %% interval", _number(100), 1000
        ),
    },
    "a text of your own": {
        "text": Option(
            ("text", "heat", "gates"),
            "score this text; a file, or the text itself where there is no such file",
            {"metavar": "FILE"},
        ),
        "unknown": Option(
            ("text", "heat"),
            "what to do with characters that the model does not know: say which they are, or leave "
            "them out and say how many",
            {"choices": ("refuse", "skip")},
            "refuse",
        ),
        "encoding": Option(
            ("text", "heat", "gates"),
            "of the file, as in gb18030 (default: utf-8)",
            {"metavar": "NAME"},
        ),
    },
    "surprisal and gates, character by character": {
        "heat": Option(
            ("heat",),
            "write a page that colours each character of --text, or of the held-out part, by its "
            "surprisal",
            {"type": Path, "metavar": "HTML"},
        ),
        "heat_chars": Option(
            ("heat",),
            "characters on it at most, from the text's beginning",
            _number(2),
            20_000,
        ),
        "gates": Option(
            ("gates",),
            "draw the activations of a layer's gates and states over --text into this file",
            {"type": Path, "metavar": "PNG"},
        ),
        "layer": Option(
            ("gates",), "whose gates; 1 is next to the input", {"type": int, "metavar": "N"}, 1
        ),
        "units": Option(
            ("gates",),
            "units of --gates: the N whose hidden state varies most, or all",
            {"type": _units, "metavar": "N"},
            24,
        ),
    },
    "memorisation": {
        "memorisation": Option(
            ("memorisation",),
            "how much of what the model writes stands in its training text",
            FLAG,
        ),
        "count": Option(
            ("memorisation",),
            "texts to draw (default: 64 of 250 characters, or 1000 names)",
            _number(1),
        ),
        "temperature": Option(
            ("memorisation",),
            "at which they are drawn, as by generate",
            {"type": _temperature, "metavar": "T"},
            0.8,
        ),
    },
    "output": {
        "json": Option(
            ("text", "memorisation", "figures"),
            "print the figures as JSON, and nothing else; not of --heat and --gates",
            FLAG,
        ),
        "png": Option(
            ("memorisation", "figures"),
            "also draw the figures, or those of --memorisation",
            {"type": Path, "metavar": "PNG"},
        ),
        "seed": Option(("figures", "text", "memorisation"), "of the random numbers", _number(0), 1),
    },
}


# The tasks that an option asks for; "text" if only --text is given, and "figures" without any.
ASKING = ("memorisation", "heat", "gates")
# Options that are not given together, and why.
APART = {
    **{
        ("memorisation", other): f"--memorisation does not go with --{other}: leave --{other} out"
        for other in ("heat", "gates", "text")
    },
    ("part", "text"): "--part is of the text that the model was trained on: leave --text out",
}
# Options that mean nothing without --text.
OF_A_TEXT = ("unknown", "encoding")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options, in groups."""
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for name, option in options.items():
            text = option.help + ("" if option.default is None else f" (default: {option.default})")
            group.add_argument(_typed(name), default=None, help=text, **option.parsing)


def tasks_of(options: argparse.Namespace) -> list[str]:
    """Find the tasks: "figures", "text", "memorisation", or "heat" and "gates".

    Options that were not given get their values.

    Raises:
        UserError: an option changes nothing for the tasks, or two do not go together.
    """
    declared = {name: option for group in GROUPS.values() for name, option in group.items()}
    given = [name for name in declared if getattr(options, name) is not None]
    for pair, problem in APART.items():
        if set(pair) <= set(given):
            raise UserError(problem)
    tasks = [name for name in ASKING if name in given]
    tasks = tasks or ["text" if "text" in given else "figures"]
    for name in given:
        if not set(declared[name].tasks) & set(tasks):
            raise UserError(_idle(name, declared[name].tasks, tasks))
        if name in OF_A_TEXT and "text" not in given:
            raise UserError(f"--{name} goes with --text: leave --{name} out, or give --text FILE")
    for name, option in declared.items():
        if getattr(options, name) is None:
            setattr(options, name, option.default)
    return tasks


def _idle(name: str, readers: tuple[str, ...], tasks: list[str]) -> str:
    """Say where an option belongs that none of the tasks reads, and what to leave out."""
    there = [_typed(task) for task in readers if task != "figures"]
    if "figures" not in readers:
        return f"{_typed(name)} goes with {' or '.join(there)}: leave {_typed(name)} out"
    places = " or ".join([*there, "the figures alone" if there else "the figures"])
    return f"{_typed(name)} goes with {places}: leave {' and '.join(map(_typed, tasks))} out"


def _typed(name: str) -> str:
    return "--" + name.replace("_", "-")
