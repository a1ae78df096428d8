"""The options of the evaluate command, and which of them go together."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from lyricgen.command_line import Parser
from lyricgen.errors import UserError

PARTS = ("train", "val", "test")
MOST = 10**6  # of most numbers
SHOWN = 20_000  # characters of a page of surprisal

# What an option changes something for; those that are not here are read by all.
READ_BY = {
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
    "count": ("memorisation",),
    "temperature": ("memorisation",),
}
PICTURES = ("heat", "gates")


def asked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """What is to be done: "figures", "text", "memorisation", or "heat" and "gates".

    Raises:
        UserError: an option is of no use to that, or two things are asked for at once.
    """
    modes = [name for name in PICTURES if getattr(options, name) is not None]
    if options.memorisation:
        modes.append("memorisation")
    if not modes:
        modes = ["figures" if options.text is None else "text"]
    if "memorisation" in modes and len(modes) > 1:
        raise UserError(f"--memorisation and --{modes[0]}: ask for one at a time")
    for name, readers in READ_BY.items():
        if getattr(options, name) != parser.get_default(name) and not set(readers) & set(modes):
            there = " or ".join(f"--{mode}" for mode in readers if mode != "figures")
            raise UserError(
                f"--{name.replace('_', '-')} goes with {there or 'the figures'}"
                + (" or the figures alone" if there and "figures" in readers else "")
            )
    return modes


def build_parser() -> Parser:
    """All options."""
    parser = Parser("evaluate", "Judge trained models, or look into one.", several=True)
    _add_figures(parser.add_argument_group("figures"))
    _add_text(parser.add_argument_group("a text of your own"))
    _add_pictures(parser.add_argument_group("pictures of a text, --text or the held-out part"))
    _add_memorisation(parser.add_argument_group("memorisation"))
    return parser


def _add_figures(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--curves",
        action="store_true",
        help="also perplexity by position, by length of the context and by frequency of characters",
    )
    group.add_argument("--json", action="store_true", help="print them as JSON, and nothing else")
    group.add_argument(
        "--part", choices=PARTS, help="of this part of the text alone (default: of all)"
    )
    group.add_argument(
        "--resamples",
        type=_from(100),
        default=1000,
        metavar="N",
        help="texts drawn for each 95 %% interval (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=_from(0), default=1, help="of what is drawn (default: %(default)s)"
    )
    group.add_argument("--png", type=Path, metavar="PNG", help="draw them into this file as well")


def _add_text(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--text",
        metavar="FILE",
        help="score this text; a file, or the text itself where there is no such file",
    )
    group.add_argument(
        "--unknown",
        choices=("refuse", "skip"),
        default="refuse",
        help="what to do with characters that the model does not know: say which they are, or "
        "leave them out and say how many (default: %(default)s)",
    )
    group.add_argument(
        "--encoding", default="utf-8", help="of the file, as in gb18030 (default: %(default)s)"
    )


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--heat",
        type=Path,
        metavar="HTML",
        help="write a page that colours each character by its surprisal",
    )
    group.add_argument(
        "--heat-chars",
        type=_from(2),
        default=SHOWN,
        metavar="N",
        help="characters on it at most, from the text's beginning (default: %(default)s)",
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
        default=1,
        metavar="N",
        help="whose gates; 1 is next to the input (default: %(default)s)",
    )


def _add_memorisation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--memorisation",
        action="store_true",
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
        default=0.8,
        metavar="T",
        help="at which they are drawn (default: %(default)s, as generate has it)",
    )


def _from(least: int) -> Callable[[str], int]:
    def number(typed: str) -> int:
        if not typed.isdecimal() or not least <= int(typed) <= MOST:
            raise argparse.ArgumentTypeError(f"{typed!r}: give a number from {least} to {MOST}")
        return int(typed)

    return number


def _temperature(typed: str) -> float:
    try:
        value = float(typed)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{typed!r}: give a number from 0")
    return value
