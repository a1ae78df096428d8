"""Installed fonts for plots: matplotlib takes each character from the first family that has it."""

from contextlib import suppress
from pathlib import Path

from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager, get_font

LATIN = "DejaVu Sans"  # comes with matplotlib
BOXES = "Last Resort High-Efficiency"  # has nothing but boxes with code points


def families_for(text: str) -> tuple[list[str], str]:
    """Font families for a text, and the characters that no installed font has."""
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
    """Order fonts: Latin, then simplified Chinese, then Chinese, each upright and normal first."""
    plain = entry.style == "normal" and entry.weight == 400
    name = entry.name
    return name != LATIN, "SC" not in name.split(), "CJK" not in name, not plain, name
