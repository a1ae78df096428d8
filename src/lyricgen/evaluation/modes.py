"""Task of the evaluate command, and the options that go together."""

import argparse

from lyricgen.errors import UserError
from lyricgen.evaluation.options import DEFAULTS

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
