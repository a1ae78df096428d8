"""The colours of surprisal, from the page's own ground at 0 to as much ink as there is.

L levels.
"""

from collections.abc import Sequence
from typing import NamedTuple

LEVELS = 32
# Stops that follow each other evenly, for a light and a dark page: both go by way of red, so that
# a strong colour means the same on either.
LIGHT = "#ffffff #fff3d0 #ffdf9a #ffbf66 #fb984a #ec6c41 #d2433f #a82449 #75124a #42093a"
DARK = "#15161b #281b3d #472057 #6c2464 #942c66 #bb3c5c #dc5148 #f07636 #faa73e #fcdf83"

Colour = tuple[float, float, float]


class Level(NamedTuple):
    """A colour and what is legible on it, as CSS has them."""

    ground: str
    ink: str


def levels(stops: str) -> list[Level]:
    """L colours from the first stop to the last."""
    colours = [_between(stops.split(), step / (LEVELS - 1)) for step in range(LEVELS)]
    return [Level(_hexadecimal(colour), _ink(colour)) for colour in colours]


def level_of(bits: float, most: float) -> int:
    """The level, 0 … L - 1, of a surprisal on a scale that ends at `most`."""
    return min(LEVELS - 1, int(bits / most * LEVELS))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2); text needs 4.5."""
    light, dark = sorted((_luminance(_parsed(one)), _luminance(_parsed(other))), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _ink(colour: Colour) -> str:
    ground = _hexadecimal(colour)
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, ground))


def _between(stops: Sequence[str], share: float) -> Colour:
    place = share * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    low, high = _parsed(stops[first]), _parsed(stops[first + 1])
    red, green, blue = (
        start + (end - start) * (place - first) for start, end in zip(low, high, strict=True)
    )
    return red, green, blue


def _parsed(colour: str) -> Colour:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _hexadecimal(colour: Colour) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def _luminance(colour: Colour) -> float:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
