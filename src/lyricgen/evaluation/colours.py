"""The colours of surprisal, from the page's own ground at 0 to as much ink as there is.

L levels.
"""

from typing import NamedTuple

from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

LEVELS = 32
# Stops that follow each other evenly, for a light and a dark page: both go by way of red, so that
# a strong colour means the same on either.
LIGHT = "#ffffff #fff3d0 #ffdf9a #ffbf66 #fb984a #ec6c41 #d2433f #a82449 #75124a #42093a"
DARK = "#15161b #281b3d #472057 #6c2464 #942c66 #bb3c5c #dc5148 #f07636 #faa73e #fcdf83"


class Level(NamedTuple):
    """A colour and the ink that is legible on it, as CSS has them."""

    ground: str
    ink: str


def levels(stops: str) -> list[Level]:
    """L colours from the first stop to the last."""
    colours = LinearSegmentedColormap.from_list("surprisal", stops.split(), LEVELS)
    grounds = [to_hex(colours(level)) for level in range(LEVELS)]
    return [Level(ground, legible_ink(ground)) for ground in grounds]


def level_of(bits: float, most: float) -> int:
    """The level, 0 … L - 1, of a surprisal on a scale that ends at `most`."""
    return min(LEVELS - 1, int(bits / most * LEVELS))


def legible_ink(ground: str) -> str:
    """Black or white, whichever has more contrast to a colour."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, ground))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2); text needs 4.5."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
