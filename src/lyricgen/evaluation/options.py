"""The options of the evaluate command, and which of them go together."""

import argparse
import math
from pathlib import Path
from typing import Any

from lyricgen.errors import UserError

ALL = "all"  # of --units
MOST = 10**6  # of most numbers

# Options as --help shows them in groups, each with the tasks that read it and its meaning.
GROUPS = {
    "figures": {
        "--curves": (
            "figures",
            "also perplexity by position, by length of the context and by frequency of characters",
        ),
        "--part {train,val,test}": (
            "figures heat",
            "of this part of the text alone (default: of all)",
        ),
        "--resamples N": ("figures text", "texts drawn for each 95 %% interval"),
    },
    "a text of your own": {
        "--text FILE": (
            "text heat gates",
            "score this text; a file, or the text itself where there is no such file",
        ),
        "--unknown {refuse,skip}": (
            "text heat",
            "what to do with characters that the model does not know: say which they are, or "
            "leave them out and say how many",
        ),
        "--encoding NAME": (
            "text heat gates",
            "of the file, as in gb18030 (default: utf-8)",
        ),
    },
    "surprisal and gates, character by character": {
        "--heat HTML": (
            "heat",
            "write a page that colours each character of --text, or of the held-out part, by its "
            "surprisal",
        ),
        "--heat-chars N": ("heat", "characters on it at most, from the text's beginning"),
        "--gates PNG": (
            "gates",
            "draw the activations of a layer's gates and states over --text into this file",
        ),
        "--layer N": ("gates", "whose gates; 1 is next to the input"),
        "--units N": ("gates", "units of --gates: the N whose hidden state varies most, or all"),
    },
    "memorisation": {
        "--memorisation": (
            "memorisation",
            "how much of what the model writes stands in its training text",
        ),
        "--count N": (
            "memorisation",
            "texts to draw (default: 64 of 250 characters, or 1000 names)",
        ),
        "--temperature T": ("memorisation", "at which they are drawn, as by generate"),
    },
    "output": {
        "--json": (
            "text memorisation figures",
            "print the figures as JSON, and nothing else; not of --heat and --gates",
        ),
        "--png PNG": ("memorisation figures", "also draw the figures, or those of --memorisation"),
        "--seed N": ("figures text memorisation", "of the random numbers"),
    },
}
# Values of options that are not given; argparse has none, so that it is known which are given.
DEFAULTS = {
    "resamples": 1000,
    "unknown": "refuse",
    "heat_chars": 20_000,
    "layer": 1,
    "units": 24,
    "temperature": 0.8,
    "seed": 1,
}
LEAST = {"resamples": 100, "heat_chars": 2, "seed": 0}  # of others 1

# The tasks that an option asks for; "text" if only --text is given, and "figures" without any.
ASKING = ("memorisation", "heat", "gates")
# Pairs of options that do not go together although a task reads each, and what to do.
APART = {
    ("memorisation", "heat"): "--memorisation does not go with --heat: leave --heat out",
    ("memorisation", "gates"): "--memorisation does not go with --gates: leave --gates out",
    ("memorisation", "text"): "--memorisation does not go with --text: leave --text out",
    ("part", "text"): "--part is of the text that the model was trained on: leave --text out",
}
# Options that mean nothing without --text, and what to do.
WITH_TEXT = {
    "unknown": "--unknown goes with --text: leave --unknown out, or give --text FILE",
    "encoding": "--encoding goes with --text: leave --encoding out, or give --text FILE",
    "gates": "--gates needs --text TEXT, characters for the model to read",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options, in groups."""
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for shown, (_, meaning) in options.items():
            flag, _, value = shown.partition(" ")
            default = DEFAULTS.get(_name(flag))
            text = meaning if default is None else f"{meaning} (default: {default})"
            group.add_argument(flag, help=text, default=None, **_reading(_name(flag), value))


def _reading(name: str, value: str) -> dict[str, Any]:
    """Arguments of argparse for an option, by the name of its value in the help."""

    def number(typed: str) -> int | str:
        least = LEAST.get(name, 1)
        if name == "units" and typed == ALL:
            return typed
        if not typed.isdecimal() or not least <= int(typed) <= MOST:
            raise argparse.ArgumentTypeError(f"{typed!r}: give a number from {least} to {MOST}")
        return int(typed)

    if not value:
        return {"action": "store_true"}
    if value.startswith("{"):
        return {"choices": value.strip("{}").split(",")}
    types = {"N": number, "T": _temperature, "HTML": Path, "PNG": Path}
    # a layer that is not there is named together with those that are
    return {"metavar": value, "type": int if name == "layer" else types.get(value, str)}


def _temperature(typed: str) -> float:
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{typed!r}: give a number from 0")
    return value


def tasks_of(options: argparse.Namespace) -> list[str]:
    """Find the tasks: "figures", "text", "memorisation", or "heat" and "gates".

    Options that were not given get their values.

    Raises:
        UserError: an option changes nothing for the tasks, or two do not go together.
    """
    tasks_by_option = {
        _name(shown.partition(" ")[0]): tasks.split()
        for group in GROUPS.values()
        for shown, (tasks, _) in group.items()
    }
    given = [name for name in tasks_by_option if getattr(options, name) is not None]
    for pair, problem in APART.items():
        if set(pair) <= set(given):
            raise UserError(problem)
    tasks = [name for name in ASKING if name in given]
    tasks = tasks or ["text" if "text" in given else "figures"]
    for name in given:
        if not set(tasks_by_option[name]) & set(tasks):
            raise UserError(_idle(name, tasks_by_option[name], tasks))
    for name, problem in WITH_TEXT.items():
        if name in given and "text" not in given:
            raise UserError(problem)
    for name, value in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return tasks


def _idle(name: str, readers: list[str], tasks: list[str]) -> str:
    """Say where an option belongs that none of the tasks reads, and what to leave out."""
    there = [_typed(reader) for reader in readers if reader != "figures"]
    if "figures" not in readers:
        return f"{_typed(name)} goes with {' or '.join(there)}: leave {_typed(name)} out"
    places = " or ".join([*there, "the figures alone" if there else "the figures"])
    return f"{_typed(name)} goes with {places}: leave {' and '.join(map(_typed, tasks))} out"


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _typed(name: str) -> str:
    return "--" + name.replace("_", "-")
