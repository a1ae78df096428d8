"""Fonts and colours of plots and pages."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager, get_font

LATIN = "DejaVu Sans"  # comes with matplotlib
BOXES = "Last Resort High-Efficiency"  # has nothing but boxes with code points

LEVELS = 32
# Evenly spaced colours of surprisal, from 0 bits on, for a light and a dark page. Both scales pass
# through red, so that a strong colour means the same on both pages.
LIGHT = "#ffffff #fff3d0 #ffdf9a #ffbf66 #fb984a #ec6c41 #d2433f #a82449 #75124a #42093a"
DARK = "#15161b #281b3d #472057 #6c2464 #942c66 #bb3c5c #dc5148 #f07636 #faa73e #fcdf83"


def choose_families(text: str) -> tuple[list[str], str]:
    """Find installed font families for a text, and the characters that no installed font has.

    Matplotlib takes each character from the first family that has it. The first family is `LATIN`,
    even if the text does not need it.
    """
    listed = {entry.fname for entry in fontManager.ttflist}
    for path in set(findSystemFonts()) - listed:  # installed since matplotlib made its list
        with suppress(OSError, RuntimeError):  # damaged, or without outlines
            fontManager.addfont(path)
    families, missing = [LATIN], set(text)
    for entry in sorted(fontManager.ttflist, key=_rank):
        if missing and entry.name != BOXES and Path(entry.fname).exists():
            held = missing & set(map(chr, get_font(entry.fname).get_charmap()))
            if held and entry.name not in families:
                families.append(entry.name)
            missing -= held
    return families, "".join(sorted(missing))


def _rank(entry: FontEntry) -> tuple[bool, bool, bool, bool, str]:
    """Return a key that sorts `LATIN` first, then simplified Chinese, other CJK and other fonts.

    Among each of these, plain fonts come before bold, light and italic fonts.
    """
    plain = entry.style == "normal" and entry.weight == 400
    name = entry.name
    return name != LATIN, "SC" not in name.split(), "CJK" not in name, not plain, name


class Level(NamedTuple):
    """A background colour and a legible text colour, as CSS writes them."""

    ground: str
    ink: str


def levels(stops: str) -> list[Level]:
    """Make `LEVELS` levels; their colours run through `stops`, a list separated by spaces."""
    colours = LinearSegmentedColormap.from_list("surprisal", stops.split(), LEVELS)
    grounds = [to_hex(colours(level)) for level in range(LEVELS)]
    return [Level(ground, legible_ink(ground)) for ground in grounds]


def choose_level(bits: float, most: float) -> int:
    """Choose the level, 0 to `LEVELS` - 1, of a surprisal on a scale that ends at `most` bits."""
    return min(LEVELS - 1, int(bits / most * LEVELS))


def legible_ink(ground: str) -> str:
    """Choose black or white, whichever contrasts more with a colour."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, ground))


def contrast(one: str, other: str) -> float:
    """Compute the contrast ratio of two colours, 1 to 21 (WCAG 2); legible text needs 4.5."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
