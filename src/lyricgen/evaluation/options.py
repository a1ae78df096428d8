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
        tasks: for which it changes something, by their names.
        parsing: arguments of argparse.
        help: what it does.
        default: its value where it is not given.
    """

    tasks: str
    parsing: dict[str, Any]
    help: str
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
PNG: dict[str, Any] = {"type": Path, "metavar": "PNG"}
# No option has a default in argparse, so that it is known which were given. Those of a group stand
# together in the help.
GROUPS: dict[str, dict[str, Option]] = {
    "figures": {
        "curves": Option(
            "figures",
            FLAG,
            "also perplexity by position, by length of the context and by frequency of characters",
        ),
        "part": Option(
            "figures heat",
            {"choices": ("train", "val", "test")},
            "of this part of the text alone (default: of all)",
        ),
        "resamples": Option(
            "figures text", _number(100), "texts drawn for each 95 %% interval", 1000
        ),
    },
    "a text of your own": {
        "text": Option(
            "text heat gates",
            {"metavar": "FILE"},
            "score this text; a file, or the text itself where there is no such file",
        ),
        "unknown": Option(
            "text heat",
            {"choices": ("refuse", "skip")},
            "what to do with characters that the model does not know: say which they are, or "
            "leave them out and say how many",
            "refuse",
        ),
        "encoding": Option(
            "text heat gates",
            {"metavar": "NAME"},
            "of the file, as in gb18030 (default: utf-8)",
        ),
    },
    "surprisal and gates, character by character": {
        "heat": Option(
            "heat",
            {"type": Path, "metavar": "HTML"},
            "write a page that colours each character of --text, or of the held-out part, by its "
            "surprisal",
        ),
        "heat_chars": Option(
            "heat", _number(2), "characters on it at most, from the text's beginning", 20_000
        ),
        "gates": Option(
            "gates",
            PNG,
            "draw the activations of a layer's gates and states over --text into this file",
        ),
        "layer": Option(
            "gates", {"type": int, "metavar": "N"}, "whose gates; 1 is next to the input", 1
        ),
        "units": Option(
            "gates",
            {"type": _units, "metavar": "N"},
            "units of --gates: the N whose hidden state varies most, or all",
            24,
        ),
    },
    "memorisation": {
        "memorisation": Option(
            "memorisation", FLAG, "how much of what the model writes stands in its training text"
        ),
        "count": Option(
            "memorisation",
            _number(1),
            "texts to draw (default: 64 of 250 characters, or 1000 names)",
        ),
        "temperature": Option(
            "memorisation",
            {"type": _temperature, "metavar": "T"},
            "at which they are drawn, as by generate",
            0.8,
        ),
    },
    "output": {
        "json": Option(
            "text memorisation figures",
            FLAG,
            "print the figures as JSON, and nothing else; not of --heat and --gates",
        ),
        "png": Option(
            "memorisation figures", PNG, "also draw the figures, or those of --memorisation"
        ),
        "seed": Option("figures text memorisation", _number(0), "of the random numbers", 1),
    },
}

# The tasks that an option asks for; "text" if only --text is given, and "figures" without any.
ASKING = ("memorisation", "heat", "gates")
# Pairs of options that do not go together although a task reads each, and what to do.
APART = {
    ("memorisation", "heat"): "--memorisation does not go with --heat: leave --heat out",
    ("memorisation", "gates"): "--memorisation does not go with --gates: leave --gates out",
    ("memorisation", "text"): "--memorisation does not go with --text: leave --text out",
    ("part", "text"): "--part is of the text that the model was trained on: leave --text out",
}
# Options that go with another one, and what to do.
WITH_TEXT = {
    "unknown": "--unknown goes with --text: leave --unknown out, or give --text FILE",
    "encoding": "--encoding goes with --text: leave --encoding out, or give --text FILE",
}


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
        readers = declared[name].tasks.split()
        if not set(readers) & set(tasks):
            places = [_typed(reader) for reader in readers if reader != "figures"]
            idle = [name]
            if "figures" in readers:
                places.append("the figures alone" if places else "the figures")
                idle = tasks
            raise UserError(
                f"{_typed(name)} goes with {' or '.join(places)}: "
                f"leave {' and '.join(map(_typed, idle))} out"
            )
        if name in WITH_TEXT and "text" not in given:
            raise UserError(WITH_TEXT[name])
    for name, option in declared.items():
        if getattr(options, name) is None:
            setattr(options, name, option.default)
    return tasks


def _typed(name: str) -> str:
    return "--" + name.replace("_", "-")
