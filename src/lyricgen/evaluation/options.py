"""The options of the evaluate command; none has a default, so that it is known which were given."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from lyricgen.errors import UserError

PARTS = ("train", "val", "test")
MOST = 10**6  # of most numbers
ALL = "all"

# What holds where an option is not given.
DEFAULTS: dict[str, object] = {
    "resamples": 1000,
    "seed": 1,
    "unknown": "refuse",
    "heat_chars": 20_000,
    "layer": 1,
    "units": 24,
    "temperature": 0.8,
}


# What an option changes something for; those that are not here are read by all.
READ_BY: dict[str, tuple[str, ...]] = {
    "curves": ("figures",),
    "json": ("figures", "text", "memorisation"),
    "part": ("figures", "heat"),
    "resamples": ("figures", "text"),
    "seed": ("figures", "text", "memorisation"),
    "png": ("figures", "memorisation"),
    "text": ("text", "heat", "gates"),
    "unknown": ("text", "heat"),
    "encoding": ("text", "heat", "gates"),
    "heat_chars": ("heat",),
    "layer": ("gates",),
    "units": ("gates",),
    "count": ("memorisation",),
    "temperature": ("memorisation",),
}
PICTURES = ("heat", "gates")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options, in groups."""
    _add_figures(parser.add_argument_group("figures"))
    _add_text(parser.add_argument_group("a text of your own"))
    _add_pictures(parser.add_argument_group("surprisal and gates, character by character"))
    _add_memorisation(parser.add_argument_group("memorisation"))
    _add_output(parser.add_argument_group("output"))


def _add_figures(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--curves",
        action="store_true",
        default=None,
        help="also perplexity by position, by length of the context and by frequency of characters",
    )
    group.add_argument(
        "--part", choices=PARTS, help="of this part of the text alone (default: of all)"
    )
    group.add_argument(
        "--resamples",
        type=_from(100),
        metavar="N",
        help=f"texts drawn for each 95 %% interval (default: {DEFAULTS['resamples']})",
    )


def _add_text(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--text",
        metavar="FILE",
        help="score this text; a file, or the text itself where there is no such file",
    )
    group.add_argument(
        "--unknown",
        choices=("refuse", "skip"),
        help="what to do with characters that the model does not know: say which they are, or "
        f"leave them out and say how many (default: {DEFAULTS['unknown']})",
    )
    group.add_argument(
        "--encoding", metavar="NAME", help="of the file, as in gb18030 (default: utf-8)"
    )


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--heat",
        type=Path,
        metavar="HTML",
        help="write a page that colours each character of --text, or of the held-out part, by its "
        "surprisal",
    )
    group.add_argument(
        "--heat-chars",
        type=_from(2),
        metavar="N",
        help="characters on it at most, from the text's beginning "
        f"(default: {DEFAULTS['heat_chars']})",
    )
    group.add_argument(
        "--gates",
        type=Path,
        metavar="PNG",
        help="draw the activations of a layer's gates and states over --text into this file",
    )
    group.add_argument(
        "--layer",
        type=int,
        metavar="N",
        help=f"whose gates; 1 is next to the input (default: {DEFAULTS['layer']})",
    )
    group.add_argument(
        "--units",
        type=_units,
        metavar="N",
        help="units of --gates: the N whose hidden state varies most, or all "
        f"(default: {DEFAULTS['units']})",
    )


def _add_memorisation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--memorisation",
        action="store_true",
        default=None,
        help="how much of what the model writes stands in its training text",
    )
    group.add_argument(
        "--count",
        type=_from(1),
        metavar="N",
        help="texts to draw (default: 64 of 250 characters, or 1000 names)",
    )
    group.add_argument(
        "--temperature",
        type=_temperature,
        metavar="T",
        help=f"at which they are drawn (default: {DEFAULTS['temperature']}, as generate has it)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--json",
        action="store_true",
        default=None,
        help="print the figures as JSON, and nothing else; not of --heat and --gates",
    )
    group.add_argument(
        "--png", type=Path, metavar="PNG", help="also draw the figures, or those of --memorisation"
    )
    group.add_argument(
        "--seed",
        type=_from(0),
        metavar="N",
        help=f"of the random numbers (default: {DEFAULTS['seed']})",
    )


def _from(least: int) -> Callable[[str], int]:
    def number(typed: str) -> int:
        if not typed.isdecimal() or not least <= int(typed) <= MOST:
            raise argparse.ArgumentTypeError(f"{typed!r}: give a number from {least} to {MOST}")
        return int(typed)

    return number


def _units(typed: str) -> int | str:
    return typed if typed == ALL else _from(1)(typed)


def _temperature(typed: str) -> float:
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{typed!r}: give a number from 0")
    return value


def asked(options: argparse.Namespace) -> list[str]:
    """Find the task: "figures", "text", "memorisation", or "heat" and "gates".

    Options that were not given get their values.

    Raises:
        UserError: an option changes nothing of that, or two things are asked for at once.
    """
    modes = [name for name in PICTURES if getattr(options, name) is not None]
    if options.memorisation:
        for other in (*modes, *(["text"] if options.text is not None else [])):
            raise UserError(f"--memorisation does not go with --{other}: leave --{other} out")
        modes = ["memorisation"]
    if not modes:
        modes = ["figures" if options.text is None else "text"]
    _refuse_idle(options, modes)
    for name, value in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return modes


def _refuse_idle(options: argparse.Namespace, modes: list[str]) -> None:
    given = [name for name in READ_BY if getattr(options, name) is not None]
    if "part" in given and "text" in given:
        raise UserError("--part is of the text that the model was trained on: leave --text out")
    for name in given:
        if not set(READ_BY[name]) & set(modes):
            raise UserError(f"{_typed(name)} goes with {_mended(name, modes)}")
    for name in ("unknown", "encoding"):
        if name in given and "text" not in given:
            raise UserError(f"--{name} goes with --text: leave --{name} out, or give --text FILE")


def _mended(name: str, modes: list[str]) -> str:
    """Where an option belongs that none of the modes reads, and what to leave out."""
    readers = READ_BY[name]
    there = [_typed(mode) for mode in readers if mode != "figures"]
    if "figures" not in readers:
        return f"{' or '.join(there)}: leave {_typed(name)} out"
    where = " or ".join([*there, "the figures alone" if there else "the figures"])
    return f"{where}: leave {' and '.join(map(_typed, modes))} out"


def _typed(name: str) -> str:
    return "--" + name.replace("_", "-")
